"""What importing the operators adds to a process that has imported ``airflow.sdk`` already.

Airflow imports a DAG's file each time it parses it: about every half minute for every DAG. Each
figure comes from fresh processes that take turns, so that a busy machine slows all rows alike. The
last rows are operators of Airflow's own providers, to compare.

    make bench            all benchmarks
    python benchmarks/bench_import.py --rounds 21
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile

GOAL = 30.0  # ms

STOP = "from iotda_provider.operators.batch_task import StopBatchTaskOperator"
BRANCH = "from iotda_provider.operators.branch import BranchOnTargetFailuresOperator"
SENSOR = "from iotda_provider.sensors.batch_task import BatchTaskSensor"
SUBJECTS = {
    "the operators' module": "import iotda_provider.operators.batch_task",
    "its StopBatchTaskOperator": STOP,
    "all of its operators": "from iotda_provider.operators.batch_task import *",
    "a stop, a branch and a sensor": f"{STOP}; {BRANCH}; {SENSOR}",
    "Airflow's PythonOperator": (
        "from airflow.providers.standard.operators.python import PythonOperator"
    ),
    "Airflow's HttpOperator": "from airflow.providers.http.operators.http import HttpOperator",
}
JUDGED = ("the operators' module", "its StopBatchTaskOperator")

PROGRAM = """
import json, sys, time
try:
    from airflow.sdk import DAG, BaseOperator
except ImportError:  # Airflow 2
    from airflow import DAG
    from airflow.models.baseoperator import BaseOperator
before, wall, cpu = set(sys.modules), time.perf_counter(), time.process_time()
{subject}
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
print("\\n" + json.dumps([wall * 1e3, cpu * 1e3, len(set(sys.modules) - before)]))
"""


def measure(subject: str, home: str) -> tuple[float, float, int]:
    """Milliseconds by the clock, milliseconds of CPU, and modules, of one fresh process."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name != "PYTHONDONTWRITEBYTECODE" and not name.startswith("AIRFLOW")
    }
    environment |= {"AIRFLOW_HOME": home, "HOME": home}
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM.format(subject=subject)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    wall, cpu, modules = json.loads(answer.stdout.splitlines()[-1])
    return wall, cpu, modules


def main() -> int:
    """Print the table; returns 1 if the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="fresh processes for each row")
    rounds = parser.parse_args().rounds
    samples: dict[str, list[tuple[float, float, int]]] = {name: [] for name in SUBJECTS}
    with tempfile.TemporaryDirectory() as home:
        for number in range(rounds + 1):
            for name, subject in SUBJECTS.items():
                sample = measure(subject, home)
                if number:  # the first round writes Airflow's configuration and the byte code
                    samples[name].append(sample)

    airflow = importlib.metadata.version("apache-airflow")
    print(f"Airflow {airflow}, Python {platform.python_version()}, {rounds} fresh processes a row")
    print(f"{'import':32}{'CPU ms: median':>17}{'least':>9}{'clock ms: median':>18}{'modules':>9}")
    medians = {}
    for name, rows in samples.items():
        wall, cpu, modules = (list(column) for column in zip(*rows, strict=True))
        medians[name] = statistics.median(cpu)
        print(
            f"{name:32}{medians[name]:17.1f}{min(cpu):9.1f}"
            f"{statistics.median(wall):18.1f}{modules[0]:9d}"
        )
    missed = [name for name in JUDGED if medians[name] >= GOAL]
    print(f"goal: {' and '.join(JUDGED)} under {GOAL:.0f} ms: {'missed' if missed else 'met'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
