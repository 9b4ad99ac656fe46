"""Tries the installed package out, as a user would; ``package.py`` runs it in an empty environment.

It gets the path of the checkout, from which nothing may come. Its last line is JSON:
``{"worked", "failed"}``, lists of sentences.
"""

from __future__ import annotations

import concurrent.futures
import importlib.metadata
import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

DAG = """
from datetime import datetime, timezone

from airflow.providers.common.compat.sdk import DAG

from iotda_provider.guards import SequentialFailureTest
from iotda_provider.sensors.batch_task import RolloutGuardSensor

with DAG("guard", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)):
    RolloutGuardSensor(
        task_id="guard",
        batch_task_id="{task_id}",
        rules=SequentialFailureTest(0.02),
        stop_on_breach=True,
        poke_interval=0.5,
    )
"""
TEST = """
def test_the_emulator_is_there(iotda_emulator):
    assert iotda_emulator.airflow_connection["conn_type"] == "iotda"
"""


def main() -> int:
    found: dict[str, list[str]] = {"worked": [], "failed": []}

    def attempt(check: Callable[[], str]) -> None:
        began = time.monotonic()
        try:
            said = check()
            found["worked"].append(f"{said} ({time.monotonic() - began:.0f} s)")
        except Exception as error:  # noqa: BLE001 - whatever does not work is reported
            found["failed"].append(f"{check.__name__.replace('_', ' ')}: {error!r:.1000}")

    # Each mostly waits for a process, and a process mostly imports Airflow: two at a time.
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for check in (nothing_of_the_checkout, console_scripts, providers, plugins, pytest_plugin):
            pool.submit(attempt, check)
        pool.submit(attempt, guard_run)
    print(json.dumps(found))
    return 1 if found["failed"] else 0


def nothing_of_the_checkout() -> str:
    import iotda_provider

    checkout = Path(sys.argv[1]).resolve()
    environment = Path(sys.prefix).resolve()
    place = Path(iotda_provider.__file__).resolve()
    assert environment in place.parents, place
    outside = [path for path in map(Path, filter(None, sys.path)) if checkout in path.parents]
    outside = [path for path in outside if environment.parent not in (path, *path.parents)]
    assert not outside, outside
    said = importlib.metadata.metadata("airflow-provider-iotda")
    assert importlib.metadata.version("airflow-provider-iotda") == iotda_provider.__version__
    return f"{said['Name']} {said['Version']} is in {place.parent.parent.name}"


def console_scripts() -> str:
    for name in ("iotda-guard", "iotda-emulator"):
        assert "usage" in command(name, "--help").lower()
    plan = command("iotda-guard", "plan", "--help")
    assert "usage" in plan.lower()
    return "iotda-guard --help, iotda-emulator --help"


def providers() -> str:
    rows = json.loads(last_json(command("airflow", "providers", "list", "--output", "json")))
    (row,) = [row for row in rows if row["package_name"] == "airflow-provider-iotda"]
    return f"airflow providers list: {row['package_name']} {row['version']}"


def plugins() -> str:
    said = command("airflow", "plugins", "--output", "json")
    assert "iotda_rollouts" in said, said
    return "airflow plugins: iotda_rollouts"


def pytest_plugin() -> str:
    Path("pytest.ini").write_text("[pytest]\n")  # not the checkout's, in which this folder is
    Path("test_plugin.py").write_text(TEST)
    said = command(sys.executable, "-m", "pytest", "-q", "test_plugin.py")
    assert "1 passed" in said, said
    return "pytest: the fixture iotda_emulator"


def guard_run() -> str:
    from iotda_provider.emulator import Emulator

    command("airflow", "db", "migrate")
    scenario = {
        "devices": 300,
        "dispatch_rate": 20,
        "failure_rate": 0.5,
        "failure_after": 20,
        "batch_tasks": [{"task_name": "rollout", "targets": "all"}],
    }
    # It begins with its first guard: no virtual time passes before.
    with Emulator(scenario, speed=0) as emulator:
        (task_id,) = emulator.instance.world._ids
        text = textwrap.dedent(DAG).format(task_id=task_id)
        Path("dags", "guard.py").write_text(text)
        connection = {"AIRFLOW_CONN_IOTDA_DEFAULT": json.dumps(emulator.airflow_connection)}
        process = subprocess.Popen(
            ["airflow", "dags", "test", "guard"],
            env=os.environ | connection,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            while process.poll() is None and not emulator.journal("stop_batch_task"):
                if emulator.journal("show_batch_task"):
                    emulator.advance(5)
                time.sleep(0.2)
            while process.poll() is None:
                emulator.advance(5)
                time.sleep(0.2)
            said, _ = process.communicate()
        finally:
            process.kill()
            process.wait()
        sys.stderr.write(said)
        world = emulator.instance.present()
        counts = world.task(task_id).progress()
        stops = len(emulator.journal("stop_batch_task"))
    assert stops, said[-1500:]
    assert counts["stopped"] > 0, counts
    return (
        f"airflow dags test: the guard has stopped a bad rollout, {counts['stopped']} of 300 saved"
    )


def command(*words: str) -> str:
    answer = subprocess.run(
        words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    sys.stderr.write(f"--- {' '.join(words)}\n{answer.stdout}{answer.stderr}\n")
    if answer.returncode:
        raise RuntimeError(f"{' '.join(words)}: {(answer.stdout + answer.stderr)[-1500:]}")
    return answer.stdout


def last_json(text: str) -> str:
    """What Airflow prints after its warnings."""
    return text[text.index("[{") :]


if __name__ == "__main__":
    sys.exit(main())
