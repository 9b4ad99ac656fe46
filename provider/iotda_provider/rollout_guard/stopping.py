"""How a guard stops its rollout: it rehearses, decides, sends, completes and verifies the stop."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from iotda_provider.exceptions import IoTDAAuthError, IoTDAError
from iotda_provider.guards import Decision, Look, Verdict, evaluate
from iotda_provider.models.log import Log
from iotda_provider.rollout_guard import outcome as outcomes
from iotda_provider.rollout_guard.guard_io import GuardIO
from iotda_provider.rollout_guard.memory import Memory
from iotda_provider.rollout_guard.outcome import Outcome, capitalised
from iotda_provider.rollout_guard.plan import GuardPlan
from iotda_provider.rollout_guard.rollout import Rollout
from iotda_provider.waiting.outage import LOG_EVERY, is_task_ended

#: How often a reported stop is read again at most.
_MOST_VERIFICATIONS = 3
#: When the guard's time is over, a refused stop is sent at most this many times, with this pause in
#: seconds.
#: Airflow's own timeout of a deferral comes a minute after the guard's (``waiting/deadline.py``).
_LAST_TRIES, _LAST_PAUSE = 9, 5.0
_FORBIDDEN = 403
#: Seconds until a rehearsal without a clear answer is repeated. They double each time, up to the
#: second number: a rehearsal that gets no answer holds up the next look.
_FIRST_PAUSE, _LONGEST_PAUSE = 60.0, 1_800.0


class StoppableRollout(Rollout):
    """A rollout that its guard may stop. A decided stop is a part of the guard's memory.

    The memory of an earlier try may hold a stop, but anybody may have written it. So the guard
    takes that stop for its own only if the platform shows that the rollout is being stopped. If
    not, the next look judges again before anything is sent.
    """

    def __init__(
        self, plan: GuardPlan, memory: Memory, log: Log, clock: Callable[[], float]
    ) -> None:
        super().__init__(plan, memory, log, clock)
        if memory.intent is not None:
            memory.intent["earlier"] = True
        self._failed_at = 0.0
        #: Whether the guard finds out if it may stop the rollout.
        self.rehearses = plan.rehearse_stop
        #: Whether the platform has said clearly that the guard may, or may not, stop the rollout.
        self.has_rehearsed = False
        self._rehearse_at = 0.0
        self._rehearse_pause = _FIRST_PAUSE

    @property
    def is_stopping(self) -> bool:
        """Whether this guard has decided on a stop and is completing it."""
        intent = self.memory.intent
        return intent is not None and not intent.get("earlier") and self._may_stop

    async def rehearse(self, io: GuardIO) -> str | None:
        """Ask the platform whether this connection may stop the rollout.

        After a clear answer, :attr:`has_rehearsed` is true. After an unclear one, a call asks again
        only after a pause: a minute, then two, four and so on, and half an hour at most.

        :returns: the refusal as a sentence; None: it may, or the platform gave no clear answer,
            which is logged once
        """
        running = self._going_on()
        if not running or self.is_stopping or self.clock() < self._rehearse_at:
            return None
        try:
            await io.rehearse_stop(running[0].task_id)
        except IoTDAError as error:
            if isinstance(error, IoTDAAuthError) and error.status_code == _FORBIDDEN:
                self.has_rehearsed = True
                return (
                    f"{capitalised(self.plan.label)} can NOT be stopped by this connection; give "
                    f"its user the right iotda:batchtasks:stop. {error}"
                )
            pause = self._rehearse_pause
            if pause == _FIRST_PAUSE:
                self.log.warning(
                    "The guard can't find out whether it may stop the rollout; it asks again in "
                    "%.0f s, and then less and less often: %s",
                    pause,
                    error,
                )
            self._rehearse_at = self.clock() + pause
            self._rehearse_pause = min(2 * pause, _LONGEST_PAUSE)
        else:
            self.has_rehearsed = True
            self.log.info("The guard may stop the rollout: a rehearsal stopped nothing.")
        return None

    async def _breach(self, io: GuardIO, verdict: Verdict) -> Outcome | None:
        """Stop the rollout if the plan says so; an outcome if that ends the watch."""
        self.log.warning("%s", verdict.sentence)
        if not self.plan.stops or not self._going_on():
            return outcomes.breached(self.plan, verdict, self.tasks)
        self._decide(verdict)
        if not await io.save(self.memory.to_json()):
            self.log.error(
                "The reason of the stop could not be written down before the stop. If this process "
                "dies now, the guard's next try reports stopped_elsewhere."
            )
        accepted = await self._send(io)
        await self.tell(io, "breach", verdict.sentence)
        return None if self.plan.wait_for_stop or not accepted else self._stop_outcome()

    async def give_up(self, io: GuardIO, why: str) -> Outcome:
        """End the watch because the guard's own time is over; the rollout may be going on.

        :param why: the reason as a sentence
        """
        return await self.tell_outcome(io, self._with_all_started(await self._give_up(io, why)))

    async def _give_up(self, io: GuardIO, why: str) -> Outcome:
        if self.is_stopping:
            return await self._send_at_last(io)
        if not self.plan.stops_when_lost:
            return outcomes.guard_lost(self.plan, why, self.tasks)
        sentence = f"{why} on_guard_lost is 'stop'."
        verdict = Verdict(Decision.BREACH, "on_guard_lost", sentence=sentence)
        self._decide(verdict, guard_lost=True)
        await io.save(self.memory.to_json())
        if not self.tasks:
            try:
                await self._read(io)
            except IoTDAError as error:
                self._intent["error"] = str(error)
                return outcomes.stopped(self.plan, self._intent, (), outcomes.FAILED)
        return await self._send_at_last(io)

    async def _send_at_last(self, io: GuardIO) -> Outcome:
        """Send the stop before the guard ends; while it is refused, repeat it for up to 40 s.

        The platform refuses it while a batch task is Initializing, and while it is itself failing.
        """
        began = self.clock()
        for tries_left in reversed(range(_LAST_TRIES)):
            if await self._send(io):
                return self._stop_outcome()
            # A platform that does not answer takes much longer than one that refuses.
            if not tries_left or self.clock() - began >= _LAST_TRIES * _LAST_PAUSE:
                break
            await io.pause(_LAST_PAUSE)
            with suppress(IoTDAError):  # the next try reports the error
                await self._read(io)
        return self._stop_outcome(outcomes.FAILED)

    async def verify(self, io: GuardIO) -> Outcome | None:
        """Read whether the platform has stopped the rollout, and send the stop again if not.

        :returns: the outcome of the stop; None: the platform can't be read, so the reported
            outcome stays
        """
        outcome = await self._verify(io)
        return outcome and await self.tell_outcome(io, self._with_all_started(outcome))

    async def _verify(self, io: GuardIO) -> Outcome | None:
        seen = False
        for _ in range(_MOST_VERIFICATIONS):
            try:
                gone = await self._read(io)
            except IoTDAError as error:
                self.log.warning("The stop can't be verified: %s", error)
                continue
            seen = True
            if gone or not self._going_on():
                return self._stop_outcome()
            await self._send(io)
        return self._stop_outcome(outcomes.FAILED) if seen else None

    def _decide(self, verdict: Verdict, **facts: Any) -> None:
        self.memory.intent = {
            "time": self.clock(),
            "verdict": replace(verdict, parts=()).to_dict(),
            "progress": [task.progress.to_dict() for task in self.tasks],
            "attempts": 0,
            **facts,
        }

    def _is_still_justified(self) -> bool:
        """Whether the present counts justify a stop that is known from a note only.

        It is asked when a part of the rollout is being stopped and another part still runs.
        """
        if self._intent.get("guard_lost"):
            return self.plan.deadline is not None and self.clock() >= self.plan.deadline
        look = Look.of(self.tasks, time=self.clock(), already_current=self.plan.already_current)
        look = replace(look, being_stopped=False)
        return evaluate(self.plan.rules, self._plausible_state(), look)[1].breached

    async def _complete_stop(self, io: GuardIO) -> Outcome | None:
        """Go on with a decided stop; an outcome once the rollout is at rest."""
        now, intent = self.clock(), self._intent
        self._log_if_new("STOPPING.")
        if self._going_on():
            accepted = await self._send(io)
            return None if self.plan.wait_for_stop or not accepted else self._stop_outcome()
        since = intent.get("accepted") or intent.setdefault("seen", now)
        at_rest = all(task.status.is_terminal for task in self.tasks)
        patient = self.plan.wait_for_stop and now - since < self.plan.stop_timeout
        return None if patient and not at_rest else self._stop_outcome()

    async def _send(self, io: GuardIO) -> bool:
        """Send the stop to every batch task that still runs; whether all were accepted."""
        intent = self._intent
        failure: IoTDAError | None = None
        # After a restart into an outage, no batch task may have been read yet.
        unseen = () if self.tasks else self.plan.batch_task_ids
        for batch_task_id in (*unseen, *(task.task_id for task in self._going_on())):
            intent["attempts"] += 1
            intent.setdefault("sent", self.clock())
            try:
                await self._stop(io, batch_task_id)
            except IoTDAError as error:
                if not is_task_ended(error):
                    failure = error
        if failure is None:
            intent.setdefault("accepted", self.clock())
            intent["error"] = None
            self.log.warning("The platform has accepted the stop of %s.", self.plan.label)
            await io.save(self.memory.to_json())
            return True
        first, intent["error"] = not intent.get("error"), str(failure)
        name = capitalised(self.plan.label)
        # Log each of the first three attempts, which take half a minute, and then one a minute.
        if intent["attempts"] <= 3 or self.clock() - self._failed_at >= LOG_EVERY:
            self._failed_at = self.clock()
            self.log.error(
                "%s could not be stopped: %s The guard tries again at each look.",
                name,
                failure,
            )
        if first:
            await self._tell_once(io, "stop_failed", f"{name} could not be stopped: {failure}")
        return False

    async def tell_outcome(self, io: GuardIO, outcome: Outcome) -> Outcome:
        """Tell people how the watch has ended, unless all is well; returns the outcome."""
        kind = outcomes.event_of(outcome)
        if kind is not None and outcome.stop is not None:
            await self._tell_once(io, kind, outcome.summary)
        elif kind is not None:
            await self.tell(io, kind, outcome.summary)
        return outcome

    async def _tell_once(self, io: GuardIO, kind: str, sentence: str) -> None:
        """Tell people of a stop once: the memory keeps it for later tries and for the worker."""
        told = self._intent.setdefault("told", [])
        if kind not in told:
            told.append(kind)
            await self.tell(io, kind, sentence)

    async def _stop(self, io: GuardIO, batch_task_id: str) -> None:
        await io.stop_task(batch_task_id)

    def _stop_outcome(self, stop_outcome: str | None = None) -> Outcome:
        if stop_outcome is None:
            if not self.tasks:  # none was read, or all are gone
                is_accepted = "accepted" in self._intent
                stop_outcome = outcomes.STOPPING if is_accepted else outcomes.FAILED
            elif not all(task.status.is_terminal for task in self.tasks):
                stop_outcome = outcomes.STOPPING
            elif any(task.status.is_stop for task in self.tasks):
                stop_outcome = outcomes.STOPPED
            else:
                stop_outcome = outcomes.ALREADY_ENDED
        return outcomes.stopped(self.plan, self._intent, self.tasks, stop_outcome)

    def _with_all_started(self, outcome: Outcome) -> Outcome:
        """The outcome with all devices that ever started: the platform's count falls at a stop."""
        return replace(outcome, progress=self.progress_json) if outcome.progress else outcome

    @property
    def _may_stop(self) -> bool:
        """Whether this guard's plan allows the stop that was decided on."""
        lost = self._intent.get("guard_lost")
        return self.plan.stops_when_lost if lost else self.plan.stops

    @property
    def _intent(self) -> dict[str, Any]:
        assert self.memory.intent is not None
        return self.memory.intent
