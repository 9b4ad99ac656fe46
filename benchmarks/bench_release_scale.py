"""What a release costs by its size: API calls, memory, database bytes, and time at a rate of calls.

    python benchmarks/bench_release_scale.py [--devices 1000 30000 300000 1000000] [--speed 100]

A release as the shipped DAG makes it (check, plan, four waves and one of devices that were not
online lately, outcome, reconciliation with a report) against the emulator over real HTTP. Each
task, and each trigger, is a process of its own; nothing is handed over in memory. Virtual time
makes hours of waiting seconds. It prints the tables of docs/deployment.md, and each goal that is
missed; then it ends with 1. A million devices take about an hour of a core.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from release_scale_task import PACKAGE, PRODUCT, Kept  # noqa: E402
from tests.system.restarts.emulator_process import EmulatorProcess  # noqa: E402

#: As many devices as the platform lets a group have.
GROUP = 20_000
#: Shares of the product's devices: in the groups; offline, and half of these for longer than a day.
MEMBERS, OFFLINE = 0.98, 0.01
#: Calls a second.
RATE = 20
#: The goals.
MOST_CALLS, MOST_MEMORY, MOST_EMULATOR, MOST_XCOM = 1.1, 500e6, 2e9, 100e3
MOST_A_DEVICE, LONGEST_SHOW = 100, 2.0
#: Up to so many devices, XComs may hold ids.
FEW = 30_000
#: Bytes of an id as Python keeps it.
ID = sys.getsizeof("5c8fb9d0e2f14a5b9c0d1e2f_000000")
#: The reads of a guard, and the look of a wave's creation whether its batch tasks are ready.
_LOOKS = ("show_batch_task", "list_batch_tasks")


@dataclass
class Step:
    """What one task has taken, in worker and triggerer."""

    task_id: str
    calls: Counter[str]
    peak: int = 0
    cpu: float = 0.0
    seconds: float = 0.0
    processes: int = 0


@dataclass
class Release:
    """One release that has been carried out."""

    devices: int
    steps: list[Step] = field(default_factory=list)
    emulator: int = 0
    offline: int = 0
    members: int = 0
    targets: int = 0
    show: float = 0.0
    xcoms: list[tuple[str, int]] = field(default_factory=list)
    notes: int = 0
    files: int = 0
    verdict: str = ""
    times_formula: float = 0.0

    @property
    def calls(self) -> Counter[str]:
        """All calls by kind."""
        return sum((step.calls for step in self.steps), Counter())


class Bench:
    """One release of a size, from its emulator's start to its end.

    :param devices: devices of the product
    :param speed: virtual seconds a second
    :param deferrable: whether the tasks wait in a triggerer
    """

    def __init__(self, devices: int, speed: float, *, deferrable: bool) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="release-scale-"))
        self.release = Release(devices)
        self._deferrable = deferrable
        self._speed = speed
        self._members = int(devices * MEMBERS)
        sizes = [min(GROUP, self._members - start) for start in range(0, self._members, GROUP)]
        self._groups = [f"{number:08x}" for number in range(1, len(sizes) + 1)]
        groups = [
            {"name": f"part {number}", "group_id": group_id, "count": size}
            for number, (group_id, size) in enumerate(zip(self._groups, sizes, strict=True))
        ]
        scenario = {
            "devices": devices,
            "device_prefix": "5c8fb9d0e2f14a5b9c0d1e2f_",
            "layout": "mixed",
            "product_id": PRODUCT,
            "failure_rate": 0.003,
            "success_after": {"distribution": "lognormal", "median": 600, "sigma": 0.4},
            "failure_after": {"distribution": "exponential", "mean": 300},
            "offline_share": OFFLINE,
            "offline_for": {"distribution": "uniform", "min": 0, "max": 2 * 86400},
            "online_after": {"distribution": "uniform", "min": 3600, "max": 7200},
            "already_current": 0.01,
            "packages": [{"package_id": PACKAGE, "version": "2.0.0", "product_id": PRODUCT}],
            "groups": groups,
        }
        self._emulator = EmulatorProcess(self.home, scenario, speed=speed)
        self._kept = Kept(self.home / "airflow.db")

    def run(self) -> Release:
        """Carry it out."""
        try:
            self._emulator.start()
            self._write_down()
            self._task("check")
            self._task("rollout.plan")
            waves = len(self._xcom("rollout.plan")["waves"])
            for wave in range(1, waves + 1):
                for step in ("create", "confirm", "watch", "gate"):
                    self._task(f"rollout.wave_{wave}_{step}")
                self._measure_show(wave)
            self._task("rollout.outcome")
            self._task("at_rest")
            self._task("reconcile")
            self._count()
        finally:
            self._emulator.kill()
            shutil.rmtree(self.home)
        return self.release

    def _write_down(self) -> None:
        clock = self._emulator._control("GET", "clock")
        virtual = time.mktime(time.strptime(clock["time"], "%Y%m%dT%H%M%SZ")) - time.timezone
        path = None if self._members <= FEW else str(self.home / "files" / "release.json")
        run = {
            "connection": self._emulator.airflow_connection,
            "group_ids": self._groups,
            "online_within": 24,
            "waves": "300, 20%, 50%, 100%",
            "manifest_path": path,
            "deferrable": self._deferrable,
            "real": time.time(),
            "virtual": virtual,
            "speed": self._speed,
        }
        (self.home / "run.json").write_text(json.dumps(run))

    def _task(self, task_id: str) -> None:
        """Run one task to its end, with its triggers."""
        before = self._counts()
        step = Step(task_id, Counter())
        how = "execute"
        while how != "done":
            took = self._process(task_id, how)
            step.peak = max(step.peak, took["peak"])
            step.cpu += took["cpu"]
            step.seconds += took["seconds"]
            step.processes += 1
            how = {"deferred": "fire", "fired": "resume", "done": "done"}[took["ended"]]
        step.calls = self._counts() - before
        self.release.steps.append(step)
        print(
            f"  {task_id:24} {step.peak / 1e6:6.0f} MB {step.cpu:7.1f} s CPU "
            f"{step.seconds:7.1f} s {step.processes:3} process(es)  {dict(step.calls)}",
            flush=True,
        )

    def _process(self, task_id: str, how: str) -> dict[str, Any]:
        home = self.home / "home"
        home.mkdir(exist_ok=True)
        environment = {
            **os.environ,
            "HOME": str(home),
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__IOTDA__INSTALLATION_ID": "benchmark",
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        script = str(ROOT / "benchmarks" / "release_scale_task.py")
        with (self.home / "tasks.log").open("a") as log:
            done = subprocess.run(
                [sys.executable, script, str(self.home), task_id, how],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                check=False,
            )
        if done.returncode:
            said = (self.home / "tasks.log").read_text()[-4000:]
            raise SystemExit(f"{task_id} has failed ({how}):\n{said}\n{done.stdout[-2000:]}")
        return dict(json.loads(done.stdout.splitlines()[-1]))

    def _counts(self) -> Counter[str]:
        return Counter(self._emulator._control("GET", "journal?limit=0")["counts"])

    def _xcom(self, task_id: str) -> Any:
        return self._kept.get("xcom", task_id, "return_value")

    def _measure_show(self, wave: int) -> None:
        """How long the platform takes to show a batch task, the journal left out."""
        from iotda_provider.hooks.iotda import IoTDAHook

        os.environ["AIRFLOW_CONN_IOTDA_DEFAULT"] = json.dumps(self._emulator.airflow_connection)
        task_id = self._xcom(f"rollout.wave_{wave}_create")["batch_task_ids"][-1]
        with IoTDAHook() as hook:
            times = []
            for _ in range(50):
                began = time.perf_counter()
                hook.get_batch_task(task_id)
                times.append(time.perf_counter() - began)
        self.release.show = sorted(times)[len(times) // 2]

    def _count(self) -> None:
        release, process = self.release, self._emulator._process
        assert process is not None
        status = Path(f"/proc/{process.pid}/status").read_text()
        release.emulator = int(status.split("VmHWM:")[1].split()[0]) * 1024
        check, outcome = self._xcom("check"), self._xcom("rollout.outcome")
        release.members, release.targets = check["in_groups"], check["devices"]
        release.offline = release.calls["show_device"]
        release.xcoms = self._kept.sizes("xcom")
        kinds = ("note", "variable")
        release.notes = sum(size for kind in kinds for _, size in self._kept.sizes(kind))
        folder = self.home / "files"
        release.files = sum(file.stat().st_size for file in folder.glob("*"))
        release.verdict = outcome["verdict"]
        if release.verdict != "released":
            raise SystemExit(f"The release is {release.verdict}: {outcome['summary']}")


def report(release: Release) -> str:
    """The rows of the table."""
    calls = release.calls
    looks = sum(calls[name] for name in _LOOKS)
    formula = (
        ceil(release.targets / 100)
        + ceil(release.members / 50)
        + 2 * ceil(release.devices / 50)
        + release.offline
    )
    made = sum(calls.values()) - looks
    release.times_formula = (made + looks) / (formula + looks)
    peak = max(release.steps, key=lambda step: step.peak)
    largest = release.xcoms[0]
    lines = [
        f"| devices of the product | {release.devices:,} |",
        f"| calls without looks, and by the formula | {made:,}, {formula:,} "
        f"({made / formula:.2f} times; {release.times_formula:.2f} with looks in both) |",
        f"| looks | {looks:,} |",
        f"| time of all calls at {RATE} a second | {sum(calls.values()) / RATE / 3600:.2f} h |",
        f"| largest task | {peak.task_id}, {peak.peak / 1e6:.0f} MB |",
        f"| emulator | {release.emulator / 1e6:.0f} MB |",
        f"| XComs, the largest of them | {sum(s for _, s in release.xcoms):,} bytes, "
        f"{largest[0]} {largest[1]:,} bytes |",
        f"| notes and Variables, files | {release.notes:,} bytes, {release.files:,} bytes |",
        f"| show of a batch task | {release.show * 1000:.2f} ms |",
        *(f"| {name} | {count:,} |" for name, count in sorted(calls.items())),
    ]
    return "\n".join(lines)


def a_device(small: Release, large: Release) -> list[tuple[str, float]]:
    """By how many bytes a device each task has grown, ids included."""
    first = {step.task_id: step.peak for step in small.steps}
    more = large.devices - small.devices
    return [
        (step.task_id, (step.peak - first[step.task_id]) / more)
        for step in large.steps
        if step.task_id in first
    ]


def missed(release: Release, small: Release | None) -> list[str]:
    """The goals that a release has missed, a line each.

    :param small: the smallest release of this run, to compare with; None: this one
    """
    found = []

    def check(what: str, value: float, most: float, unit: str = "") -> None:
        if value > most:
            found.append(
                f"MISSED at {release.devices:,}: {what} {value:,.2f}{unit}, {most:,}{unit}"
            )

    check("calls by the formula, times", release.times_formula, MOST_CALLS)
    for step in release.steps:
        check(f"memory of {step.task_id}", step.peak / 1e6, MOST_MEMORY / 1e6, " MB")
    check("memory of the emulator", release.emulator / 1e6, MOST_EMULATOR / 1e6, " MB")
    if release.members > FEW:
        check(f"XCom {release.xcoms[0][0]}", release.xcoms[0][1], MOST_XCOM, " bytes")
    if small is not None:
        # Up to FEW devices the XComs that a task reads and writes have the ids, too, as text.
        for task_id, size in a_device(small, release) if release.members > FEW else ():
            check(f"bytes a device beside its id in {task_id}", size - ID, MOST_A_DEVICE)
        check("show of a batch task, times", release.show / small.show, LONGEST_SHOW)
    return found


def main() -> int:
    """Print the tables; 1 if a goal is missed."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument(
        "--devices", type=int, nargs="+", default=[1000, 30_000, 300_000, 1_000_000]
    )
    arguments.add_argument("--speed", type=float, default=100, help="virtual seconds a second")
    arguments.add_argument("--in-worker", action="store_true", help="wait there, not in triggers")
    options = arguments.parse_args()
    done: list[Release] = []
    all_missed: list[str] = []
    for devices in options.devices:
        print(f"{devices:,} devices", flush=True)
        release = Bench(devices, options.speed, deferrable=not options.in_worker).run()
        print(report(release), flush=True)
        if done:
            for task_id, size in a_device(done[0], release):
                print(f"| {task_id} | {size:.0f} bytes a device, its id included |", flush=True)
            print(f"| show | {release.show / done[0].show:.2f} times |", flush=True)
        lines = missed(release, done[0] if done else None)
        print("\n".join(lines) or "All goals are met.", flush=True)
        all_missed += lines
        done.append(release)
    return 1 if all_missed else 0


if __name__ == "__main__":
    sys.exit(main())
