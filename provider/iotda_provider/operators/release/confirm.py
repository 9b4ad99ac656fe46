"""The operator that confirms the devices of one wave, with a look before every call."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from airflow.providers.common.compat.sdk import Context

from iotda_provider.airflow_support.installation import refuse_a_copy
from iotda_provider.exceptions import IoTDATransportError
from iotda_provider.operators.release.results import TaskResult, number_in
from iotda_provider.operators.release.window import WindowedOperator
from iotda_provider.release.confirm_chunks import MAX_CHUNK
from iotda_provider.release.confirm_job import ConfirmJob
from iotda_provider.release.confirm_wave import WaveConfirmation, nobody_to_confirm
from iotda_provider.release.create_wave import CREATED
from iotda_provider.release.manifest import Part
from iotda_provider.release.storage import ReleaseFiles
from iotda_provider.task_io.dag_parameters import flag, is_template
from iotda_provider.task_io.parameters import none_if_blank, read_whole_number, whole_number


class ConfirmWaveOperator(WindowedOperator):
    """Confirm the devices of one wave: at most 100 in a call, and a look before each call.

    It confirms the devices of this wave's batch tasks, *and of those before it*, but for devices
    whose confirmation the platform has accepted already. Accepted confirmations are written down,
    and before each call also its devices. So a task that was killed and started again, or was
    cleared, confirms no device twice and forgets none. Devices whose answer was lost are confirmed
    again, which changes nothing. It waits while the guard is blind or holds, while
    ``max_in_flight`` devices are under way, and outside of the maintenance window.

    XComs: the return value ``{"wave", "verdict": "confirmed" | "breached" | "stopped_elsewhere" |
    "lost" | "completed" | "surplus", "batch_task_ids", "requested", "confirmed", "refused",
    "unconfirmed", "let_start", "members", "started_elsewhere", "confirmed_at", "progress",
    "summary"}``, and ``"rehearse_stop": True`` if the platform has not said yet whether the release
    could be stopped, so that the next guard asks again; ``unconfirmed``, the ids of the devices
    that were not confirmed, because the release was over or because the platform has refused them
    for two minutes: a list, or the reference of a file with them. The next wave asks for those
    again.

    If the platform refuses a call, this task goes on: the guard looks, a person is told, and the
    call is repeated. ``started_elsewhere`` counts devices that somebody else has started; a person
    is told of them once.

    :param chunk: the most devices in one call, up to 100
    :param max_in_flight: the most confirmed devices without an outcome; None: no limit (templated)
    :param window: a ``MaintenanceWindow``, or text such as ``mon-fri 22:00-05:00``; None: at any
        time (templated)
    :param timezone: the timezone of a window that is given as text (templated)
    :param rehearse_stop: before the first device of the release is confirmed, find out whether the
        connection may stop it: the stop is asked for a target that is in no task, so that nothing
        is stopped. Where it may not, the release does not begin (``StopNotAllowedError``). Where
        the platform does not say so clearly, it begins, and the guard asks again, less and less
        often
    :param timeout: seconds after which it gives up waiting; what it has confirmed goes on. None: a
        week; with a window, a week divided by the share of a week in which it is open, plus 16
        days, at most 366 days
    """

    template_fields: Sequence[str] = (*WindowedOperator.template_fields, "max_in_flight")

    procedure_class = WaveConfirmation
    trigger_name = "ConfirmWaveTrigger"

    def __init__(
        self,
        *,
        chunk: int = MAX_CHUNK,
        max_in_flight: Any = None,
        rehearse_stop: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.chunk = whole_number(chunk, "chunk")
        if self.chunk > MAX_CHUNK:
            raise ValueError(f"chunk must be at most {MAX_CHUNK}, got {chunk}")
        self.max_in_flight = max_in_flight
        self.rehearse_stop = flag(rehearse_stop, "rehearse_stop")
        if not is_template(max_in_flight) and max_in_flight is not None:
            whole_number(max_in_flight, "max_in_flight")

    def begin(
        self, context: Context, plan: Mapping[str, Any], parts: Sequence[Part]
    ) -> ConfirmJob | dict[str, Any]:
        ti: Any = context["ti"]
        refuse_a_copy(plan["installation"])
        task_id = str(self.create_task_id)
        created = TaskResult(ti.xcom_pull(task_ids=task_id), task_id)
        if created["verdict"] != CREATED:
            return {**created, "unconfirmed": created["devices"], "let_start": 0}
        limit, timeout = none_if_blank(self.max_in_flight), self.seconds_to_wait()
        job = ConfirmJob(
            wave=self.wave,
            parts=tuple(parts),
            late=self.wave > len(plan["waves"]) - number_in(plan, "late"),
            deadline=time.time() + timeout,
            timeout=timeout,
            chunk=self.chunk,
            max_in_flight=None if limit is None else read_whole_number(limit, "max_in_flight"),
            window=self.open_window(),
            outside=started_elsewhere_so_far(ti, self.after),
            rehearse_stop=self.rehearse_stop and self._is_right_unknown(ti),
        )
        return job if parts else nobody_to_confirm(job)

    def _is_right_unknown(self, ti: Any) -> bool:
        """Whether no wave before this one has found out if the release could be stopped."""
        for task_id in reversed(self.after):
            result = ti.xcom_pull(task_ids=task_id)
            if isinstance(result, Mapping) and "started_elsewhere" in result:
                return result.get("rehearse_stop") is True
        return self.wave == 1

    def conclude(self, context: Context, files: ReleaseFiles, result: dict[str, Any]) -> None:
        if not result.get("unconfirmed"):
            return
        try:
            left: list[str] = []
            for part in files.created_parts():
                if part.wave <= self.wave:
                    ledger = files.read_ledger(part, self.log)
                    left += [d for d in ledger.not_confirmed if d not in ledger.unanswered]
            context["ti"].xcom_push(
                key="unconfirmed", value=files.hand_over(left, f"unconfirmed_{self.wave}")
            )
        except IoTDATransportError as error:
            # The guard of the next task is worth more than these names, which are written down.
            self.log.warning("Which devices were not confirmed can't be said here: %s", error)


def started_elsewhere_so_far(ti: Any, after: Sequence[str]) -> int:
    """How many devices the tasks before this one have seen started, and no wave has confirmed.

    :param after: their task ids, the latest last
    """
    for task_id in reversed(after):
        result = ti.xcom_pull(task_ids=task_id)
        if isinstance(result, Mapping) and "started_elsewhere" in result:
            return int(result["started_elsewhere"] or 0)
    return 0
