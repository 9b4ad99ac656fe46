"""A guard's stop of its rollout: rehearsed, decided on, sent, seen through and verified."""

from __future__ import annotations

from collections.abc import Callable
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
from iotda_provider.rollout_guard.rollout import Rollout, in_words
from iotda_provider.waiting.outage import LOG_EVERY, is_task_ended

#: Looks at whether a stop has come true.
_MOST_VERIFICATIONS = 3
_FORBIDDEN = 403


class StoppableRollout(Rollout):
    """A rollout with the stop that its guard has decided on, which is a part of the memory.

    A stop that is known from the memory is the guard's own where the platform shows that the
    rollout is being stopped; where it does not, the stop is judged once more before it is sent:
    anybody may have written that note.
    """

    def __init__(
        self, plan: GuardPlan, memory: Memory, log: Log, clock: Callable[[], float]
    ) -> None:
        super().__init__(plan, memory, log, clock)
        if memory.intent is not None:
            memory.intent["earlier"] = True
        self._failed_at = 0.0
        #: Whether it was tried to find out that a stop would be allowed.
        self.has_rehearsed = False

    @property
    def is_stopping(self) -> bool:
        """Whether this guard has decided on a stop, and is seeing it through."""
        intent = self.memory.intent
        return intent is not None and not intent.get("earlier") and self._may_stop

    async def rehearse(self, io: GuardIO) -> str | None:
        """Find out whether a stop would be allowed; why it would not be, as a sentence, or None.

        Anything but a clear no is no verdict: it is logged, and the guard goes on.
        """
        running = self._going_on()
        if not running or self.is_stopping:
            return None
        self.has_rehearsed = True
        try:
            await io.rehearse_stop(running[0].task_id)
        except IoTDAError as error:
            if isinstance(error, IoTDAAuthError) and error.status_code == _FORBIDDEN:
                return (
                    f"{capitalised(self.plan.label)} can NOT be stopped by this connection; give "
                    f"its user the right iotda:batchtasks:stop. {error}"
                )
            self.log.warning("Whether a stop would be allowed can't be told: %s", error)
        else:
            self.log.info("A stop would be allowed: it was rehearsed, and nothing was stopped.")
        return None

    async def give_up(self, io: GuardIO, why: str) -> Outcome:
        """The end of the guard's own time, while the rollout may still be going on."""
        return self._with_all_that_started(await self._give_up(io, why))

    async def _give_up(self, io: GuardIO, why: str) -> Outcome:
        if self.is_stopping:
            return self._stop_outcome(None if await self._send(io) else outcomes.FAILED)
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
        return self._stop_outcome(None if await self._send(io) else outcomes.FAILED)

    async def verify(self, io: GuardIO) -> Outcome | None:
        """See whether the stop that was reported has come true, and ask again where it has not.

        None where the platform can't be read, so that what was reported stands.
        """
        outcome = await self._verify(io)
        return outcome and self._with_all_that_started(outcome)

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
            "time": self._clock(),
            "verdict": replace(verdict, parts=()).to_dict(),
            "progress": [task.progress.to_dict() for task in self.tasks],
            "attempts": 0,
            **facts,
        }

    def _is_borne_out(self) -> bool:
        """Whether the counts of now bear out a stop that only a note knows of.

        Somebody has stopped a part of the rollout, and it has not reached the rest yet.
        """
        if self._intent.get("guard_lost"):
            return self.plan.deadline is not None and self._clock() >= self.plan.deadline
        look = Look.of(self.tasks, time=self._clock(), already_current=self.plan.already_current)
        look = replace(look, being_stopped=False)
        return evaluate(self.plan.rules, self._state_within(), look)[1].breached

    async def _see_through(self, io: GuardIO) -> Outcome | None:
        """Go on with a stop that was decided on, until the rollout has come to rest."""
        now, intent = self._clock(), self._intent
        self._say(f"{self._statuses()}: {in_words(self.tasks)}.")
        if self._going_on():
            accepted = await self._send(io)
            return None if self.plan.wait_for_stop or not accepted else self._stop_outcome()
        since = intent.get("accepted") or intent.setdefault("seen", now)
        at_rest = all(task.status.is_terminal for task in self.tasks)
        patient = self.plan.wait_for_stop and now - since < self.plan.stop_timeout
        return None if patient and not at_rest else self._stop_outcome()

    async def _send(self, io: GuardIO) -> bool:
        """Send the stop to every task that still runs; whether all have taken it."""
        intent = self._intent
        failure: IoTDAError | None = None
        # Not one of them may have been seen yet, after a restart into an outage.
        unseen = () if self.tasks else self.plan.batch_task_ids
        for batch_task_id in (*unseen, *(task.task_id for task in self._going_on())):
            intent["attempts"] += 1
            intent.setdefault("sent", self._clock())
            try:
                await self._stop(io, batch_task_id)
            except IoTDAError as error:
                if not is_task_ended(error):
                    failure = error
        if failure is None:
            intent.setdefault("accepted", self._clock())
            intent["error"] = None
            self.log.warning("The platform has taken the stop of %s.", self.plan.label)
            await io.save(self.memory.to_json())
            return True
        first, intent["error"] = not intent.get("error"), str(failure)
        name = capitalised(self.plan.label)
        # Each of the first, as they come in half a minute; then one a minute.
        if intent["attempts"] <= 3 or self._clock() - self._failed_at >= LOG_EVERY:
            self._failed_at = self._clock()
            self.log.error(
                "%s should be stopped and could not be: %s The guard tries again at each look.",
                name,
                failure,
            )
        if first:
            await self.tell(io, "stop_failed", f"{name} could not be stopped: {failure}")
        return False

    async def _stop(self, io: GuardIO, batch_task_id: str) -> None:
        await io.stop_task(batch_task_id)

    def _stop_outcome(self, came: str | None = None) -> Outcome:
        if came is None:
            if not self.tasks:  # not seen, or gone
                came = outcomes.STOPPING if "accepted" in self._intent else outcomes.FAILED
            elif not all(task.status.is_terminal for task in self.tasks):
                came = outcomes.STOPPING
            elif any(task.status.is_stop for task in self.tasks):
                came = outcomes.STOPPED
            else:
                came = outcomes.ALREADY_ENDED
        return outcomes.stopped(self.plan, self._intent, self.tasks, came)

    def _with_all_that_started(self, outcome: Outcome) -> Outcome:
        """The outcome with the devices that ever started, as the verdict counts them.

        The platform's count falls with a stop.
        """
        if not outcome.progress:
            return outcome
        started = max(outcome.progress["started"], self.memory.started)
        return replace(outcome, progress={**outcome.progress, "started": started})

    @property
    def _may_stop(self) -> bool:
        """Whether the stop that was decided on is one that this guard may send."""
        lost = self._intent.get("guard_lost")
        return self.plan.stops_when_lost if lost else self.plan.stops

    @property
    def _intent(self) -> dict[str, Any]:
        assert self.memory.intent is not None
        return self.memory.intent
