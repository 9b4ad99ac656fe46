"""How the time of something grows with its input: a mark that holds on any machine."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable


def growth(work: Callable[[int], Callable[[], object]], size: int, *, tries: int = 5) -> float:
    """How many times as long it takes for twice the input; next to nothing counts as 2 ms.

    :param work: prepares an input of a size; what it returns is timed
    """

    def shortest(size: int) -> float:
        do = work(size)
        return max(min(thread_seconds(do) for _ in range(tries)), 0.002)

    once = shortest(size)
    return shortest(2 * size) / once


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
