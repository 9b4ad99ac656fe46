"""Measures the emulator against its promises: ``python benchmarks/emulator.py`` prints a table.

The promises: ``show`` with ``limit=1`` answers in under 5 ms at the median whatever the fleet's
size, with 30,000 devices in one task and 1,000 tasks at once; memory grows by at most 300 bytes a
device. Every figure is over real HTTP with real signatures, one call after the other on one
connection. The times exclude the client's signing. The CPU column includes client and server;
compare it if the machine has other work.

Measured with Python 3.11 on two cores that were busy with other work (load average 11 to 13):

    what                                        median     99th percentile   CPU a call
    show limit=1, 1 device                      3.73 ms    27.80 ms          1.56 ms
    show limit=1, 1,000 devices                 2.55 ms    18.54 ms          1.22 ms
    show limit=1, 30,000 devices                1.77 ms    15.95 ms          1.06 ms
    show limit=1, 30,000 devices, 1,000 tasks   2.35 ms    24.35 ms          1.07 ms
    show limit=50 of the failed, the same       1.24 ms    10.86 ms          1.15 ms
    list limit=50, the same                     5.97 ms    21.13 ms          2.30 ms
    show device, the same                       2.53 ms    25.35 ms          1.00 ms

    create, 30,000 targets                       101 ms
    all 30,000 begin at one moment               707 ms
    stop of all                                  392 ms
    all 30,000 have stopped                      279 ms
    a day of 30,000 devices                    1,550 ms

    77 bytes a device, all of them in a running task
"""

from __future__ import annotations

import gc
import http.client
import json
import platform
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer

from iotda_provider.emulator import Emulator
from iotda_provider.emulator.common.clock import to_micro
from iotda_provider.emulator.scenario.scenario import Scenario
from iotda_provider.emulator.service.world import World

TASK = "a" * 24
TASKS = "/v5/iot/emulator-project/batchtasks"
SHOW = f"{TASKS}/{TASK}?limit=1"
LIST = f"{TASKS}?task_type=firmwareUpgrade"
CALLS = 400
FLEET: dict[str, Any] = {
    "failure_rate": 0.1,
    "success_after": {"distribution": "lognormal", "median": 7200, "sigma": 0.5},
    "failure_after": {"distribution": "exponential", "mean": 600},
}


class Client:
    """Signed calls on one connection, timed."""

    def __init__(self, emulator: Emulator) -> None:
        settings = emulator.instance.settings
        self._host = emulator.url.removeprefix("http://")
        self._connection = http.client.HTTPConnection(self._host)
        self._signer = Signer(BasicCredentials(settings.ak, settings.sk, settings.project_id))

    def call(self, method: str, path: str, body: object = None) -> tuple[float, bytes]:
        """One call; returns its seconds and body."""
        parts = urlsplit(path)
        raw = "" if body is None else json.dumps(body)
        request = SdkRequest(
            method=method,
            schema="http",
            host=self._host,
            resource_path=parts.path,
            query_params=parse_qsl(parts.query),
            header_params={"Content-Type": "application/json"},
            body=raw,
        )
        self._signer.sign(request)
        begun = time.perf_counter()
        self._connection.request(method, path, raw or None, request.header_params)
        response = self._connection.getresponse()
        answer = response.read()
        seconds = time.perf_counter() - begun
        if response.status >= 300:
            raise RuntimeError(answer.decode())
        return seconds, answer

    def row(self, name: str, path: str) -> str:
        """One line of the table: many calls of this path."""
        begun = time.process_time()
        times = sorted(self.call("GET", path)[0] * 1000 for _ in range(CALLS))
        cpu = (time.process_time() - begun) * 1000 / CALLS
        middle, late = statistics.median(times), times[int(len(times) * 0.99)]
        return f"| {name} | {middle:.2f} ms | {late:.2f} ms | {cpu:.2f} ms |"


def reading() -> list[str]:
    """How long ``show`` and ``list`` take, while the rollout goes on at 60 times real time."""
    rows = []
    for devices in (1, 1_000, 30_000):
        with Emulator({**FLEET, "devices": devices, "batch_tasks": [{"task_id": TASK}]}) as e:
            e.advance(600)
            rows.append(Client(e).row(f"show limit=1, {devices:,} devices", SHOW))
    tasks = [{"task_id": TASK}, *({"targets": 100} for _ in range(999))]
    scenario = {**FLEET, "devices": 30_000, "batch_tasks": tasks}
    with Emulator(scenario, speed=60) as e:
        e.advance(600)
        client = Client(e)
        rows.append(client.row("show limit=1, 30,000 devices, 1,000 tasks", SHOW))
        fail = f"{TASKS}/{TASK}?limit=50&task_detail_status=Fail"
        rows.append(client.row("show limit=50 of the failed, the same", fail))
        rows.append(client.row("list limit=50, the same", f"{LIST}&limit=50"))
        device = f"{TASKS.removesuffix('batchtasks')}devices/device-15000"
        rows.append(client.row("show device, the same", device))
    return rows


def acting() -> list[str]:
    """How long the large single acts take on 30,000 devices."""
    with Emulator({**FLEET, "devices": 30_000}, speed=0) as e:
        client = Client(e)
        body = {
            "task_name": "all",
            "task_type": "firmwareUpgrade",
            "targets": [f"device-{n:05d}" for n in range(30_000)],
            "document": {"package_ids": ["abc"]},
        }
        seconds, answer = client.call("POST", TASKS, body)
        rows = [f"| create, 30,000 targets | {seconds * 1000:.0f} ms | | |"]
        task_id = json.loads(answer)["task_id"]
        for name, act in (
            ("all 30,000 begin at one moment", lambda: e.advance(2)),
            ("a quarter of an hour", lambda: e.advance(900)),
            ("stop of all", lambda: client.call("POST", f"{TASKS}/{task_id}/stop", {})),
            ("all 30,000 have stopped", lambda: e.advance(10)),
        ):
            rows.append(f"| {name} | {timed(act) * 1000:.0f} ms | | |")
    with Emulator({**FLEET, "devices": 30_000, "batch_tasks": [{}]}, speed=0) as e:
        seconds = timed(lambda: e.advance(24 * 3600))
    return [*rows, f"| a day of 30,000 devices | {seconds * 1000:.0f} ms | | |"]


def timed(act: Callable[[], object]) -> float:
    """The seconds that a function takes."""
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def memory(devices: int) -> int:
    """The bytes of a world with this many devices, all of them in one running task."""
    gc.collect()
    tracemalloc.start()
    ids = {"targets": "all", "task_id": TASK}
    world = World(Scenario.read({**FLEET, "devices": devices, "batch_tasks": [ids]}), 0, 0.0)
    world.advance(to_micro(600))
    gc.collect()
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    if world.task(TASK).live == 0:
        raise RuntimeError("the task has ended, which is not what was to be measured")
    return taken


def main() -> int:
    """Print the tables."""
    print(f"Python {platform.python_version()}, {CALLS} calls a row\n")
    print("| what | median | 99th percentile | CPU a call |\n|---|---|---|---|")
    for line in (*reading(), *acting()):
        print(line, flush=True)
    per_device = (memory(100_000) - memory(100)) / 99_900
    print(f"\nMemory: {per_device:.0f} bytes a device, all of them in a running task")
    return 0


if __name__ == "__main__":
    sys.exit(main())
