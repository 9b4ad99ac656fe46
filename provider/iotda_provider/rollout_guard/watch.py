"""The watch over one rollout: each look, what the guard does after it, and when the watch ends."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from iotda_provider.exceptions import IoTDAError
from iotda_provider.guards import Decision, Look, Undecided, Verdict, evaluate, needs_of
from iotda_provider.guards.audit import audit_record
from iotda_provider.guards.reach import powerless_warning
from iotda_provider.guards.retries import retry_warnings
from iotda_provider.models import TaskStatus
from iotda_provider.models.log import Log
from iotda_provider.models.platform_retries import PlatformRetries
from iotda_provider.rollout_guard import outcome as outcomes
from iotda_provider.rollout_guard.failed_subtasks import FailedSubtasks
from iotda_provider.rollout_guard.guard_io import GuardIO
from iotda_provider.rollout_guard.memory import Memory
from iotda_provider.rollout_guard.outcome import Outcome, capitalised
from iotda_provider.rollout_guard.plan import GuardPlan
from iotda_provider.rollout_guard.reporting import afterwards, check_retries, retries_of
from iotda_provider.rollout_guard.rollout import in_words
from iotda_provider.rollout_guard.stopping import StoppableRollout
from iotda_provider.waiting.outage import Outage, check_stoppable, is_transient, may_pass

#: Seconds between two routine saves of the memory: with rules that need earlier looks, and without.
_SAVE_EVERY, _SAVE_EVERY_WITHOUT_HISTORY = 60.0, 300.0
#: The most seconds between two looks at a rollout that the guard is stopping.
_WHILE_STOPPING = 10.0


class Watch(StoppableRollout):
    """The watch over one rollout.

    :meth:`poll`, :meth:`give_up` and :meth:`verify` are procedures: they await nothing but the I/O
    object that they are given, in the worker and in the triggerer.

    :param plan: the guard's plan
    :param memory: the guard's memory of earlier looks
    :param log: the task's log
    :param clock: returns the time in seconds since the epoch
    :param draw: returns a random number from 0 to 1. The first routine save comes earlier by this
        share of the interval, so that guards that start together do not save together
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
        self._failed_subtasks = FailedSubtasks(plan)
        needs = needs_of(plan.rules)
        self._counts_attempts = "attempts" in needs
        remembers = self._counts_attempts or "history" in needs
        self._save_every = _SAVE_EVERY if remembers else _SAVE_EVERY_WITHOUT_HISTORY
        self._saved_at = self.clock() - draw() * self._save_every
        self._asked = self.clock()
        self._off = (0, 0)
        self._knows_size = False
        self._verdict: Verdict | None = None

    #: If true, a failing first look alerts a person and is retried instead of raising.
    never_abort = False
    #: What the trial of a release has answered last, as plain JSON; None: nothing yet.
    trial: Mapping[str, Any] | None = None
    #: When the next routine save is due, if that is sooner than usual (seconds since the epoch).
    save_by = float("inf")
    #: Whether the memory of an earlier try may still be recalled.
    awaits_memory = False
    #: Whether a look can't be judged without that memory.
    needs_memory = False

    @property
    def interval(self) -> float:
        """Seconds until the next look."""
        usual = self._outage.interval
        is_urgent = self.is_stopping and not self._outage.is_long
        return min(usual, _WHILE_STOPPING) if is_urgent else usual

    @property
    def blind_since(self) -> float | None:
        """Since when no look could be judged (seconds since the epoch); None: the last one was."""
        return self._outage.since

    @property
    def share_of_bound(self) -> float | None:
        """The evidence of the rule nearest to its bound, as a share of it; None: none yet."""
        if self._verdict is None:
            return None
        return max(part.share_of_bound for part in self._verdict.parts or (self._verdict,))

    @property
    def first_reasons(self) -> list[dict[str, Any]]:
        """At most three failures with different reasons: class, code, message and first device."""
        return self._failed_subtasks.first_reasons

    async def poll(self, io: GuardIO) -> Outcome | None:
        """Look once, and act on the verdict.

        :returns: an outcome if the watch is over, else None
        :raises IoTDAError: the very first look failed with an error that will not pass by itself
        """
        outcome = await self._look(io)
        if outcome is None and self.rehearses and not self.has_rehearsed:
            refusal = await self.rehearse(io)
            if refusal is not None:
                await self.tell(io, "may_not_stop", f"{refusal} The guard goes on watching.")
        return outcome and await self.tell_outcome(io, self._with_all_started(outcome))

    async def _look(self, io: GuardIO) -> Outcome | None:
        self._asked = self.clock()
        try:
            gone = await self._read(io)
        except IoTDAError as error:
            if not self.memory.looks and not is_transient(error) and not self.never_abort:
                if not self.awaits_memory:
                    raise
                self.needs_memory = True  # an earlier try may have looked
            await self._cannot_judge(io, str(error), permanent=not may_pass(error))
            if self.is_stopping and "accepted" not in self._intent:
                await self._send(io)
            return None
        if not self.memory.looks and (self.plan.stops or self.plan.stops_when_lost):
            check_stoppable(self.tasks)
        if not self.memory.looks and not self.awaits_memory:
            check_retries(self.plan.rules, self.tasks)
            self.memory.retries = retries_of(self.tasks)
        being_stopped = any(task.status.is_stop for task in self.tasks)
        if self.awaits_memory and (gone or being_stopped) and not self.is_stopping:
            self.needs_memory = True  # an earlier try of this guard may have stopped it
            return None
        if gone:
            if self.is_stopping and self.tasks:
                self._outage.note_success(self.clock())
                return await self._complete_stop(io)
            if self.is_stopping and "accepted" in self._intent:
                return self._stop_outcome()
            return outcomes.lost(self.plan, gone, self.tasks)
        if self.memory.intent is not None:
            is_own = being_stopped and (self._may_stop or not self._going_on())
            if is_own and not self.is_stopping and self._going_on():
                is_own = self._is_still_justified()
            if self.is_stopping or is_own:
                self._intent.pop("earlier", None)
                self._outage.note_success(self.clock())
                return await self._complete_stop(io)
            # The memory holds a stop, but nothing is being stopped: judge again.
            self.memory.intent = None
        if being_stopped:
            return self._stopped_elsewhere()
        return await self._judge(io)

    async def _judge(self, io: GuardIO) -> Outcome | None:
        without = [task for task in self.tasks if task.lacks_counts]
        if without:
            await self._cannot_judge(
                io,
                f"The platform shows no counts of batch task {without[0].task_id}, which is "
                f"{without[0].status}.",
            )
            return None
        ended = all(task.status.is_terminal for task in self.tasks)
        persisted = self._miscounts.persist
        off = self._miscounts.add(task.progress for task in self.tasks)
        if off is None:
            await self._cannot_judge(
                io, "The platform's counts do not add up; they decide nothing."
            )
            return None
        self._off = off
        if self._miscounts.persist and not persisted:
            self.log.warning(
                "The platform's counts of %s have not added up for three looks (%s): from now on "
                "the guard decides only what is certain despite that.",
                self.plan.label,
                in_words(self.tasks),
            )
        if not self.memory.looks:
            self._warn_of_retries()
        if not self._knows_size:
            self._warn_of_powerless_rules()
        verdict, trouble = await self._evaluate(io, *off)
        self._verdict = verdict
        self.memory.looks += 1
        if trouble is not None:
            await self._cannot_judge(io, f"Which devices have failed can't be read: {trouble}")
        elif verdict.undecided in (Undecided.EVIDENCE, Undecided.COUNTS):
            permanent = verdict.undecided is Undecided.EVIDENCE
            await self._cannot_judge(io, verdict.sentence, permanent=permanent)
        elif (lasted := self._outage.note_success(self.clock())) is not None:
            self.log.warning("The guard sees again, after %.0f s.", lasted)
        if verdict.breached:
            return await self._breach(io, verdict)
        if ended and trouble is None:
            return self._ended()
        present = outcomes.present(str(verdict.decision), verdict.sentence)
        self._log_if_new(present, verdict.evidence.get("failed"))
        if verdict.decision is Decision.HOLD and not self.memory.held:
            self.memory.held = True
            await self.tell(io, "hold", f"{verdict.sentence} Nothing is stopped yet: have a look.")
            await io.save(self.memory.to_json())
        elif self.clock() >= min(self._saved_at + self._save_every, self.save_by):
            self._saved_at, self.save_by = self.clock(), float("inf")
            await io.save(self.memory.to_json(), routine=True)
        return None

    async def _evaluate(
        self, io: GuardIO, deficit: int, surplus: int
    ) -> tuple[Verdict, IoTDAError | None]:
        """Ask the rules; read the failed subtasks only if the rules need them.

        :param deficit: how many devices may be missing from the platform's counts
        :param surplus: how many devices the platform's counts may have too many
        :returns: the verdict, and the error if the failed subtasks could not be read
        """
        look = Look.of(
            self.tasks,
            time=self.clock(),
            already_current=self.plan.already_current,
            deficit=deficit,
            surplus=surplus,
            requested=self._asked,
            attempted=dict(self.memory.retrying.counts) or None,
        )
        look = self._failed_subtasks.add_to(look)
        before = self._plausible_state()
        state, verdict = evaluate(self.plan.rules, before, look)
        trouble: IoTDAError | None = None
        try:
            needed = self._failed_subtasks.are_needed(verdict)
            if needed and await self._failed_subtasks.read(io, self.tasks):
                look = self._failed_subtasks.add_to(look)
                state, verdict = evaluate(self.plan.rules, before, look)
            if self._counts_attempts and not verdict.breached:
                retrying, note = self.memory.retrying, self._failed_subtasks.note_attempt
                if await retrying.read(io, self.tasks, self.clock(), note):
                    look = replace(look, attempted=dict(retrying.counts))
                    state, verdict = evaluate(self.plan.rules, before, look)
        except IoTDAError as error:
            trouble = error
        self.memory.state = state
        self.memory.note_look(look)
        status = [str(task.status) for task in self.tasks]
        record = audit_record(look, verdict, status=status[0] if len(status) == 1 else status)
        self.memory.trail.add(record)
        return verdict, trouble

    def _warn_of_retries(self) -> None:
        """Log what the batch tasks' own retries hide from the rules."""
        found = [PlatformRetries.of(task.raw.get("task_policy")) for task in self.tasks]
        for policy in dict.fromkeys(policy for policy in found if policy is not None):
            rules, interval = self.plan.rules, self.plan.poll_interval
            for warning in retry_warnings(policy, rules, poll_interval=interval):
                self.log.warning("%s: %s", capitalised(self.plan.label), warning)

    def _warn_of_powerless_rules(self) -> None:
        """Log once, when the number of devices is known, which rules it is too small for."""
        if any(task.status is TaskStatus.INITIALIZING for task in self.tasks):
            return  # there may be more devices later
        devices = sum(task.progress.total for task in self.tasks) - self.plan.already_current
        self._knows_size = devices > 0
        if self._knows_size and (warning := powerless_warning(self.plan.rules, devices)):
            self.log.warning("%s: %s", capitalised(self.plan.label), warning)

    def _ended(self) -> Outcome:
        """The outcome if all batch tasks have a completed status."""
        counts = [task.progress for task in self.tasks]
        # A task whose targets were stopped one by one ends with the same status as a completed one.
        if sum(c.stopped for c in counts) > sum(c.finished for c in counts):
            return outcomes.stopped_elsewhere(self.plan, self.tasks)
        outcome = outcomes.completed(self.plan, self._verdict, self.tasks)
        sentence, facts = afterwards(self.plan.rules, self.memory.state)
        summary, evidence = outcome.summary + sentence, {**outcome.evidence, **facts}
        return replace(outcome, summary=summary, evidence=evidence)

    def _stopped_elsewhere(self) -> Outcome:
        look = Look.of(self.tasks, time=self.clock())
        _, verdict = evaluate(self.plan.rules, self.memory.state, look)
        status = outcomes.statuses_of(self.tasks)
        self.memory.trail.add(audit_record(look, verdict, status=status))
        return outcomes.stopped_elsewhere(self.plan, self.tasks)

    async def _cannot_judge(self, io: GuardIO, why: str, *, permanent: bool = False) -> None:
        """Report a look that could not be judged. The guard goes on, and looks less often later.

        :param why: the reason as a sentence
        :param permanent: the trouble will not pass by itself
        """
        say, tell = self._outage.note_failure(self.clock(), permanent=permanent)
        if say:
            self.log.warning(
                "The guard can't judge %s: %s It looks again in %.0f s.",
                self.plan.label,
                why,
                self.interval,
            )
        if tell:
            since = self._outage.since or self.clock()
            await self.tell(
                io,
                "blind",
                f"Since {outcomes.to_text(since)} the guard can't judge {self.plan.label}, which "
                f"may be going on unguarded; it keeps trying. {why}",
            )
