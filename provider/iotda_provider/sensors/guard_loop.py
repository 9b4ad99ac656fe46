"""The loop of looks of a guard in a worker; the trigger has the other one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from iotda_provider.rollout_guard import Outcome, Watch
from iotda_provider.rollout_guard.guard_metrics import GuardMetrics
from iotda_provider.rollout_guard.outcome import STOPPING

if TYPE_CHECKING:
    from iotda_provider.rollout_guard.live_in_worker import LiveInWorker
    from iotda_provider.rollout_guard.worker import WorkerGuardIO, WorkerRecall


def look_until_over(
    watch: Watch,
    io: WorkerGuardIO,
    live: LiveInWorker,
    earlier_memory: WorkerRecall,
    *,
    connection: Mapping[str, Any],
    time_is_over: str,
    deferrable: bool,
) -> Outcome | None:
    """Look until the watch is over; of a deferrable guard, until it can be deferred.

    :param live: writes the XComs ``rollout`` and ``live``
    :param earlier_memory: the recall of an earlier try's memory
    :param connection: what the XCom ``rollout`` says of the connection
    :param time_is_over: the reason of giving up at the plan's deadline, as a sentence
    :param deferrable: whether a triggerer goes on with the guard. It gets the memory, so the guard
        is deferred only once the earlier memory was read
    :returns: the outcome; None: the guard is to be deferred
    """
    deadline = watch.plan.deadline
    measured = GuardMetrics(watch, connection["iotda_conn_id"])
    while True:
        began = time.monotonic()
        try:
            outcome = io.run(watch.poll(io))
        finally:
            live.introduce(connection)
        measured.looked(began)
        left = float("inf") if deadline is None else deadline - time.time()
        if outcome is None and left <= 0:
            outcome = io.run(watch.give_up(io, time_is_over))
        if outcome is not None or (deferrable and earlier_memory.is_settled):
            if outcome is not None:
                measured.over()
            live.settle(outcome)
            measured.ended()
            return outcome
        live.show()
        pause = max(0.0, min(began + watch.interval - time.monotonic(), left))
        (earlier_memory.wait if earlier_memory.is_being_read else time.sleep)(pause)


def verified(watch: Watch, io: WorkerGuardIO, outcome: Outcome) -> Outcome:
    """The outcome with a verified stop, if the guard has not waited for the end of its stop."""
    if outcome.stop is None or outcome.stop["outcome"] != STOPPING:
        return outcome
    return io.run(watch.verify(io)) or outcome
