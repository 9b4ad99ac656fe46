"""The one evaluator of rules: rules, a state and a look in, a new state and a verdict out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Any

from iotda_provider.guards.delay_record import Change, DelayRecord
from iotda_provider.guards.enough_success import EnoughSuccess
from iotda_provider.guards.look import WHOLE, Look, Observed
from iotda_provider.guards.rule import Rule
from iotda_provider.guards.start_ages import StartAges
from iotda_provider.guards.start_history import History
from iotda_provider.guards.verdict import Decision, Undecided, Verdict
from iotda_provider.models import TaskProgress, checks

_VERSION = 2
#: Seconds by which the clocks of two machines may differ.
_CLOCKS_DIFFER = 300.0
_count = partial(checks.whole, "a count in a guard's state")


@dataclass(frozen=True)
class TaskStarts:
    """How many devices of one batch task have ever started, and the counts that it comes from.

    :param started: n, the devices that have ever started. It begins as ``reached`` of the first
        look. Each rise of ``reached`` is added, and each fall of ``fail`` and of ``stopped``: those
        devices were started again
    :param reached: the devices that do not wait, at the last look
    :param fail: the failed devices at the last look
    :param stopped: the stopped devices at the last look
    :param total: the highest total ever seen; n does not exceed it
    :param attempted: the most devices of which an attempt has failed: the highest fail +
        fail_wait_retry ever seen, or more if devices that wait for a retry were counted by their
        ids
    """

    started: int
    reached: int
    fail: int
    stopped: int
    total: int
    attempted: int = 0

    @classmethod
    def first(cls, counts: TaskProgress) -> TaskStarts:
        """The counts at the first look, or after the state was lost."""
        reached = counts.ever_started
        most = max(counts.total, reached + counts.waiting)
        return cls(reached, reached, counts.fail, counts.stopped, most)

    def after(self, counts: TaskProgress) -> TaskStarts:
        """The counts after one more look."""
        now = self.first(counts)
        again = max(0, self.fail - now.fail) + max(0, self.stopped - now.stopped)
        total = max(self.total, now.total)
        started = min(self.started + max(0, now.reached - self.reached) + again, total)
        return replace(
            now,
            started=max(self.started, now.reached, started),
            total=total,
            attempted=self.attempted,
        )

    def having_attempted(self, devices: int) -> TaskStarts:
        """The counts with at least so many devices of which an attempt has failed."""
        return replace(self, attempted=min(max(self.attempted, devices), self.started))

    def changes_since(self, before: TaskStarts | None) -> tuple[bool, int]:
        """Whether more devices have started, or started again, and how many more have failed."""
        if before is None:
            return self.started > 0, self.fail
        again = self.fail < before.fail or self.stopped < before.stopped
        risen = self.reached > before.reached or self.started > before.started
        return risen or again, max(0, self.fail - before.fail)

    def to_json(self) -> list[int]:
        """As plain JSON."""
        return list(astuple(self))


@dataclass(frozen=True)
class GuardState:
    """What is known from earlier looks and cannot be read from later counts. It may be lost.

    :param tasks: for each batch task, the devices that have ever started
    :param starts: the starts so far; if devices are stopped by hand, it may be too high, never too
        low
    :param last: the counts of the last look: started, stopped or removed, unfinished, success, fail
    :param time: the time of the last look, in seconds since the epoch
    :param still_since: the time since which no device has started or finished, likewise
    :param history: the number of starts at earlier times
    :param asked: when the request of the last look was sent, likewise
    :param ages: how long ago devices have started
    :param delays: how late failures were reported
    """

    tasks: Mapping[str, TaskStarts] = field(default_factory=dict)
    starts: int = 0
    last: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0)
    time: float = -math.inf
    still_since: float = math.inf
    history: History = field(default_factory=History)
    asked: float = -math.inf
    ages: StartAges = field(default_factory=StartAges)
    delays: DelayRecord = field(default_factory=DelayRecord)

    @property
    def started(self) -> int:
        """n, the devices that have ever started; it never falls."""
        return sum(task.started for task in self.tasks.values())

    @property
    def attempted(self) -> int:
        """The devices of which an attempt has failed, as far as they were seen; it never falls."""
        return sum(task.attempted for task in self.tasks.values())

    def after(self, look: Look, horizons: Iterable[float], ages_up_to: float = 0.0) -> GuardState:
        """The state after one more look, whose counts can be judged.

        :param horizons: as :attr:`Rule.horizons`, of all rules
        :param ages_up_to: as :attr:`Rule.ages_up_to`, the largest of all rules
        """
        progress = look.progress
        gone = progress.stopped + progress.removed
        unfinished = progress.processing + progress.fail_wait_retry
        now = (progress.started, gone, unfinished, progress.success, progress.fail)
        time = max(look.time, self.time)
        if self.time == -math.inf:
            starts, since = progress.started, time
        else:
            rise = progress.started - self.last[0]
            # A device that was running and is stopped now may hide a start from the difference.
            hidden = min(max(0, gone - self.last[1]), self.last[2])
            starts = max(self.starts + max(0, rise + hidden), progress.started)
            was_idle = not self.last[2]
            moved = (now[0], *now[3:]) != (self.last[0], *self.last[3:])
            since = time if moved or was_idle else self.still_since
        tasks = self._tasks_after(look)
        # A look that arrives late does not say when its devices started.
        asked = self.asked if look.time >= self.time else -math.inf
        known = (task_id for task_id in self.tasks if task_id in tasks)
        more = sum(tasks[task_id].started - self.tasks[task_id].started for task_id in known)
        counts = {WHOLE: progress} if look.tasks is None else look.tasks
        changes = {
            key: Change(
                *tasks[key].changes_since(self.tasks.get(key)),
                is_idle=not (now.processing or now.fail_wait_retry or look.deficit),
            )
            for key, now in counts.items()
        }
        return GuardState(
            tasks=tasks,
            starts=starts,
            last=now,
            time=time,
            still_since=since,
            history=self.history.covering(tuple(horizons)).after(time, starts),
            asked=look.asked_at,
            ages=self.ages.after(more, asked, time, ages_up_to),
            delays=self.delays.after(changes, asked, time),
        )

    def _tasks_after(self, look: Look) -> dict[str, TaskStarts]:
        tasks = dict(self.tasks)
        counts = {WHOLE: look.progress} if look.tasks is None else look.tasks
        for task_id, now in counts.items():
            before = tasks.get(task_id)
            if before is None:
                tasks[task_id] = TaskStarts.first(now)
            elif look.time >= self.time:
                tasks[task_id] = before.after(now)
            else:  # an old look, which came late
                most = max(before.started, now.ever_started)
                tasks[task_id] = replace(before, started=most)
            # Of counts that are too high, only what is certain is kept.
            failed = now.fail + now.fail_wait_retry - look.surplus
            by_id = (look.attempted or {}).get(task_id, 0)
            tasks[task_id] = tasks[task_id].having_attempted(max(failed, by_id))
        return tasks

    def without_impossible_times(self, born: float | None, now: float) -> GuardState:
        """This state without times that are impossible, for a state that somebody may have edited.

        :param born: when the first of the batch tasks was created, in seconds; None: unknown
        :param now: the present time, in seconds
        """
        if self.time == -math.inf:
            return self
        if self.time > now + _CLOCKS_DIFFER:
            return GuardState(tasks=self.tasks, time=now, still_since=now)
        if born is None:
            return self
        since = max(born, self.still_since)
        return replace(self, still_since=since, history=self.history.not_before(born))

    def without_times(self) -> GuardState:
        """Only the started devices: everything else begins with the next look."""
        return GuardState(tasks=self.tasks, time=0.0, still_since=0.0)

    def without_attempts(self) -> GuardState:
        """This state, without the devices of which an attempt has failed."""
        tasks = {task_id: replace(task, attempted=0) for task_id, task in self.tasks.items()}
        return replace(self, tasks=tasks)

    def with_at_least(self, other: GuardState) -> GuardState:
        """This state, with no fewer devices in any batch task than another state has.

        That goes for the devices that have started, and for those of which an attempt has failed.
        """
        tasks = dict(self.tasks)
        for task_id, theirs in other.tasks.items():
            ours = tasks.get(task_id, theirs)
            ours = replace(ours, started=max(ours.started, theirs.started))
            tasks[task_id] = ours.having_attempted(theirs.attempted)
        return replace(self, tasks=tasks)

    def observed(self, look: Look) -> Observed:
        """What the rules may know besides the counts of ``look``, which this state has seen."""
        return Observed(
            started=self.started,
            attempted=self.attempted,
            time=self.time,
            still_since=self.still_since,
            history=self.history,
            ages=self.ages,
            failures_by_class=look.failures_by_class,
            clusters=look.clusters,
            already_current=look.already_current,
            being_stopped=look.being_stopped,
        )

    def to_json(self) -> dict[str, Any]:
        """As plain JSON: 200 bytes, 80 for each batch task, and what the rules need.

        That is at most 6 kB for each ``Overdue``, 1 kB for the ages of devices, and 2 kB for the
        delays of failures.
        """
        return {
            "version": _VERSION,
            "started": self.started,
            "tasks": {task_id: task.to_json() for task_id, task in self.tasks.items()},
            "starts": self.starts,
            "last": list(self.last),
            "time": self.time,
            "still_since": self.still_since,
            "history": self.history.to_json(),
            "asked": self.asked if math.isfinite(self.asked) else None,
            "ages": self.ages.to_json(),
            "delays": self.delays.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> GuardState:
        """Read what :meth:`to_json` wrote.

        For None, an empty mapping or another version's state, the result is the state of a new
        guard. Its rules may then decide later, never earlier.

        :raises ValueError: it is something else
        """
        if not data or data.get("version") != _VERSION:
            return cls()
        try:
            starts = _count(data["starts"])
            tasks = {
                str(task_id): TaskStarts(*map(_count, counts))
                for task_id, counts in data["tasks"].items()
            }
            if _count(data["started"]) != sum(task.started for task in tasks.values()):
                raise ValueError("not a guard's state: its started devices are not their sum")
            started, gone, running, success, fail = map(_count, data["last"])
            time, still_since = float(data["time"]), float(data["still_since"])
            history = History.from_json(data["history"])
            # An earlier version did not write these: all ages and delays are unknown then.
            asked = float(-math.inf if data.get("asked") is None else data["asked"])
            ages = StartAges.from_json(data["ages"]) if "ages" in data else StartAges()
            delays = DelayRecord.from_json(data["delays"]) if "delays" in data else DelayRecord()
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"not a guard's state: {error!r}") from error
        if not math.isfinite(time) or not math.isfinite(still_since):
            raise ValueError("not a guard's state: its times are no numbers")
        return cls(
            tasks=tasks,
            starts=starts,
            last=(started, gone, running, success, fail),
            time=time,
            still_since=still_since,
            history=history,
            asked=asked,
            ages=ages,
            delays=delays,
        )


def checked_rules(rules: Rule | Iterable[Rule]) -> tuple[Rule, ...]:
    """The rules of a guard as a tuple. Operators call this when the DAG is parsed.

    :raises ValueError: there are none, or something is not a stopping rule
    """
    given = (rules,) if isinstance(rules, Rule) else rules
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
        raise ValueError(f"rules must be a list of guard rules, not {given!r}")
    checked = tuple(given)
    for rule in checked:
        if isinstance(rule, EnoughSuccess):
            raise ValueError("rules: EnoughSuccess opens a gate between waves, it stops nothing")
        if not isinstance(rule, Rule):
            raise ValueError(f"rules: not a guard rule: {rule!r}")
    if not checked:
        raise ValueError("rules must name at least one rule")
    return checked


def needs_of(rules: Iterable[Rule]) -> frozenset[str]:
    """What the rules need besides counts: some of the names in :attr:`Rule.needs`."""
    return frozenset(chain.from_iterable(rule.needs for rule in rules))


def evaluate(
    rules: Rule | Sequence[Rule], state: Mapping[str, Any] | None, look: Look
) -> tuple[dict[str, Any], Verdict]:
    """Judge one look. Sensor, trigger and replay all judge by this function.

    A list of rules breaks when any of them breaks. The chance of stopping a healthy rollout is then
    at most the *sum* of their false-alarm bounds (two tests with alpha = 1 %: at most 2 %). Use
    :class:`Combined` to keep one bound. Rules without a bound add false alarms without a limit.

    A look at a task that is being stopped decides nothing and does not change the state. The same
    holds if the counts do not add up, unless the look says how wrong they may be (``look.deficit``,
    ``look.surplus``): then a decision is taken if every extreme case gives it.

    A second call with the same look is harmless. If ``verdict.undecided`` is ``classes``, read the
    failed subtasks and call again with ``look.with_classes(...)``.

    :param rules: the verdict has the name of the first rule that breaks
    :param state: what this function returned at the look before; None: there was none, or the state
        is lost. It is plain JSON: keep it where it survives a restart
    :param look: what was seen now
    :return: the new state, and the verdict; its ``parts`` are the verdicts of the single rules
    :raises ValueError: the state was not written by this function
    """
    asked = checked_rules(rules)
    known = GuardState.from_json(state)
    if look.can_be_judged and not look.being_stopped:
        horizons = chain.from_iterable(rule.horizons for rule in asked)
        known = known.after(look, horizons, max(rule.ages_up_to for rule in asked))
        state = known.to_json()
    observed = known.observed(look)
    found = []
    for progress in look.progress.extreme_cases(look.deficit, look.surplus):
        parts = tuple(rule.check(progress, observed=observed) for rule in asked)
        found.append(replace(_weightiest(parts), parts=parts))
    return dict(state or {}), _mildest(found)


def _mildest(found: Sequence[Verdict]) -> Verdict:
    """The mildest verdict; it is marked as undecided if another verdict is harsher."""
    order = (Decision.CONTINUE, Decision.HOLD, Decision.BREACH)
    mildest = min(found, key=lambda verdict: order.index(verdict.decision))
    harsher = [verdict for verdict in found if verdict.decision is not mildest.decision]
    if not harsher:
        return mildest
    possible = harsher[0].sentence
    sentence = f"{mildest.sentence} The counts do not add up, so this is possible, too: {possible}"
    return replace(mildest, undecided=Undecided.COUNTS, sentence=sentence, reason="")


def _weightiest(parts: Sequence[Verdict]) -> Verdict:
    """The first breach, else the first hold, else the first undecided, else the nearest one."""
    for decision in (Decision.BREACH, Decision.HOLD):
        for part in parts:
            if part.decision is decision:
                return part
    for part in parts:
        if part.undecided:
            return part
    return max(parts, key=lambda part: part.share_of_bound)
