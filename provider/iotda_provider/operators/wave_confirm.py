"""The operator that lets the devices of one wave start, with a look before every call."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from iotda_provider.exceptions import BatchTaskTimeoutError, IoTDAError
from iotda_provider.guarding import Outcome
from iotda_provider.models import SubtaskStatus
from iotda_provider.operators.wave import CONFIRMED, Guarded, WaveOperator, is_template, read_number
from iotda_provider.operators.wave_plan import members_up_to
from iotda_provider.parameters import given, positive
from iotda_provider.release.confirming import (
    MAX_CHUNK,
    checked_chunk,
    in_flight,
    next_chunk,
    still_waiting,
)
from iotda_provider.release.window import MaintenanceWindow
from iotda_provider.waiting import is_trouble

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

#: How often a device is asked for that the platform refuses or does not answer for.
_MOST_ATTEMPTS = 3
_SAY_EVERY = 300.0


class ConfirmWaveOperator(WaveOperator):
    """Let the devices of one wave start: at most 100 in a call, and a look before each call.

    Whom to confirm is read from the platform: the members of this wave *and of those before it*
    that still wait there. So a task that was killed in the middle and started again confirms no
    device twice and forgets none. Nobody is confirmed while the guard is blind or holds, while
    ``max_in_flight`` devices are under way, or outside of the maintenance window; it waits then.

    XComs: the return value ``{"wave", "verdict": "confirmed" | "breached" | "stopped_elsewhere" |
    "lost" | "completed" | "surplus", "requested", "confirmed", "refused", "unconfirmed",
    "confirmed_at", "progress", "summary"}``; ``unconfirmed``, the ids of the devices that were not
    let start because the release was over.

    :param chunk: the most devices in one call, up to 100
    :param max_in_flight: the most confirmed devices without an outcome; None: no limit (templated)
    :param window: a ``MaintenanceWindow``, or text such as ``mon-fri 22:00-05:00``; None: at any
        time (templated)
    :param timezone: the timezone of a window that is given as text (templated)
    :param timeout: seconds after which it gives up waiting; what it has confirmed goes on
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
        chunk: int = MAX_CHUNK,
        max_in_flight: Any = None,
        window: Any = None,
        timezone: str = "UTC",
        timeout: float = 7 * 86400,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.chunk = int(positive(chunk, "chunk"))
        if self.chunk > MAX_CHUNK:
            raise ValueError(f"chunk must be at most {MAX_CHUNK}, got {chunk}")
        self.max_in_flight = max_in_flight
        self.window = window
        self.timezone = timezone
        self.timeout = positive(timeout, "timeout")
        if not is_template(max_in_flight) and max_in_flight is not None:
            positive(max_in_flight, "max_in_flight")
        if not is_template(window) and not is_template(timezone):
            MaintenanceWindow.of(window, timezone)

    def execute(self, context: Context) -> dict[str, Any]:
        plan = self.plan(context)
        if self.wave > len(plan["waves"]):
            return self.surplus()
        ti: Any = context["ti"]
        members = members_up_to(ti, self.plan_task_id, self.wave)
        with self.guarded(context, plan["batch_task_id"]) as guarded:
            first_try = getattr(ti, "try_number", 1) <= 1
            result, left = self._confirm(guarded, plan, members, first_try)
        if left:
            ti.xcom_push(key="unconfirmed", value=left)
        return self.told(result)

    def _confirm(
        self, guarded: Guarded, plan: dict[str, Any], members: list[str], first_try: bool
    ) -> tuple[dict[str, Any], list[str]]:
        task_id, watch = plan["batch_task_id"], guarded.watch
        limit = given(self.max_in_flight)
        most = None if limit is None else int(read_number(limit, "max_in_flight"))
        # Devices that are not online would fill every place under way for a day.
        late = self.wave > len(plan["waves"]) - plan["late"]
        attempts: Counter[str] = Counter()
        confirmed: set[str] = set()

        def waiting_now() -> tuple[list[str], int, int]:
            found = guarded.hook.iter_subtasks(task_id, status=SubtaskStatus.WAITING)
            rows = {row.target for row in found}
            wanted = [
                device
                for device in still_waiting(members, rows)
                if device not in confirmed and attempts[device] < _MOST_ATTEMPTS
            ]
            return wanted, len(rows), len(rows | confirmed)

        queue: list[str] = []
        listed = waiting = rounds = 0
        stale, fresh, complete = True, False, False
        pause = _Pause(self.timeout, self.poll_interval, self.wave, self.log)
        while True:
            if stale:
                # Read before the look, which may send a stop: who waits now has not started.
                try:
                    queue, listed, waiting = waiting_now()
                except IoTDAError as error:
                    if not is_trouble(error):
                        raise
                    pause.wait(f"the guard is blind: {error}")
                    continue
                stale, fresh, rounds = False, True, rounds + 1
            outcome = guarded.look()
            if outcome is not None:
                left = [device for device in queue if not attempts[device]]
                if not queue and not attempts and first_try:
                    # Somebody else has stopped it: nobody of this wave was let start before that.
                    before = plan["waves"][self.wave - 2]["cumulative"] if self.wave > 1 else 0
                    left = members[before:]
                return self._result(outcome, watch, len(members), confirmed, attempts, left)
            if fresh and watch.sees:
                # Rows move between pages: the list is whole where the counts bear it out.
                fresh, complete = False, watch.progress.waiting <= listed
            if not queue and not fresh:
                if (complete and attempts.keys() <= confirmed) or rounds > _MOST_ATTEMPTS:
                    return self._result(None, watch, len(members), confirmed, attempts, [])
                stale = True
                continue
            why = watch.why_not or self._closed()
            if why:
                pause.wait(why)
                continue
            unstarted = 0 if late else watch.progress.waiting - (waiting - len(confirmed))
            chunk = next_chunk(queue, in_flight(watch.progress, unstarted), most, self.chunk)
            if not chunk:
                pause.wait(f"{most} device(s) are under way, as many as may be")
                continue
            results = guarded.hook.confirm_batch_task(
                task_id, checked_chunk(chunk, frozenset(members))
            )
            attempts.update(chunk)
            confirmed.update(row.target for row in results.succeeded)
            queue = queue[len(chunk) :]
            self.log.info(
                "Wave %d: %d device(s) confirmed, %d to go; %s.",
                self.wave,
                len(confirmed),
                len(queue),
                watch.progress,
            )

    def _closed(self) -> str:
        window = MaintenanceWindow.of(given(self.window), str(given(self.timezone) or "UTC"))
        now = datetime.now(timezone.utc)
        if window is None or window.is_open(now):
            return ""
        return (
            f"the maintenance window {window} is closed; it opens at {window.opens(now):%F %R %Z}"
        )

    def _result(
        self,
        outcome: Outcome | None,
        watch: Any,
        requested: int,
        confirmed: set[str],
        attempts: Counter[str],
        left: list[str],
    ) -> tuple[dict[str, Any], list[str]]:
        refused = sorted(device for device in attempts if device not in confirmed)
        for device in refused[:10]:
            self.log.warning("%s could not be confirmed, or waits for its device.", device)
        what = f"{len(confirmed)} device(s) confirmed now, {requested} are in the waves so far"
        summary = (
            f"Wave {self.wave}: {what}; {watch.progress}."
            if outcome is None
            else f"Wave {self.wave}, {what}: {outcome.summary}"
        )
        result = {
            "wave": self.wave,
            "verdict": CONFIRMED if outcome is None else outcome.verdict,
            "requested": requested,
            "confirmed": len(confirmed),
            "refused": len(refused),
            "unconfirmed": len(left),
            "confirmed_at": time.time(),
            "progress": watch.progress.to_dict(),
            "summary": summary,
        }
        if outcome is not None:
            result |= {"rule": outcome.rule, "stop": outcome.to_result()["stop"]}
        return result, left


class _Pause:
    """Waits a while, says why now and then, and gives up in the end."""

    def __init__(self, timeout: float, interval: float, wave: int, log: Any) -> None:
        self._deadline = time.monotonic() + timeout
        self._timeout, self._interval, self._wave, self._log = timeout, interval, wave, log
        self._said: tuple[str, float] = ("", 0.0)

    def wait(self, why: str) -> None:
        """Wait one interval.

        :raises BatchTaskTimeoutError: the time is over
        """
        now = time.monotonic()
        if now >= self._deadline:
            raise BatchTaskTimeoutError(
                f"Wave {self._wave} could not be confirmed in {self._timeout:.0f} s: {why}. Clear "
                "this task to go on."
            )
        kind = why.split(":")[0]
        if kind != self._said[0] or now - self._said[1] >= _SAY_EVERY:
            self._said = (kind, now)
            self._log.info("Wave %d waits: %s.", self._wave, why)
        time.sleep(min(self._interval, max(0.0, self._deadline - now)))
