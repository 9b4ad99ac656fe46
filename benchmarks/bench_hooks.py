"""Both hooks beside the official SDK's clients: calls a second, CPU per call, many targets, memory.

``python benchmarks/bench_hooks.py`` runs everything, ``... get stop iterate`` parts of it. Client
and server share this machine's cores. Server and work are the same for all clients. It fails where
the blocking hook needs more CPU per call than the SDK's blocking client, or more time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import fast_server

THREADS = 16
IN_FLIGHT = 64
TASK_ID = fast_server.TASK_ID


@dataclass(frozen=True)
class Measured:
    """Wall time and CPU time of this process for some calls, in seconds."""

    calls: int
    seconds: float
    cpu: float

    @property
    def rate(self) -> float:
        return self.calls / self.seconds

    def __str__(self) -> str:
        return f"{self.rate:8.0f} calls/s {self.cpu / self.calls * 1e6:7.0f} us CPU per call"


@contextmanager
def stopwatch(calls: int, results: list[Measured]) -> Iterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    results.append(Measured(calls, time.perf_counter() - wall, time.process_time() - cpu))


def connect(url: str, **extra: Any) -> None:
    connection = {
        "conn_type": "iotda",
        "host": url,
        "login": "access-key",
        "password": "secret-key",
        "extra": {"region": "cn-north-4", "project_id": fast_server.PROJECT_ID, **extra},
    }
    os.environ["AIRFLOW_CONN_IOTDA_DEFAULT"] = json.dumps(connection)


def sdk_client(url: str, asynchronous: bool = False) -> Any:
    from huaweicloudsdkcore.auth.credentials import BasicCredentials
    from huaweicloudsdkcore.http.http_config import HttpConfig
    from huaweicloudsdkcore.region.region import Region
    from huaweicloudsdkiotda import v5

    credentials = BasicCredentials("access-key", "secret-key", fast_server.PROJECT_ID)
    config = HttpConfig.get_default_config()
    config.pool_connections = config.pool_maxsize = IN_FLIGHT
    return (
        (v5.IoTDAAsyncClient if asynchronous else v5.IoTDAClient)
        .new_builder()
        .with_http_config(config)
        .with_credentials(credentials.with_derived_predicate(lambda request: True))
        .with_region(Region("cn-north-4", url))
        .build()
    )


# --- reading one task -----------------------------------------------------------------------------


def in_threads(calls: int, call: Callable[[], object]) -> Measured:
    results: list[Measured] = []
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda _: call(), range(THREADS * 4)))  # opens the connections
        with stopwatch(calls, results):
            list(pool.map(lambda _: call(), range(calls)))
    return results[0]


async def in_tasks(calls: int, call: Callable[[], Awaitable[object]]) -> Measured:
    results: list[Measured] = []

    async def work(numbers: Iterator[int]) -> None:
        for _ in numbers:
            await call()

    await asyncio.gather(*(work(iter(range(2))) for _ in range(IN_FLIGHT)))
    numbers = iter(range(calls))
    with stopwatch(calls, results):
        await asyncio.gather(*(work(numbers) for _ in range(IN_FLIGHT)))
    return results[0]


def get_sdk_sync(url: str, calls: int) -> Measured:
    from huaweicloudsdkiotda.v5 import ShowBatchTaskRequest

    client = sdk_client(url)
    return in_threads(
        calls, lambda: client.show_batch_task(ShowBatchTaskRequest(task_id=TASK_ID, limit=1))
    )


def get_sdk_async(url: str, calls: int) -> Measured:
    from huaweicloudsdkiotda.v5 import ShowBatchTaskRequest

    client = sdk_client(url, asynchronous=True)

    def some(count: int) -> None:
        request = ShowBatchTaskRequest(task_id=TASK_ID, limit=1)
        # Its pool has eight workers, each of which waits for a second one: more would deadlock.
        for start in range(0, count, 4):
            pending = [client.show_batch_task_async(request) for _ in range(min(4, count - start))]
            for answer in pending:
                answer.result()

    some(16)
    results: list[Measured] = []
    with stopwatch(calls, results):
        some(calls)
    return results[0]


def get_hook(url: str, calls: int) -> Measured:
    from iotda_provider.hooks.iotda import IoTDAHook

    with IoTDAHook() as hook:
        hook.get_batch_task(TASK_ID)
        return in_threads(calls, lambda: hook.get_batch_task(TASK_ID))


def get_async_hook(url: str, calls: int) -> Measured:
    from iotda_provider.hooks.iotda import IoTDAAsyncHook

    async def measure() -> Measured:
        async with IoTDAAsyncHook() as hook:
            return await in_tasks(calls, lambda: hook.get_batch_task(TASK_ID))

    return asyncio.run(measure())


SDK, HOOK = f"SDK, sync, {THREADS} threads", f"IoTDAHook, {THREADS} threads"
CLIENTS: dict[str, Callable[[str, int], Measured]] = {
    SDK: get_sdk_sync,
    "SDK, async client": get_sdk_async,
    HOOK: get_hook,
    f"IoTDAAsyncHook, {IN_FLIGHT} in flight": get_async_hook,
}


def bench_get(calls: int, rounds: int) -> bool:
    """Whether the blocking hook needs no more than the SDK's client, in calls that take turns."""
    holds = True
    for latency in (0.0, 0.05):
        print(f"\nget_batch_task, {latency * 1000:.0f} ms of server latency, median of {rounds}:")
        taken: dict[str, list[Measured]] = {name: [] for name in CLIENTS}
        with fast_server.running(latency) as url:
            connect(url)
            for turn in range(rounds):
                # In turns, and each is the first now and then, so that other work on the machine
                # slows all of them.
                names = list(CLIENTS)
                for name in names if turn % 2 else reversed(names):
                    taken[name].append(CLIENTS[name](url, calls))
        middle = {
            name: sorted(each, key=lambda one: one.rate)[rounds // 2]
            for name, each in taken.items()
        }
        base = middle[SDK]
        for name, one in middle.items():
            print(f"  {name:32} {one}   x {one.rate / base.rate:.1f}")
        holds &= compare(taken[HOOK], taken[SDK])
    return holds


def compare(ours: list[Measured], theirs: list[Measured]) -> bool:
    """Say how the hook stands to the SDK's client, round by round; whether it needs no more."""
    pairs = list(zip(ours, theirs, strict=True))
    cpu = statistics.median(a.cpu / a.calls / (b.cpu / b.calls) for a, b in pairs)
    seconds = statistics.median(b.rate / a.rate for a, b in pairs)
    holds = cpu <= 1 and seconds <= 1
    print(
        f"  IoTDAHook to the SDK's blocking client, median of the rounds' ratios: CPU per call "
        f"{cpu:.2f}, time {seconds:.2f}; at most 1.00 each: {'yes' if holds else 'NO'}"
    )
    return holds


# --- stopping many targets ------------------------------------------------------------------------


def bench_stop(targets: int) -> None:
    from iotda_provider.hooks import iotda, iotda_async  # noqa: F401 - their import isn't measured

    ids = [f"device-{number:07}" for number in range(targets)]
    calls = -(-targets // 100)
    for limit in (None, 20.0):
        said = "no limit" if limit is None else f"{limit:.0f} requests/s"
        print(f"\nstopping {targets} targets in {calls} calls, 50 ms latency, {said}:")
        with fast_server.running(0.05, targets) as url:
            connect(url, **({} if limit is None else {"max_requests_per_second": limit}))
            for name, stop in {
                "IoTDAHook": stop_hook,
                "IoTDAAsyncHook": stop_async_hook,
            }.items():
                results: list[Measured] = []
                with stopwatch(calls, results):
                    assert stop(ids) == targets
                taken = results[0]
                ideal = f", the limit allows {(calls - 1) / limit:.1f} s" if limit else ""
                print(f"  {name:32} {taken.seconds:6.2f} s{ideal}; {taken}")
            if limit is None:
                results = []
                with stopwatch(calls, results):
                    stop_sdk(url, ids)
                print(f"  {'SDK, sync, 16 threads, by hand':32} {results[0].seconds:6.2f} s")


def stop_hook(ids: list[str]) -> int:
    from iotda_provider.hooks.iotda import IoTDAHook

    with IoTDAHook() as hook:
        return len(hook.stop_batch_task(TASK_ID, ids).succeeded)


def stop_async_hook(ids: list[str]) -> int:
    from iotda_provider.hooks.iotda import IoTDAAsyncHook

    async def stop() -> int:
        async with IoTDAAsyncHook() as hook:
            return len((await hook.stop_batch_task(TASK_ID, ids)).succeeded)

    return asyncio.run(stop())


def stop_sdk(url: str, ids: list[str]) -> None:
    from huaweicloudsdkiotda import v5

    client = sdk_client(url)

    def stop(start: int) -> None:
        body = v5.BatchTargets(targets=ids[start : start + 100])
        client.stop_batch_task(v5.StopBatchTaskRequest(task_id=TASK_ID, body=body))

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(stop, range(0, len(ids), 100)))


# --- iterating many subtasks ----------------------------------------------------------------------


def resident() -> float:
    """This process's memory in MB, now."""
    with open("/proc/self/statm") as file:  # noqa: PTH123 - read a thousand times
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def bench_iterate(subtasks: int) -> None:
    from iotda_provider.hooks.iotda import IoTDAAsyncHook, IoTDAHook

    def watched(rows: Iterator[Any]) -> tuple[int, list[float]]:
        memory, count = [], 0
        for count, _ in enumerate(rows, start=1):
            if count % (subtasks // 100) == 0:
                memory.append(resident())
        return count, memory

    async def watched_async() -> tuple[int, list[float]]:
        memory, count = [], 0
        async with IoTDAAsyncHook() as hook:
            async for _ in hook.iter_subtasks(TASK_ID):
                count += 1
                if count % (subtasks // 100) == 0:
                    memory.append(resident())
        return count, memory

    print(f"\niterating {subtasks} subtasks, a look at the memory at each hundredth:")
    with fast_server.running(0.0, subtasks) as url:
        connect(url)
        for name in ("IoTDAHook", "IoTDAAsyncHook"):
            started = time.perf_counter()
            if name == "IoTDAHook":
                with IoTDAHook() as hook:
                    count, memory = watched(hook.iter_subtasks(TASK_ID))
            else:
                count, memory = asyncio.run(watched_async())
            assert count == subtasks, count
            seconds = time.perf_counter() - started
            print(
                f"  {name:32} {seconds:6.1f} s; {memory[0]:.0f} MB at 1 %, at most "
                f"{max(memory):.0f} MB (+{max(memory) - memory[0]:.1f}), median "
                f"{statistics.median(memory):.0f} MB"
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=["get", "stop", "iterate", []], default=[])
    parser.add_argument("--calls", type=int, default=3000, help="of get_batch_task in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--targets", type=int, default=30_000)
    parser.add_argument("--subtasks", type=int, default=1_000_000)
    arguments = parser.parse_args()
    parts = arguments.parts or ["get", "stop", "iterate"]
    holds = "get" not in parts or bench_get(arguments.calls, arguments.rounds)
    if "stop" in parts:
        bench_stop(arguments.targets)
    if "iterate" in parts:
        bench_iterate(arguments.subtasks)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
