"""Many deferred waits in one event loop: how late each look is, and what that costs.

``python benchmarks/bench_waits.py`` runs 1,000 triggers at an interval of 10 s for a minute. All
begin at once, as after a restart of the triggerer. A look's delay is the time from when it was due
to its answer, minus the server's latency. The first looks, which begin all at once, are reported
separately.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from typing import Any

import fast_server
from bench_hooks import connect, resident

from iotda_provider.triggers.batch_task import BatchTaskTrigger


class Watched(BatchTaskTrigger):
    """A wait that notes when its looks were due, and when they were answered."""

    def __init__(self, started: float, latency: float, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.latency = latency
        self.due = started
        self.late: list[float] = []

    async def look(self, hook: Any) -> Any:
        began = time.monotonic()
        # The second look is due after a random part of the interval, so that they fall out of step.
        due = began if len(self.late) == 1 else self.due
        event = await super().look(hook)
        self.late.append(time.monotonic() - due - self.latency)
        self.due = max(due, began) + self.poll_interval
        return event


async def drain(trigger: Watched) -> None:
    async for _ in trigger.run():
        raise SystemExit("a wait has ended")


async def watch(
    waits: int, interval: float, seconds: float, latency: float
) -> tuple[list[float], list[float]]:
    """How late the first looks were, and the others."""
    started = time.monotonic()
    triggers = [
        Watched(started, latency, batch_task_id=fast_server.TASK_ID, poll_interval=interval)
        for _ in range(waits)
    ]
    tasks = [asyncio.ensure_future(drain(trigger)) for trigger in triggers]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    first = [trigger.late[0] for trigger in triggers]
    return first, [late for trigger in triggers for late in trigger.late[1:]]


def described(late: list[float]) -> str:
    cuts = [1000 * cut for cut in statistics.quantiles(late, n=100)]
    return (
        f"{len(late):6} looks, late by {cuts[49]:.0f} ms (median), {cuts[98]:.0f} ms (p99), "
        f"{max(late) * 1000:.0f} ms at most"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--waits", type=int, default=1000)
    parser.add_argument("--interval", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--latency", type=float, default=0.05)
    arguments = parser.parse_args()
    with fast_server.running(arguments.latency) as url:
        connect(url)
        before, cpu = resident(), time.process_time()
        first, others = asyncio.run(
            watch(arguments.waits, arguments.interval, arguments.seconds, arguments.latency)
        )
        cpu = time.process_time() - cpu
    looks = len(first) + len(others)
    print(
        f"{arguments.waits} waits every {arguments.interval:.0f} s for {arguments.seconds:.0f} s, "
        f"{arguments.latency * 1000:.0f} ms of server latency:\n"
        f"  all at once at the start: {described(first)}\n"
        f"  afterwards:               {described(others)}\n"
        f"  {cpu / arguments.seconds:.1%} of a core, {cpu / looks * 1e6:.0f} us of CPU per look, "
        f"{resident() - before:.0f} MB for the waits"
    )


if __name__ == "__main__":
    main()
