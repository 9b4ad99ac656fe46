"""The operator that says what a release would do, and creates nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from airflow.providers.common.compat.sdk import Context

from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.operators.base import CONNECTION_FIELDS, IoTDABaseOperator
from iotda_provider.operators.release.trial import NO_TIME_TO_LOOK, trial_parameter
from iotda_provider.release.gate import as_gate
from iotda_provider.release.maintenance_window import MaintenanceWindow
from iotda_provider.release.outline import Outline
from iotda_provider.rollout_guard.plan import read_rules
from iotda_provider.task_io.dag_parameters import object_or_template, text_or_template
from iotda_provider.task_io.parameters import (
    as_mapping,
    none_if_blank,
    optional_text,
    positive,
    read_number,
)
from iotda_provider.trials.device_trial import as_trial

_LEFT_OUT = ("already_current", "other_product")


class PreviewReleaseOperator(IoTDABaseOperator):
    """Say what a release would do, and create nothing: neither batch tasks nor files.

    It takes what :class:`~iotda_provider.operators.release.check.CheckReleaseOperator` has found
    with ``is_dry_run``, and the parameters of the rollout. Dates and times are the earliest: every
    wave passes as soon as its bake time is over. How long devices take is not known beforehand.

    XComs: the return value ``{"devices", "left_out", "left_out_devices", "late", "waves": [{"wave",
    "label", "devices", "cumulative", "batch_tasks", "begins", "ends", "can_pass", "sentence"}],
    "too_small", "exposed": [{"rule", "exposures": [{"failure_rate", "devices", "stopped"}]}],
    "calls", "seconds", "warnings", "summary"}``. ``too_small`` numbers the waves that
    can't pass by their numbers; ``exposed`` has a row for each rule, and one for all of them
    together, computed for failure rates of 1, 2, 5 and 10 %, as by ``iotda-guard plan``; ``begins``
    and ``ends`` are times as ISO 8601, in the timezone. ``calls`` counts the calls of the release
    by what they are for, and in ``all``.

    :param checked: what the check has returned (templated)
    :param left_out: the check's XCom ``left_out``: which devices are left out, and why (templated)
    :param rules: the rollout's (templated)
    :param gate: the rollout's (templated)
    :param window: the rollout's (templated)
    :param timezone: the rollout's (templated)
    :param bake_time: the rollout's, in seconds (templated)
    :param trial: the rollout's (templated)
    :param poll_interval: seconds between two looks of the guard
    :param iotda_conn_id: the connection (templated)
    :param project_id: instead of the connection's (templated)
    :param instance_id: instead of the connection's (templated)
    """

    template_fields: Sequence[str] = (
        "checked",
        "left_out",
        "rules",
        "gate",
        "window",
        "timezone",
        "bake_time",
        "trial",
        *CONNECTION_FIELDS,
    )

    def __init__(
        self,
        *,
        checked: Any,
        rules: Any,
        left_out: Any = None,
        gate: Any = 0.05,
        window: Any = None,
        timezone: str = "UTC",
        bake_time: Any = 0,
        trial: Any = None,
        poll_interval: float = 10,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.checked = checked
        self.left_out = object_or_template(left_out, "left_out")
        self.rules = rules
        self.gate = gate
        self.window = window
        self.timezone = text_or_template(timezone, "timezone")
        self.bake_time = bake_time
        self.trial, _ = trial_parameter(trial)
        self.poll_interval = positive(poll_interval, "poll_interval")

    def execute(self, context: Context) -> dict[str, Any]:
        from iotda_provider.release.dry_run import Times, dry_run

        checked = as_mapping(self.checked, "checked")
        if "outline" not in checked:
            raise IoTDAConfigError("checked must be what the check has returned with is_dry_run.")
        outline = Outline.from_json(checked["outline"])
        zone = optional_text(self.timezone, "timezone") or "UTC"
        MaintenanceWindow("00:00", "00:00", zone)  # refuses what is no timezone
        window = MaintenanceWindow.of(none_if_blank(self.window), zone)
        bake = read_number(self.bake_time, "bake_time", zero=True)
        trial = as_trial(self.trial)
        if trial is not None and trial.required and not bake:
            raise IoTDAConfigError(f"trial: it is required, and {NO_TIME_TO_LOOK}.")
        if outline.has_groups or not bake:
            trial = None
        with self.hook() as hook:
            per_second = hook.settings.max_requests_per_second
        found = dry_run(
            outline,
            left_out={name: int(checked.get(name) or 0) for name in _LEFT_OUT},
            rules=read_rules(self.rules),
            gate=as_gate(self.gate),
            times=Times(_now(zone), bake, self.poll_interval, window, per_second),
            trial=trial,
        )
        out = {} if self.left_out is None else as_mapping(self.left_out, "left_out")
        result = {**found.to_json(), "left_out_devices": out}
        self.log.info("%s", result["summary"])
        return result


def _now(zone: str) -> datetime:
    """The present, by the clock on the wall of a timezone."""
    import pendulum

    return pendulum.instance(datetime.now(timezone.utc)).in_timezone(zone)
