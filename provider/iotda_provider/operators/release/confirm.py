"""The operator that lets the devices of one wave start, with a look before every call."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException

from iotda_provider.exceptions import BatchTaskTimeoutError, IoTDATransportError
from iotda_provider.models.text import what_is
from iotda_provider.operators.release.wave import WaveOperator
from iotda_provider.release.confirm_chunks import MAX_CHUNK
from iotda_provider.release.confirm_wave import WaveConfirmation
from iotda_provider.release.gate import GO_ON
from iotda_provider.release.ledger import unpack
from iotda_provider.release.maintenance_window import MaintenanceWindow
from iotda_provider.release.wave_devices import ConfirmJob
from iotda_provider.task_io.dag_parameters import flag, is_template
from iotda_provider.task_io.parameters import (
    none_if_blank,
    optional_text,
    positive,
    read_whole_number,
    whole_number,
)

#: Seconds of an open window in which a wave must be confirmed, where no ``timeout`` is given, and
#: those that it may take longer: a window that opens late, and no wave for more than a year.
_TIMEOUT, _SLACK, _LONGEST = 7 * 86400.0, 16 * 86400.0, 366 * 86400.0

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from iotda_provider.release.release_guard import ReleaseGuard
    from iotda_provider.release.storage import ReleaseFiles
    from iotda_provider.triggers.release import WaveTrigger


class ConfirmWaveOperator(WaveOperator):
    """Let the devices of one wave start: at most 100 in a call, and a look before each call.

    Whom to confirm is read from the platform: the members of this wave *and of those before it*
    that still wait there, without those whose confirmation it has accepted already, which is
    written down after every call. So a task that was killed in the middle and started again, or was
    cleared, confirms no device twice and forgets none; only one whose answer was lost is asked for
    again, which changes nothing. Nobody is confirmed while the guard is blind or holds, while
    ``max_in_flight`` devices are under way, or outside of the maintenance window; it waits then.

    XComs: the return value ``{"wave", "verdict": "confirmed" | "breached" | "stopped_elsewhere" |
    "lost" | "completed" | "surplus", "requested", "confirmed", "refused", "unconfirmed",
    "let_start", "started_elsewhere", "confirmed_at", "progress", "summary"}``; ``unconfirmed``, the
    ids of the devices that were not let start, because the release was over or because the platform
    has refused them, or not shown them, for two minutes. The next wave asks for those again.

    A platform that refuses a call does not end this task: the guard goes on looking, a person is
    told, and it keeps trying. ``started_elsewhere`` counts devices that have started by somebody
    else's doing, which a person is told once; before the first wave has let anybody start, it is an
    error (``NotHeldError``), as a batch task that holds nobody can't be released in waves.

    :param opened_by: what has to have let the wave before pass, as task ids ``{"gate", "ask",
        "entry"}``: the gate has followed ``entry``, or ``ask`` (None: nobody is asked), where a
        person has said yes. Neither is so where a task was only marked as a success by hand. None:
        nothing has to, as for the first wave
    :param chunk: the most devices in one call, up to 100
    :param max_in_flight: the most confirmed devices without an outcome; None: no limit (templated)
    :param window: a ``MaintenanceWindow``, or text such as ``mon-fri 22:00-05:00``; None: at any
        time (templated)
    :param timezone: the timezone of a window that is given as text (templated)
    :param rehearse_stop: before the first device of the release is let start, find out whether the
        connection may stop it: the stop is asked for a target that is in no task, so that nothing
        is stopped. Where it may not, the release does not begin (``StopNotAllowedError``)
    :param timeout: seconds after which it gives up waiting; what it has confirmed goes on. None: a
        week, in which the time counts little in which the window is closed: a week divided by the
        share of a week in which it is open, and 16 days more, and 366 days at most
    """

    template_fields: Sequence[str] = (
        *WaveOperator.template_fields,
        "max_in_flight",
        "window",
        "timezone",
    )

    def __init__(
        self,
        *,
        opened_by: Mapping[str, str | None] | None = None,
        chunk: int = MAX_CHUNK,
        max_in_flight: Any = None,
        window: Any = None,
        timezone: str = "UTC",
        timeout: float | None = None,
        rehearse_stop: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(opened_by, (Mapping, type(None))):
            raise ValueError(
                f"opened_by must be a mapping, got {what_is(opened_by, instead_of='a mapping')}"
            )
        self.opened_by = None if opened_by is None else dict(opened_by)
        self.chunk = whole_number(chunk, "chunk")
        if self.chunk > MAX_CHUNK:
            raise ValueError(f"chunk must be at most {MAX_CHUNK}, got {chunk}")
        self.max_in_flight = max_in_flight
        self.window = window
        self.timezone = timezone
        self.rehearse_stop = flag(rehearse_stop, "rehearse_stop")
        self.timeout = None if timeout is None else positive(timeout, "timeout")
        if not is_template(max_in_flight) and max_in_flight is not None:
            whole_number(max_in_flight, "max_in_flight")
        if not is_template(window) and not is_template(timezone):
            MaintenanceWindow.of(window, timezone)

    def begin(self, context: Context, plan: Mapping[str, Any]) -> ConfirmJob:
        self._check_opened(context["ti"])
        limit, waves = none_if_blank(self.max_in_flight), plan["waves"]
        timeout = self._timeout()
        return ConfirmJob(
            batch_task_id=plan["batch_task_id"],
            wave=self.wave,
            members=waves[self.wave - 1]["cumulative"],
            before=waves[self.wave - 2]["cumulative"] if self.wave > 1 else 0,
            late=self.wave > len(waves) - plan["late"],
            deadline=time.time() + timeout,
            timeout=timeout,
            chunk=self.chunk,
            max_in_flight=None if limit is None else read_whole_number(limit, "max_in_flight"),
            window=self._window(),
            is_first=getattr(context["ti"], "try_number", 1) <= 1,
            outside=started_elsewhere_so_far(context["ti"], self.after),
            rehearse_stop=self.rehearse_stop,
        )

    def _window(self) -> MaintenanceWindow | None:
        timezone = optional_text(self.timezone, "timezone") or "UTC"
        return MaintenanceWindow.of(none_if_blank(self.window), timezone)

    def _timeout(self) -> float:
        """Seconds after which it gives up waiting."""
        if self.timeout is not None:
            return self.timeout
        window = self._window()
        if window is None:
            return _TIMEOUT
        return min(_TIMEOUT / window.share + _SLACK, _LONGEST)

    def _check_opened(self, ti: Any) -> None:
        """Whether the wave before has passed, by its numbers or by a person's word.

        :raises AirflowFailException: it has not
        """
        if self.opened_by is None:
            return
        gate, ask, entry = (self.opened_by[name] for name in ("gate", "ask", "entry"))
        followed = ti.xcom_pull(task_ids=gate, key="branch") or ()
        if entry in followed:
            return
        if ask is not None and ask in followed:
            answer = ti.xcom_pull(task_ids=ask, key="answer")
            if isinstance(answer, Mapping) and answer.get("option") == GO_ON:
                return
        raise AirflowFailException(
            f"Wave {self.wave} is not let start: neither the numbers of the wave before nor a "
            "person's answer have opened it (was a task marked as a success by hand?). Clear "
            f"{gate} to have that decided."
        )

    def job_from_json(self, data: Mapping[str, Any]) -> ConfirmJob:
        return ConfirmJob.from_json(data)

    def procedure(self, job: ConfirmJob, watch: ReleaseGuard) -> WaveConfirmation:
        return WaveConfirmation(job, watch, self.log, clock=time.time)

    def limit(self, job: ConfirmJob) -> float:
        return job.deadline

    def trigger(self, **arguments: Any) -> WaveTrigger:
        from iotda_provider.triggers.release import ConfirmWaveTrigger

        return ConfirmWaveTrigger(**arguments)

    def without_triggerer(self, context: Context) -> dict[str, Any]:
        timeout = self._timeout()
        if self.earlier_limit(timeout) == "execution_timeout":
            raise self.execution_timeout_error()
        raise BatchTaskTimeoutError(
            f"Wave {self.wave} could not be confirmed in {timeout:.0f} s, and no triggerer "
            "has been there to say why. Clear this task to go on."
        )

    def conclude(self, context: Context, files: ReleaseFiles, result: dict[str, Any]) -> None:
        left = result.pop("left", None)
        if not left:
            return
        try:
            waves = files.read_waves()[: self.wave]
        except IoTDATransportError as error:
            # The guard of the next task is worth more than these names, which are written down.
            self.log.warning("Which devices were not let start can't be said here: %s", error)
            return
        members = [device for wave in waves for device in wave]
        context["ti"].xcom_push(key="unconfirmed", value=unpack(members, left))


def started_elsewhere_so_far(ti: Any, after: Sequence[str]) -> int:
    """How many devices the tasks before this one have seen that no wave has let start.

    :param after: their task ids, the latest last
    """
    for task_id in reversed(after):
        result = ti.xcom_pull(task_ids=task_id)
        if isinstance(result, Mapping) and "started_elsewhere" in result:
            return int(result["started_elsewhere"] or 0)
    return 0
