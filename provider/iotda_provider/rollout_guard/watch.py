"""One watch over one rollout: what is looked at, what follows from it, and when it is over."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from iotda_provider.exceptions import IoTDAError
from iotda_provider.guards import Decision, Look, Undecided, Verdict, evaluate, needs_of
from iotda_provider.guards.audit import audit_record
from iotda_provider.models.log import Log
from iotda_provider.rollout_guard import outcome as outcomes
from iotda_provider.rollout_guard.failed_subtasks import FailedRows
from iotda_provider.rollout_guard.guard_io import GuardIO
from iotda_provider.rollout_guard.memory import Memory
from iotda_provider.rollout_guard.outcome import Outcome
from iotda_provider.rollout_guard.plan import GuardPlan
from iotda_provider.rollout_guard.rollout import in_words
from iotda_provider.rollout_guard.stopping import StoppableRollout
from iotda_provider.waiting.outage import Outage, check_stoppable, is_transient

#: Seconds between two savings of a memory that rules with a history need, and of any other.
_SAVE_EVERY, _SAVE_EVERY_WITHOUT_HISTORY = 60.0, 300.0
#: Seconds between two looks at a rollout that is being stopped, at most.
_WHILE_STOPPING = 10.0


class Watch(StoppableRollout):
    """The watch over one rollout.

    :meth:`poll`, :meth:`give_up` and :meth:`verify` are procedures: they await nothing but the I/O
    object that they are given, in the worker and in the triggerer.

    :param plan: what to watch, and what may be done
    :param memory: what earlier looks have left behind
    :param log: where its lines go
    :param clock: the time in seconds since the epoch
    :param draw: draws from 0 to 1 how much of the time to the first routine save is over
    """

    def __init__(
        self,
        plan: GuardPlan,
        memory: Memory,
        log: Log,
        *,
        clock: Callable[[], float],
        draw: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(plan, memory, log, clock)
        self._outage = Outage(plan.max_outage, plan.poll_interval)
        self._rows = FailedRows(plan)
        history = "history" in needs_of(plan.rules)
        self._save_every = _SAVE_EVERY if history else _SAVE_EVERY_WITHOUT_HISTORY
        # Guards that begin together, as after a restart, do not save together.
        self._saved_at = self._clock() - draw() * self._save_every
        self._off = (0, 0)
        self._verdict: Verdict | None = None

    #: Whether nothing else watches what has begun. Then whatever the very first look fails with is
    #: one more reason to tell a person and to look again, and no error.
    never_abort = False
    #: Whether the memory of before a restart may still come; whether a look's meaning hangs on it.
    awaits_memory = needs_memory = False

    @property
    def interval(self) -> float:
        """Seconds until the next look."""
        calm = self._outage.interval
        return min(calm, _WHILE_STOPPING) if self.is_stopping and not self._outage.is_long else calm

    @property
    def blind_since(self) -> float | None:
        """Since when no look could be judged (seconds since the epoch); None: it sees."""
        return self._outage.since

    @property
    def first_reasons(self) -> list[dict[str, Any]]:
        """Why the first devices failed, as far as it was read: class, code and message of each."""
        return self._rows.first_reasons

    async def poll(self, io: GuardIO) -> Outcome | None:
        """One look, and what follows from it; an outcome where the watch is over.

        :raises IoTDAError: the very first look failed in a way that will not pass by itself
        """
        outcome = await self._look(io)
        if outcome is None and self.plan.rehearse_stop and not self.has_rehearsed:
            refusal = await self.rehearse(io)
            if refusal is not None:
                await self.tell(io, "may_not_stop", f"{refusal} The guard goes on watching.")
        return outcome and self._with_all_that_started(outcome)

    async def _look(self, io: GuardIO) -> Outcome | None:
        try:
            gone = await self._read(io)
        except IoTDAError as error:
            if not self.memory.looks and not is_transient(error) and not self.never_abort:
                if not self.awaits_memory:
                    raise
                self.needs_memory = True  # it may not be the first
            await self._blind(io, str(error), permanent=not is_transient(error))
            if self.is_stopping and "accepted" not in self._intent:
                await self._send(io)
            return None
        if not self.memory.looks and (self.plan.stops or self.plan.stops_when_lost):
            check_stoppable(self.tasks)
        being_stopped = any(task.status.is_stop for task in self.tasks)
        if self.awaits_memory and (gone or being_stopped) and not self.is_stopping:
            self.needs_memory = True  # that may be this guard's own doing
            return None
        if gone:
            if self.is_stopping and self.tasks:
                self._outage.note_success(self._clock())
                return await self._see_through(io)
            if self.is_stopping and "accepted" in self._intent:
                return self._stop_outcome()
            return outcomes.lost(self.plan, gone, self.tasks)
        if self.memory.intent is not None:
            is_own = being_stopped and (self._may_stop or not self._going_on())
            if is_own and not self.is_stopping and self._going_on():
                is_own = self._is_borne_out()
            if self.is_stopping or is_own:
                self._intent.pop("earlier", None)
                self._outage.note_success(self._clock())
                return await self._see_through(io)
            # A note says that it was decided on, and nothing has come of it: judge anew.
            self.memory.intent = None
        if being_stopped:
            return self._stopped_elsewhere()
        return await self._judge(io)

    async def _judge(self, io: GuardIO) -> Outcome | None:
        ended = all(task.status.is_terminal for task in self.tasks)
        persisted = self._miscounts.persist
        off = self._miscounts.seen(task.progress for task in self.tasks)
        if off is None:
            await self._blind(io, "The platform's counts do not add up; they decide nothing.")
            return None
        self._off = off
        if self._miscounts.persist and not persisted:
            self.log.warning(
                "The platform's counts of %s have not added up for three looks (%s): from now on "
                "only what is certain all the same is decided.",
                self.plan.label,
                in_words(self.tasks),
            )
        verdict, trouble = await self._evaluate(io, *off)
        self._verdict = verdict
        self.memory.looks += 1
        if trouble is not None:
            await self._blind(io, f"Which devices failed, and why, can't be read: {trouble}")
        elif verdict.undecided in (Undecided.EVIDENCE, Undecided.COUNTS):
            permanent = verdict.undecided is Undecided.EVIDENCE
            await self._blind(io, verdict.sentence, permanent=permanent)
        elif (lasted := self._outage.note_success(self._clock())) is not None:
            self.log.warning("The guard sees again, after %.0f s.", lasted)
        if verdict.breached:
            return await self._breach(io, verdict)
        if ended and trouble is None:
            return self._ended()
        self._say(f"{self._statuses()}: {in_words(self.tasks)}. {verdict.sentence}")
        if verdict.decision is Decision.HOLD and not self.memory.held:
            self.memory.held = True
            await self.tell(io, "hold", f"{verdict.sentence} Nothing is stopped yet: have a look.")
            await io.save(self.memory.to_json())
        elif self._clock() - self._saved_at >= self._save_every:
            self._saved_at = self._clock()
            await io.save(self.memory.to_json(), routine=True)
        return None

    async def _evaluate(
        self, io: GuardIO, deficit: int, surplus: int
    ) -> tuple[Verdict, IoTDAError | None]:
        """Ask the rules; the failed subtasks are read only where the answer hangs on them."""
        look = Look.of(
            self.tasks,
            time=self._clock(),
            already_current=self.plan.already_current,
            deficit=deficit,
            surplus=surplus,
        )
        look = self._rows.add_to(look)
        before = self._state_within()
        state, verdict = evaluate(self.plan.rules, before, look)
        trouble: IoTDAError | None = None
        if self._rows.are_asked_for(verdict):
            try:
                if await self._rows.read(io, self.tasks):
                    look = self._rows.add_to(look)
                    state, verdict = evaluate(self.plan.rules, before, look)
            except IoTDAError as error:
                trouble = error
        self.memory.state = state
        self.memory.note_look(look)
        status = [str(task.status) for task in self.tasks]
        record = audit_record(look, verdict, status=status[0] if len(status) == 1 else status)
        self.memory.trail.add(record)
        return verdict, trouble

    def _ended(self) -> Outcome:
        """All tasks have completed by themselves, going by their statuses."""
        counts = [task.progress for task in self.tasks]
        # Stopped one by one, targets leave a task that ends as if it had completed.
        if sum(c.stopped for c in counts) > sum(c.finished for c in counts):
            return outcomes.stopped_elsewhere(self.plan, self.tasks)
        return outcomes.completed(self.plan, self._verdict, self.tasks)

    def _stopped_elsewhere(self) -> Outcome:
        look = Look.of(self.tasks, time=self._clock())
        _, verdict = evaluate(self.plan.rules, self.memory.state, look)
        status = self._statuses()
        self.memory.trail.add(audit_record(look, verdict, status=status))
        return outcomes.stopped_elsewhere(self.plan, self.tasks)

    async def _breach(self, io: GuardIO, verdict: Verdict) -> Outcome | None:
        self.log.warning("%s", verdict.sentence)
        if not self.plan.stops or not self._going_on():
            return outcomes.breached(self.plan, verdict, self.tasks)
        self._decide(verdict)
        if not await io.save(self.memory.to_json()):
            self.log.error(
                "Why the rollout is stopped could not be written down before the stop; should this "
                "process die now, the guard will say stopped_elsewhere."
            )
        accepted = await self._send(io)
        return None if self.plan.wait_for_stop or not accepted else self._stop_outcome()

    async def _blind(self, io: GuardIO, why: str, *, permanent: bool = False) -> None:
        """Say that a look could not be judged; the guard goes on, more slowly after a while."""
        say, tell = self._outage.note_failure(self._clock(), permanent=permanent)
        if say:
            self.log.warning(
                "The guard can't judge %s: %s It looks again in %.0f s.",
                self.plan.label,
                why,
                self.interval,
            )
        if tell:
            since = self._outage.since or self._clock()
            await self.tell(
                io,
                "blind",
                f"Since {outcomes.to_text(since)} the guard can't judge {self.plan.label}, which "
                f"may be going on unguarded; it keeps trying. {why}",
            )
