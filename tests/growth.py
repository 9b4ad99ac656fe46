"""How the time of something grows with its input: a mark that holds on any machine."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable


def growth(
    work: Callable[[int], Callable[[], object]], size: int, *, tries: int = 5, least: float = 0.002
) -> float:
    """How many times as long it takes for twice the input; both are timed in turn.

    A busy machine only ever adds to a time, so more tries are made while it looks like more than
    twice as long.

    :param work: prepares an input of a size; what it returns is timed
    :param least: seconds below which it is the clock that is measured: such a time counts as this
    """
    small, large = work(size), work(2 * size)
    once = twice = float("inf")
    for done in range(1, 4 * tries + 1):
        once = min(once, thread_seconds(small))
        twice = min(twice, thread_seconds(large))
        if done >= tries and max(twice, least) <= 2.1 * max(once, least):
            break
    return max(twice, least) / max(once, least)


def thread_seconds(work: Callable[[], object]) -> float:
    """How long it takes, whatever else the machine is busy with, and without Python's collector.

    That begins a collection at some number of new objects, which the larger input alone may reach.
    """
    gc.disable()
    try:
        start = time.thread_time()
        work()
        return time.thread_time() - start
    finally:
        gc.enable()
