"""One watch over one rollout: what is looked at, what follows from it, and when it is over."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from iotda_provider.exceptions import IoTDAAuthError, IoTDAError
from iotda_provider.guarding import outcome as outcomes
from iotda_provider.guarding.alerts import Alert
from iotda_provider.guarding.guard_io import GuardIO, Log
from iotda_provider.guarding.memory import Memory
from iotda_provider.guarding.outcome import Outcome, capitalised
from iotda_provider.guarding.plan import GuardPlan
from iotda_provider.guarding.rows import FailedRows
from iotda_provider.guards import (
    Decision,
    Look,
    Undecided,
    Verdict,
    evaluate,
    needs_of,
    total_progress,
)
from iotda_provider.guards.audit import audit_record
from iotda_provider.guards.miscounts import Miscounts
from iotda_provider.guards.state import GuardState
from iotda_provider.models import BatchTask
from iotda_provider.waiting import (
    SAY_EVERY,
    Outage,
    check_stoppable,
    has_ended,
    is_gone,
    is_trouble,
)

#: Seconds between two savings of a memory that rules with a history need, and of any other.
_SAVE_EVERY, _SAVE_EVERY_WITHOUT_HISTORY = 60.0, 300.0
#: Looks at whether a stop has come true.
_MOST_VERIFICATIONS = 3
#: Seconds between two looks at a rollout that is being stopped, at most.
_WHILE_STOPPING = 10.0
_FORBIDDEN = 403


class Watch:
    """The watch over one rollout.

    :meth:`poll`, :meth:`give_up` and :meth:`verify` are procedures: they await nothing but the I/O
    object that they are given, in the worker and in the triggerer.

    :param plan: what to watch, and what may be done
    :param memory: what earlier looks have left behind. A stop that is known from it is the guard's
        own where the platform shows that the rollout is being stopped; where it does not, the stop
        is judged once more before it is sent: anybody may have written that note
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
        self.plan = plan
        self.memory = memory
        self.log = log
        self.tasks: list[BatchTask] = []
        self._clock = clock
        if memory.intent is not None:
            memory.intent["earlier"] = True
        self._blindness = Outage(plan.max_outage, plan.poll_interval)
        self._rows = FailedRows(plan)
        history = "history" in needs_of(plan.rules)
        self._save_every = _SAVE_EVERY if history else _SAVE_EVERY_WITHOUT_HISTORY
        # Guards that begin together, as after a restart, do not save together.
        self._saved_at = self._clock() - draw() * self._save_every
        self._miscounts = Miscounts()
        self._off = (0, 0)
        self._said = ""
        self._failed_at = 0.0
        self._verdict: Verdict | None = None
        #: Whether it was tried to find out that a stop would be allowed.
        self.has_rehearsed = False

    #: Whether nothing else watches what has begun. Then whatever the very first look fails with is
    #: one more reason to tell a person and to look again, and no error.
    must_go_on = False
    #: Whether the memory of before a restart may still come; whether a look's meaning hangs on it.
    awaits_memory = needs_memory = False

    @property
    def interval(self) -> float:
        """Seconds until the next look."""
        calm = self._blindness.interval
        return (
            min(calm, _WHILE_STOPPING) if self.is_stopping and not self._blindness.is_long else calm
        )

    @property
    def blind_since(self) -> float | None:
        """Since when no look could be judged (seconds since the epoch); None: it sees."""
        return self._blindness.since

    @property
    def first_reasons(self) -> list[dict[str, Any]]:
        """Why the first devices failed, as far as it was read: class, code and message of each."""
        return self._rows.first_reasons

    @property
    def is_stopping(self) -> bool:
        """Whether this guard has decided on a stop, and is seeing it through."""
        intent = self.memory.intent
        return intent is not None and not intent.get("earlier") and self._may_stop

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

    async def _look(self, io: GuardIO) -> Outcome | None:
        try:
            gone = await self._read(io)
        except IoTDAError as error:
            if not self.memory.looks and not is_trouble(error) and not self.must_go_on:
                if not self.awaits_memory:
                    raise
                self.needs_memory = True  # it may not be the first
            await self._blind(io, str(error), hopeless=not is_trouble(error))
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
                return await self._see_through(io)
            # A note says that it was decided on, and nothing has come of it: judge anew.
            self.memory.intent = None
        if being_stopped:
            return self._stopped_elsewhere()
        return await self._judge(io)

    def _is_borne_out(self) -> bool:
        """Whether the counts of now bear out a stop that only a note knows of.

        Somebody has stopped a part of the rollout, and it has not reached the rest yet.
        """
        if self._intent.get("guard_lost"):
            return self.plan.deadline is not None and self._clock() >= self.plan.deadline
        look = Look.of(self.tasks, time=self._clock(), already_current=self.plan.already_current)
        look = replace(look, being_stopped=False)
        return evaluate(self.plan.rules, self._state_within(), look)[1].breached

    def _state_within(self) -> dict[str, Any]:
        """What the rules keep, as far as the platform lets it be true: anybody may write notes."""
        state = GuardState.from_json(self.memory.state)
        if not state.tasks:
            return {}
        created = [born for task in self.tasks if (born := task.created_at) is not None]
        born = min(created) if len(created) == len(self.tasks) else None
        if born is not None and born > self._clock():
            born = None  # the clocks differ: it says nothing
        return state.within(born, self._clock()).to_json()

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

    # --- looking ----------------------------------------------------------------------------------

    async def _read(self, io: GuardIO) -> list[str]:
        """Read the rollout's tasks; the ids of those that are gone.

        :raises IoTDAError: one of them could not be read
        """
        tasks: dict[str, BatchTask] = {}
        gone: list[str] = []
        wanted = self.plan.batch_task_ids
        # A second time, as nobody should lose a rollout to one stray answer.
        for _ in range(2):
            answers = await io.read_tasks(wanted)
            gone = []
            for batch_task_id, answer in zip(wanted, answers, strict=True):
                if isinstance(answer, BatchTask):
                    tasks[batch_task_id] = answer
                elif not is_gone(answer):
                    raise answer
                elif (ended := self.memory.ended_task(batch_task_id)) is not None:
                    tasks[batch_task_id] = ended
                else:
                    gone.append(batch_task_id)
            torn = [key for key, task in tasks.items() if not task.progress.adds_up]
            torn = [] if self._miscounts.persist else torn
            wanted = (*gone, *torn)
            if not wanted:
                break
        self.tasks = [tasks[key] for key in self.plan.batch_task_ids if key in tasks]
        self.memory.note_ended(self.tasks)
        return gone

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
                _counts(self.tasks),
            )
        verdict, trouble = await self._evaluate(io, *off)
        self._verdict = verdict
        self.memory.looks += 1
        if trouble is not None:
            await self._blind(io, f"Which devices failed, and why, can't be read: {trouble}")
        elif verdict.undecided in (Undecided.EVIDENCE, Undecided.COUNTS):
            hopeless = verdict.undecided is Undecided.EVIDENCE
            await self._blind(io, verdict.sentence, hopeless=hopeless)
        elif (lasted := self._blindness.over(self._clock())) is not None:
            self.log.warning("The guard sees again, after %.0f s.", lasted)
        if verdict.breached:
            return await self._breach(io, verdict)
        if ended and trouble is None:
            return self._ended()
        self._say(f"{self._statuses()}: {_counts(self.tasks)}. {verdict.sentence}")
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

    # --- the end ----------------------------------------------------------------------------------

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

    async def _see_through(self, io: GuardIO) -> Outcome | None:
        """Go on with a stop that was decided on, until the rollout has come to rest."""
        now, intent = self._clock(), self._intent
        self._blindness.over(now)
        self._say(f"{self._statuses()}: {_counts(self.tasks)}.")
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
                if not has_ended(error):
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
        if intent["attempts"] <= 3 or self._clock() - self._failed_at >= SAY_EVERY:
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

    def _decide(self, verdict: Verdict, **facts: Any) -> None:
        self.memory.intent = {
            "time": self._clock(),
            "verdict": replace(verdict, parts=()).to_dict(),
            "progress": [task.progress.to_dict() for task in self.tasks],
            "attempts": 0,
            **facts,
        }

    @property
    def _may_stop(self) -> bool:
        """Whether the stop that was decided on is one that this guard may send."""
        lost = self._intent.get("guard_lost")
        return self.plan.stops_when_lost if lost else self.plan.stops

    @property
    def _intent(self) -> dict[str, Any]:
        assert self.memory.intent is not None
        return self.memory.intent

    # --- words ------------------------------------------------------------------------------------

    def _going_on(self) -> list[BatchTask]:
        """The tasks that nobody has stopped and that have not ended."""
        return [t for t in self.tasks if not t.status.is_stop and not t.status.is_terminal]

    def _statuses(self) -> str:
        return ", ".join(dict.fromkeys(str(task.status) for task in self.tasks))

    def _say(self, line: str) -> None:
        if line != self._said:
            self._said = line
            self.log.info("%s is %s", capitalised(self.plan.label), line)

    async def _blind(self, io: GuardIO, why: str, *, hopeless: bool = False) -> None:
        """Say that a look could not be judged; the guard goes on, more slowly after a while."""
        say, tell = self._blindness.trouble(self._clock(), hopeless=hopeless)
        if say:
            self.log.warning(
                "The guard can't judge %s: %s It looks again in %.0f s.",
                self.plan.label,
                why,
                self.interval,
            )
        if tell:
            since = self._blindness.since or self._clock()
            await self.tell(
                io,
                "blind",
                f"Since {outcomes.to_text(since)} the guard can't judge {self.plan.label}, which "
                f"may be going on unguarded; it keeps trying. {why}",
            )

    async def tell(self, io: GuardIO, kind: str, sentence: str) -> None:
        """Tell a person about this rollout."""
        facts = {
            "batch_task_ids": list(self.plan.batch_task_ids),
            "time": outcomes.to_text(self._clock()),
            "progress": [task.progress.to_dict() for task in self.tasks],
        }
        await io.tell(Alert(kind, sentence, facts))


def _counts(tasks: Sequence[BatchTask]) -> str:
    return str(total_progress(task.progress for task in tasks))
