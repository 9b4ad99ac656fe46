"""The guard's watch as a wave needs it: whether it sees, and whether it lets anybody start."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from iotda_provider.guards import Decision, total_progress
from iotda_provider.models import TaskProgress
from iotda_provider.release.release_io import ReleaseIO
from iotda_provider.rollout_guard import Watch
from iotda_provider.rollout_guard.guard_io import GuardIO

#: The kind of the alert.
STARTED_ELSEWHERE = "started_elsewhere"


class ReleaseGuard(Watch):
    """A watch that also says whether its last look lets more devices start."""

    never_abort = True
    #: Awaited with the I/O object before each stop is sent.
    before_stop: Callable[[Any], Awaitable[None]] | None = None

    async def _stop(self, io: GuardIO, batch_task_id: str) -> None:
        if self.before_stop is not None:
            await self.before_stop(io)
        await super()._stop(io, batch_task_id)

    @property
    def sees(self) -> bool:
        """Whether the last look could be judged."""
        return self._verdict is not None and self._outage.since is None and bool(self.tasks)

    @property
    def blocked_because(self) -> str:
        """Why nobody may start now, in words; empty where the guard has nothing against it."""
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

        A stop that is under way is seen through whatever the time.
        """
        return self.interval if self.is_stopping else min(self.interval, end - now)

    @property
    def progress(self) -> TaskProgress:
        """The counts of the last look."""
        return total_progress(task.progress for task in self.tasks)

    @property
    def bounds(self) -> tuple[TaskProgress, ...]:
        """What these counts may really be; one where they add up, as they nearly always do."""
        return self.progress.extreme_cases(*self._off)

    @property
    def started(self) -> int:
        """Devices that have certainly started: those that are missing may wait."""
        return min(one.started for one in (self.progress, *self.bounds))


async def look_for_others(io: ReleaseIO, watch: ReleaseGuard, known: int, before: int) -> int:
    """How many devices have started, by the platform's counts, that no wave has let start.

    A person is told where it is the first time that there are any.

    :param watch: the guard, after a look
    :param known: the most that may have started by the waves so far
    :param before: how many there were when somebody last looked; it never becomes fewer
    """
    if not watch.sees:
        return before
    found = max(before, watch.started - known)
    if found > 0 and not before:
        await watch.tell(
            io,
            STARTED_ELSEWHERE,
            f"{in_words(found)} The guard goes on watching them; stop the batch task if they "
            "should not have started.",
        )
    return max(0, found)


def in_words(count: int) -> str:
    """A sentence about them; empty where there are none."""
    if not count:
        return ""
    return (
        f"{count} device(s) more have started than the waves have let start (has somebody "
        "confirmed them at the console?): the waves do not hold these back any more."
    )


def not_held(batch_task_id: str, started: int, total: int) -> str:
    """Why a release in waves of this batch task would be none."""
    return (
        f"{started} of the {total} devices of batch task {batch_task_id} have started, and no wave "
        "has let them: it was made without need_confirm, or somebody has confirmed devices "
        "already, so waves would protect nobody. Nothing was confirmed and nothing is stopped; "
        "nobody guards these devices either. Stop the batch task and make one with "
        "need_confirm=True, or guard it as it is with a RolloutGuardSensor."
    )
