"""A thousand guards in one triggerer: calls a cycle, how late, what they write, how much memory.

    python benchmarks/bench_guard_1000.py [--guards 1000] [--interval 10] [--seconds 60]

The emulator, a process of its own, has as many running rollouts as there are guards, and checks
every signature. All guards share their readings. It measures twice: with counts in the list of
tasks, and without, when each look needs a call. A look's delay is the time from its tick to its
verdict. The first looks begin all at once, as after a restart, and are reported separately. What
would be written to Airflow is counted, and not written: XComs ``live``, and the guards' memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench_hooks import resident

from iotda_provider.guards import SequentialFailureTest
from iotda_provider.hooks.iotda_async import IoTDAAsyncHook
from iotda_provider.rollout_guard import GuardPlan, Watch
from iotda_provider.rollout_guard.memory_store import TriggererMemoryStore
from iotda_provider.triggers import shared_reads
from iotda_provider.triggers.rollout_guard import RolloutGuardTrigger

DEVICES = 20


@contextmanager
def emulator(rollouts: int) -> Iterator[None]:
    """As many rollouts as there are guards, at an endpoint that ``iotda_default`` leads to."""
    scenario = {
        "devices": DEVICES,
        "success_after": 90_000,
        "batch_tasks": [{"task_id": task_id(n), "targets": "all"} for n in range(rollouts)],
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(scenario, file)
        file.flush()
        command = [sys.executable, "-m", "iotda_provider.emulator", "--port", "0"]
        command += ["--ak", "AK", "--sk", "SK", "--project-id", "P", "--scenario", file.name]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            url = process.stdout.readline().strip().rsplit(" ", 1)[-1]
            connection = {
                "conn_type": "iotda",
                "host": url,
                "login": "AK",
                "password": "SK",
                "extra": {"region": "cn-north-4", "project_id": "P"},
            }
            os.environ["AIRFLOW_CONN_IOTDA_DEFAULT"] = json.dumps(connection)
            try:
                yield
            finally:
                process.kill()


def task_id(number: int) -> str:
    return f"{number + 1:024x}"


class QuietGuard(RolloutGuardTrigger):
    """A guard whose lines nobody reads."""

    log = logging.getLogger("nowhere")  # type: ignore[assignment]


def guard(number: int, interval: float) -> RolloutGuardTrigger:
    plan = GuardPlan(
        batch_task_ids=(task_id(number),),
        rules=(SequentialFailureTest(0.02),),
        stop_on_breach=True,
        poll_interval=interval,
    )
    owner = {"dag_id": "guards", "run_id": str(number), "task_id": "guard", "map_index": -1}
    return QuietGuard(plan=plan.to_dict(), owner=owner)


class Measure:
    """Notes every API call and every judged look."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.looks: list[float] = []
        self.written: dict[str, list[int]] = {}
        real_perform, real_judge = IoTDAAsyncHook._perform, Watch._judge

        async def perform(hook: Any, call: Any) -> Any:
            self.calls["list" if call.path.endswith("/batchtasks") else "show"] += 1
            return await real_perform(hook, call)

        async def judge(watch: Any, io: Any) -> Any:
            outcome = await real_judge(watch, io)
            self.looks.append(time.monotonic())
            return outcome

        def set_xcom(_: Any, key: str, value: Any) -> None:
            self._note(key, value)

        def set_memory(_: Any, memory: Any) -> None:
            self._note("memory", memory)

        async def nothing(*_: Any) -> None:
            return None

        IoTDAAsyncHook._perform = perform  # type: ignore[assignment, method-assign]
        Watch._judge = judge  # type: ignore[method-assign]
        TriggererMemoryStore._read = nothing  # type: ignore[assignment, method-assign]
        TriggererMemoryStore._set_memory = set_memory  # type: ignore[method-assign]
        TriggererMemoryStore._set_xcom = set_xcom  # type: ignore[method-assign]

    def _note(self, what: str, value: Any) -> None:
        self.written.setdefault(what, []).append(len(json.dumps(value)))

    def in_words(self, seconds: float) -> str:
        """What was written in so many seconds."""
        said = [
            f"{len(sizes) / seconds:.1f} {what} a second of {sum(sizes) / len(sizes):.0f} bytes"
            for what, sizes in self.written.items()
        ]
        return ", ".join(said) or "nothing"


async def drain(trigger: RolloutGuardTrigger) -> None:
    async for event in trigger.run():
        raise SystemExit(f"a guard has ended: {event.payload}")


async def watch(guards: int, interval: float, seconds: float, measure: Measure) -> str:
    # Begin well before a tick, so that the first looks are over by then.
    await asyncio.sleep(shared_reads.seconds_to_tick(time.monotonic(), interval, time.monotonic()))
    began = time.monotonic()
    tasks = [asyncio.ensure_future(drain(guard(n, interval))) for n in range(guards)]
    await asyncio.sleep(interval * 0.9)
    first, first_calls = [at - began for at in measure.looks], sum(measure.calls.values())
    measure.looks.clear()
    measure.calls.clear()
    measure.written.clear()
    cpu = time.process_time()
    await asyncio.sleep(seconds)
    cpu = time.process_time() - cpu
    cycles = round(seconds / interval)
    late = [at % interval for at in measure.looks]
    calls = ", ".join(f"{n / cycles:.1f} {kind}" for kind, n in measure.calls.items())
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return (
        f"    at the start: {first_calls} calls, {described(first)}\n"
        f"    afterwards:   {calls} calls a cycle, {described(late)}\n"
        f"    written:      {measure.in_words(seconds)}\n"
        f"    {cpu / seconds:.1%} of a core"
    )


def described(late: list[float]) -> str:
    cuts = [1000 * cut for cut in statistics.quantiles(late, n=100)]
    return (
        f"{len(late)} looks late by {cuts[49]:.0f} ms (median), {cuts[98]:.0f} ms (p99), "
        f"{max(late) * 1000:.0f} ms at most"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--guards", type=int, default=1000)
    parser.add_argument("--interval", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    chosen = parser.parse_args()
    print(f"{chosen.guards} guards every {chosen.interval:g} s for {chosen.seconds:g} s")
    logging.getLogger("nowhere").setLevel(logging.CRITICAL)
    measure, before = Measure(), resident()
    real_init = shared_reads.SharedReads.__init__
    with emulator(chosen.guards):
        for words, has_counts in (("the list shows counts", True), ("it shows none", False)):

            def init(made: Any, hook: Any, has_counts: bool = has_counts) -> None:
                real_init(made, hook)
                made._list_has_counts = has_counts

            shared_reads.SharedReads.__init__ = init  # type: ignore[method-assign]
            measure.looks.clear()
            measure.calls.clear()
            said = asyncio.run(watch(chosen.guards, chosen.interval, chosen.seconds, measure))
            print(f"  {words}:\n{said}, {resident() - before:.0f} MB more than before", flush=True)


if __name__ == "__main__":
    main()
