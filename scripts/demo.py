"""The demo: a bad firmware on 1,000 emulated devices, stopped by a DAG in real Airflow.

make demo                        a guard watches, stops the rollout and branches
make demo ARGS="--speed 20"      slower, to read along
"""

from __future__ import annotations

import argparse
import json
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from workbench import ROOT, Workbench, WorkbenchError, connect, end, workbench

SCENARIO = ROOT / "scripts" / "scenarios" / "bad_firmware_to_confirm.json"
DAG_ID = "guard_one_rollout"
DAG_FILE = "dags/rollout_guard.py"


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--speed", type=float, default=10, help="virtual seconds in a second")
    arguments.add_argument("--scenario", type=Path, default=SCENARIO, help="what is played")
    options = arguments.parse_args()
    # `kill` ends the demo as Ctrl-C does: with its processes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print("Preparing Airflow ...", flush=True)
    try:
        with workbench("demo", scenario=options.scenario, speed=options.speed) as bench:
            return play(bench, options.speed)
    except WorkbenchError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: stopped; nothing is left running.", file=sys.stderr)
        return 130


def play(bench: Workbench, speed: float) -> int:
    say("1", f"IoTDA is emulated at {bench.emulator_url}, {speed:g}x as fast as real time.")
    hook = connect(bench)
    rollout = next(iter(hook.list_batch_tasks(task_type="firmwareUpgrade")))
    print(
        f"    A rollout of firmware 2.0.0 to {rollout.progress.total:,} devices is ready: batch "
        f"task {rollout.task_id}.\n    The image is bad, and nobody is looking at the console."
    )
    say("2", f"Airflow runs the DAG {DAG_ID} ({DAG_FILE}), which watches it.")
    log = bench.folder / "airflow.log"
    airflow = bench.airflow(
        "dags", "test", DAG_ID, "--conf", json.dumps({"batch_task_id": rollout.task_id}), log=log
    )
    try:
        wait_for_guard(bench.folder / "airflow.db", airflow)
        hook.confirm_batch_task(rollout.task_id)
        print("    The guard is watching: the rollout begins.")
        watch(hook, rollout.task_id, airflow)
    finally:
        hook.close()
        end(airflow)
    outcome = Outcome(bench.folder / "airflow.db")
    if airflow.returncode != 0 or not outcome.succeeded:
        print(f"\ndemo: the DAG did not succeed; see {log}", file=sys.stderr)
        return 1
    say("3", "What came of it")
    print(report(outcome))
    print(where_to_look_next(bench, log))
    return 0


def wait_for_guard(database: Path, airflow: subprocess.Popen[bytes]) -> None:
    """Return when the guard's task runs, however long Airflow takes to start on this machine."""
    query = (
        "select 1 from task_instance where task_id = 'guard' and state in ('running', 'deferred')"
    )
    while airflow.poll() is None:
        with (
            suppress(sqlite3.OperationalError),  # the database is locked for a moment
            closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection,
        ):
            if connection.execute(query).fetchone():
                return
        time.sleep(0.2)


def watch(hook: Any, task_id: str, airflow: subprocess.Popen[bytes]) -> None:
    """Print a line each time the counts have moved, until the DAG has ended."""
    seen = ""
    start = time.monotonic()
    while airflow.poll() is None:
        task = hook.get_batch_task(task_id)
        progress = task.progress
        line = (
            f"{progress.started:5,} started {progress.success:5,} ok {progress.fail:4,} failed "
            f"{progress.stopped:4,} stopped   {task.status}"
        )
        if line != seen:
            seen = line
            print(f"    {time.monotonic() - start:4.0f} s  {bar(progress)} {line}", flush=True)
        try:
            airflow.wait(1.5)
        except subprocess.TimeoutExpired:
            continue


def bar(progress: Any, width: int = 30) -> str:
    """Succeeded, failed, running, stopped and not yet started devices in one bar."""
    total = max(progress.total, 1)
    parts = (
        (progress.fail, "x"),
        (progress.success, "+"),
        (progress.processing + progress.fail_wait_retry, ">"),
        (progress.stopped + progress.removed, "#"),
    )
    text = ""
    shown = 0
    for count, mark in parts:
        shown += count
        text += mark * (round(shown / total * width) - len(text))
    return f"[{text.ljust(width, '.')}]"


class Outcome:
    """What the DAG run left in Airflow's database: states and XComs, as its user sees them."""

    def __init__(self, database: Path) -> None:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
            self.states: dict[str, str] = dict(
                connection.execute(
                    "select task_id, state from task_instance where dag_id = ?", (DAG_ID,)
                )
            )
            rows = connection.execute(
                "select task_id, key, value from xcom where dag_id = ?", (DAG_ID,)
            ).fetchall()
        # SQLite keeps a JSON number as a number.
        self._xcoms = {
            (task, key): json.loads(value) if isinstance(value, (str, bytes)) else value
            for task, key, value in rows
        }

    @property
    def succeeded(self) -> bool:
        """Whether every task succeeded or was skipped."""
        return bool(self.states) and set(self.states.values()) <= {"success", "skipped"}

    def xcom(self, task_id: str, key: str = "return_value") -> Any:
        """A pushed value, or None."""
        return self._xcoms.get((task_id, key))


def report(outcome: Outcome) -> str:
    guard = outcome.xcom("guard")
    if guard["verdict"] != "breached":
        return f"    {guard['summary']}"
    progress, evidence = guard["progress"], guard["evidence"]
    path = outcome.xcom("why_did_they_fail", "branch")
    reasons: dict[str, int] = {}
    for row in outcome.xcom("collect_failures"):
        reason = f"{row['error_code']}  {row['error_msg']}  ({row['failure_class']})"
        reasons[reason] = reasons.get(reason, 0) + 1
    most_first = sorted(reasons.items(), key=lambda item: -item[1])
    lines = [
        f"Why         {guard['summary'].split(' The guard ')[0]}",
        f"Started     {evidence['devices']:,} of {progress['total']:,} devices, when the guard "
        "decided",
        f"Succeeded   {progress['success']:,}",
        f"Failed      {progress['fail']:,}",
        *(f"              {count:4,}  {reason}" for reason, count in most_first),
        f"Saved       {progress['stopped']:,} devices were stopped before the bad image broke them",
        f"Branch      Airflow followed: {', '.join(path)}",
    ]
    return "\n".join(f"    {line}" for line in lines)


def where_to_look_next(bench: Workbench, log: Path) -> str:
    return f"""
    The DAG          {DAG_FILE}
    Airflow's log    {log.relative_to(ROOT)}
    Emulator's log   {(bench.folder / "emulator.log").relative_to(ROOT)}
    In the browser   make ui
    Your own fleet   README.md, "Use it"
"""


def say(step: str, text: str) -> None:
    print(f"\n[{step}] {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
