"""The looks of a guard that watches in its worker, as its trigger takes them elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from iotda_provider.rollout_guard import Outcome, Watch
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
    iotda_conn_id: str,
    time_is_over: str,
    deferrable: bool,
) -> Outcome | None:
    """Look until the rollout has ended, or the guard's time is over.

    :param live: what people see of it
    :param earlier_memory: what an earlier try knew, which may come after the first look
    :param iotda_conn_id: the connection that people are told of
    :param time_is_over: why it gives up at the plan's deadline, as a sentence
    :param deferrable: a triggerer goes on where nothing has ended: the result is None once it is
        known what to hand over
    """
    deadline = watch.plan.deadline
    while True:
        began = time.monotonic()
        try:
            outcome = io.run(watch.poll(io))
        finally:
            live.introduce(iotda_conn_id)
        left = float("inf") if deadline is None else deadline - time.time()
        if outcome is None and left <= 0:
            outcome = io.run(watch.give_up(io, time_is_over))
        if outcome is not None or (deferrable and earlier_memory.is_settled):
            live.settle(outcome)
            return outcome
        live.show()
        pause = max(0.0, min(began + watch.interval - time.monotonic(), left))
        (time.sleep if earlier_memory.is_settled else earlier_memory.wait)(pause)


def verified(watch: Watch, io: WorkerGuardIO, outcome: Outcome) -> Outcome:
    """The outcome once its stop was seen to have come true, where nobody has waited for that."""
    if outcome.stop is None or outcome.stop["outcome"] != STOPPING:
        return outcome
    return io.run(watch.verify(io)) or outcome
