"""How the time of something grows with its input: a mark that holds on any machine."""

from __future__ import annotations

import time
from collections.abc import Callable


def growth(work: Callable[[int], Callable[[], object]], size: int, *, tries: int = 5) -> float:
    """How many times as long it takes for twice the input; next to nothing counts as 2 ms.

    :param work: prepares an input of a size; what it returns is timed
    """

    def shortest(size: int) -> float:
        do = work(size)
        times = []
        for _ in range(tries):
            start = time.thread_time()  # whatever else the machine is busy with
            do()
            times.append(time.thread_time() - start)
        return max(min(times), 0.002)

    once = shortest(size)
    return shortest(2 * size) / once
