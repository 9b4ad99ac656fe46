"""The operator that says what a release would do, and creates nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.operators.base import CONNECTION_FIELDS, IoTDABaseOperator
from iotda_provider.release.device_ids import read_devices
from iotda_provider.release.gate import as_gate
from iotda_provider.release.maintenance_window import MaintenanceWindow
from iotda_provider.release.planning import late_warning, plan_waves, split_late
from iotda_provider.release.wave_specs import GROUP, wave_specs
from iotda_provider.rollout_guard.plan import read_rules
from iotda_provider.task_io.dag_parameters import (
    list_or_template,
    object_or_template,
    text_or_template,
)
from iotda_provider.task_io.parameters import (
    as_mapping,
    none_if_blank,
    optional_text,
    positive,
    read_number,
    whole_number,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

_LEFT_OUT = ("already_current", "other_product")


class PreviewReleaseOperator(IoTDABaseOperator):
    """Say what a release would do, and create nothing: neither batch tasks nor files.

    It takes what :class:`~iotda_provider.operators.release.check.CheckReleaseOperator` has found,
    and the parameters of the rollout. Dates and times are the earliest: every wave passes as soon
    as its bake time is over. How long devices take is not known beforehand.

    XComs: the return value ``{"devices", "left_out", "left_out_devices", "late", "waves": [{"wave",
    "label", "devices", "cumulative", "batch_tasks", "begins", "ends", "can_pass", "sentence"}],
    "too_small", "exposed": [{"rule", "exposures": [{"failure_rate", "devices", "stopped"}]}],
    "calls", "seconds", "warnings", "summary"}``. ``too_small`` numbers the waves that
    can't pass by their numbers; ``exposed`` is computed for failure rates of 1, 2, 5 and 10 %, as
    by ``iotda-guard plan``; ``begins`` and ``ends`` are times as ISO 8601, in the timezone.

    :param checked: what the check has returned (templated)
    :param devices: the check's XCom ``targets``: see ``staged_rollout`` (templated)
    :param late: the check's XCom ``late``, likewise (templated)
    :param left_out: the check's XCom ``left_out``: which devices are left out, and why (templated)
    :param rules: the rollout's (templated)
    :param waves: the rollout's (templated)
    :param gate: the rollout's (templated)
    :param window: the rollout's (templated)
    :param timezone: the rollout's (templated)
    :param bake_time: the rollout's, in seconds (templated)
    :param max_waves: the rollout's
    :param poll_interval: seconds between two looks of the guard
    :param iotda_conn_id: the connection (templated)
    :param project_id: instead of the connection's (templated)
    :param instance_id: instead of the connection's (templated)
    """

    template_fields: Sequence[str] = (
        "checked",
        "devices",
        "late",
        "left_out",
        "rules",
        "waves",
        "gate",
        "window",
        "timezone",
        "bake_time",
        *CONNECTION_FIELDS,
    )

    def __init__(
        self,
        *,
        checked: Any,
        devices: Any,
        rules: Any,
        late: Any = (),
        left_out: Any = None,
        waves: Any = ("1%", "5%", "25%", "100%"),
        gate: Any = 0.05,
        window: Any = None,
        timezone: str = "UTC",
        bake_time: Any = 0,
        max_waves: int = 6,
        poll_interval: float = 10,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.checked = checked
        self.devices = list_or_template(devices, "devices")
        self.late = list_or_template(late, "late")
        self.left_out = object_or_template(left_out, "left_out")
        self.rules = rules
        self.waves = list_or_template(waves, "waves")
        self.gate = gate
        self.window = window
        self.timezone = text_or_template(timezone, "timezone")
        self.bake_time = bake_time
        self.max_waves = whole_number(max_waves, "max_waves")
        self.poll_interval = positive(poll_interval, "poll_interval")

    def execute(self, context: Context) -> dict[str, Any]:
        from iotda_provider.release.dry_run import Times, dry_run, reads_of

        checked = as_mapping(self.checked, "checked")
        if not isinstance(checked.get("in_groups"), int):
            raise IoTDAConfigError("checked must be what the release's check has returned.")
        specs, devices = wave_specs(self.waves), read_devices(self.devices)
        if not devices:
            raise IoTDAConfigError("devices is an empty list: there is nobody to release to.")
        late = set(read_devices(self.late, "late"))
        zone = optional_text(self.timezone, "timezone") or "UTC"
        MaintenanceWindow("00:00", "00:00", zone)  # refuses what is no timezone
        window = MaintenanceWindow.of(none_if_blank(self.window), zone)
        with self.hook() as hook:
            groups = {
                spec.group_id: {one.device_id for one in hook.iter_group_devices(spec.group_id)}
                for spec in specs
                if spec.kind == GROUP
            }
            per_second = hook.settings.max_requests_per_second
        # Which devices are in which wave is drawn when the release starts; their number is not.
        plan = plan_waves(devices, specs, seed="dry run", groups=groups, late=late)
        plan = split_late(plan, specs, self.max_waves)
        warning = late_warning([len(wave) for wave in plan.waves], plan.late)
        found = dry_run(
            labels=plan.labels,
            cumulative=plan.cumulative,
            late=len(late),
            left_out={name: int(checked.get(name) or 0) for name in _LEFT_OUT},
            rules=read_rules(self.rules),
            gate=as_gate(self.gate),
            times=Times(
                _now(zone),
                bake=read_number(self.bake_time, "bake_time", zero=True),
                between_looks=self.poll_interval,
                window=window,
                per_second=per_second,
            ),
            reads=reads_of(checked["in_groups"], len(devices), len(late)),
            warnings=[warning] if warning else [],
        )
        out = {} if self.left_out is None else as_mapping(self.left_out, "left_out")
        result = {**found.to_json(), "left_out_devices": out}
        self.log.info("%s", result["summary"])
        return result


def _now(zone: str) -> datetime:
    """The present, by the clock on the wall of a timezone."""
    import pendulum

    return pendulum.instance(datetime.now(timezone.utc)).in_timezone(zone)
