"""Devices that somebody else has let start, past the waves."""

from __future__ import annotations

from iotda_provider.release.release_guard import WaveWatch
from iotda_provider.release.release_io import ReleaseIO

#: The kind of the alert.
STARTED_ELSEWHERE = "started_elsewhere"


async def look_for_others(io: ReleaseIO, watch: WaveWatch, known: int, before: int) -> int:
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
