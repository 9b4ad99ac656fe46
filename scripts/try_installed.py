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
import time
from collections.abc import Callable
from pathlib import Path

TASK_ID = "0123456789abcdef01234567"
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
        "batch_tasks": [{"task_id": TASK_ID, "task_name": "rollout", "targets": "all"}],
    }
    # It begins with its first guard: no virtual time passes before.
    with Emulator(scenario, speed=0) as emulator:
        Path("dags", "guard.py").write_text(DAG.format(task_id=TASK_ID))
        connection = {"AIRFLOW_CONN_IOTDA_DEFAULT": json.dumps(emulator.airflow_connection)}
        process = subprocess.Popen(
            ["airflow", "dags", "test", "guard"],
            env=os.environ | connection,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            stderr=sys.stderr,
        )
        try:
            looks = 0
            while process.poll() is None:
                seen = len(emulator.journal("show_batch_task"))
                if seen > looks:  # time passes from look to look, however slow this machine is
                    looks = seen
                    emulator.advance(5)
                time.sleep(0.1)
        finally:
            process.kill()
            process.wait()
        saved = emulator.instance.present().task(TASK_ID).progress()["stopped"]
    assert saved > 0, "nobody was saved"
    return f"airflow dags test: the guard has stopped a bad rollout, {saved} of 300 devices saved"


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
