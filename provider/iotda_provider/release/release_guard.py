"""The guard's watch as a wave needs it: whether it sees, and whether devices may be confirmed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from iotda_provider.guards import Decision, total_progress
from iotda_provider.models import TaskProgress
from iotda_provider.rollout_guard import GuardPlan, Outcome, Watch
from iotda_provider.rollout_guard.guard_io import GuardIO

#: The kind of the alert.
STARTED_ELSEWHERE = "started_elsewhere"


class ReleaseGuard(Watch):
    """A watch over all batch tasks of a release so far; before its first wave there is none.

    It also says whether more devices may be confirmed after its last look.
    """

    never_abort = True

    def _warn_of_powerless_rules(self) -> None:
        """The plan has said that of the whole release, and a gate guards its first small waves."""
        self._knows_size = True

    async def poll(self, io: GuardIO) -> Outcome | None:
        return await super().poll(io) if self.plan.batch_task_ids else None

    def include(self, batch_task_ids: Sequence[str]) -> bool:
        """Watch these batch tasks, too, from the next look on; whether any is new."""
        before = self.plan.batch_task_ids
        new = tuple(one for one in batch_task_ids if one not in before)
        self.plan = replace(self.plan, batch_task_ids=(*before, *new))
        self.memory.batch_task_ids = self.plan.batch_task_ids
        return bool(new)

    @property
    def sees(self) -> bool:
        """Whether the last look could be judged."""
        if not self.plan.batch_task_ids:
            return True
        return self._verdict is not None and self._outage.since is None and bool(self.tasks)

    @property
    def blocked_because(self) -> str:
        """Why no device may start now, in words; empty: the guard has nothing against it."""
        if self.is_stopping:
            return "the release is being stopped"
        if not self.sees:
            return "the guard is blind: the last look could not be judged"
        verdict = self._verdict
        if verdict is not None and verdict.decision is Decision.HOLD:
            return f"the guard holds: {verdict.sentence}"
        if verdict is not None and (verdict.undecided or verdict.decision is not Decision.CONTINUE):
            return f"the guard can't tell: {verdict.sentence}"
        return ""

    def seconds_to_next_look(self, end: float, now: float) -> float:
        """Seconds until the next look, which is at the end of the time at the latest.

        A stop that is under way is completed even after the end.
        """
        return self.interval if self.is_stopping else min(self.interval, end - now)

    @property
    def progress(self) -> TaskProgress:
        """The counts of the last look."""
        return total_progress(task.progress for task in self.tasks)

    @property
    def extreme_cases(self) -> tuple[TaskProgress, ...]:
        """The counts that are possible: one if they add up, as nearly always; else the extremes."""
        return self.progress.extreme_cases(*self._off)

    def started_in(self, batch_task_id: str) -> int:
        """Devices of one batch task that have certainly started: one that no count has may wait.

        :param batch_task_id: one of those that are watched
        """
        counts = [task.progress for task in self.tasks if task.task_id == batch_task_id]
        cases = [one for seen in counts for one in (seen, *seen.extreme_cases(*self._off))]
        return min((one.started for one in cases), default=0)


def guard_plan(data: Any) -> GuardPlan:
    """The plan of a release's guard from a trigger's argument; without tasks before the first wave.

    :raises ValueError: it is no such plan
    """
    if isinstance(data, Mapping) and data.get("batch_task_ids") == []:
        plan = GuardPlan.from_dict({**data, "batch_task_ids": ["0"]})
        return replace(plan, batch_task_ids=())
    return GuardPlan.from_dict(data)


def in_words(count: int) -> str:
    """A sentence about devices that somebody else has started; empty: there are none."""
    if not count:
        return ""
    return (
        f"{count} device(s) of it were started by somebody else (has somebody confirmed them at "
        "the console?)."
    )
