"""An asset's watcher in a real triggerer: a DAG runs once for a broken rollout, restarts or not."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.system.restarts.parts import VERSION

from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.models import BatchTask

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(VERSION < (3, 3), reason="an asset has a state since Airflow 3.3"),
]

EXAMPLE = Path(__file__).resolve().parents[3] / "dags" / "rollout_guard_event.py"
DAG = """
from airflow.providers.common.compat.sdk import dag, task
from airflow.sdk import Asset, AssetWatcher

from iotda_provider.guards import MaxFailures
from iotda_provider.triggers.rollout_breach import RolloutBreachTrigger

watcher = AssetWatcher(
    name="watcher", trigger=RolloutBreachTrigger(rules=MaxFailures(3), poll_interval=1)
)

@dag(dag_id="on_breach", schedule=[Asset("breach", watchers=[watcher])])
def on_breach():
    @task
    def broken(triggering_asset_events=None):
        events = [e for some in triggering_asset_events.values() for e in some]
        return [event.extra["payload"]["batch_task_id"] for event in events]

    broken()

on_breach()
"""
#: Looks that a watcher is given in which to fire.
LOOKS = 5
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def scenario() -> dict[str, Any]:
    """The first half of the fleet takes every upgrade well, the second half none."""
    return {
        "devices": 40,
        "success_after": 100,
        "failure_after": 100,
        "dispatch_rate": 0.05,
        "segments": [{"count": 20, "failure_rate": 0.0}, {"count": 20, "failure_rate": 1.0}],
    }


class Platform:
    """Rollouts, and what the watchers have made of them."""

    def __init__(self, airflow: Any, emulator: Any) -> None:
        self.airflow, self.emulator = airflow, emulator

    def roll_out(self, first_device: int) -> str:
        """An upgrade of twenty devices that has come to its sixth."""
        name = f"rollout_{next(_numbers)}"
        task_id = self.emulator.new_upgrade(name, 20, first=first_device)
        self.emulator.advance(190)
        return task_id

    def task(self, task_id: str) -> BatchTask:
        with IoTDAHook() as hook:
            return hook.get_batch_task(task_id)

    def stop(self, *task_ids: str) -> None:
        with IoTDAHook() as hook:
            for task_id in task_ids:
                hook.stop_batch_task(task_id)
        self.emulator.advance(1000)

    def runs(self, dag_id: str) -> list[str]:
        """The states of a DAG's runs."""
        found = self.airflow.query("select state from dag_run where dag_id = ?", dag_id)
        return [state for (state,) in found]

    def runs_about(self, task_id: str) -> int:
        """How many runs have heard of a rollout."""
        found = self.airflow.query("select value from xcom where dag_id = 'on_breach'")
        return sum(task_id in str(value) for (value,) in found)

    def wait_for_looks(self, count: int = LOOKS) -> None:
        """Wait until the watchers have seen what is now, so many times."""
        before = len(self.emulator.journal("list_batch_tasks"))
        self.airflow.wait_for(
            "looks", lambda: len(self.emulator.journal("list_batch_tasks")) > before + 6 * count
        )

    def wait_for_runs(self, dag_id: str, count: int) -> None:
        self.airflow.wait_for(
            f"{count} run(s) of {dag_id}", lambda: self.runs(dag_id) == ["success"] * count
        )


@pytest.fixture
def platform(airflow: Any, emulator: Any) -> Platform:
    return Platform(airflow, emulator)


def test_a_dag_runs_once_for_each_broken_rollout(airflow: Any, platform: Platform) -> None:
    healthy = platform.roll_out(first_device=0)
    (airflow.dags / "on_breach.py").write_text(DAG)
    platform.wait_for_looks()
    assert platform.task(healthy).progress.success >= 3
    assert platform.runs("on_breach") == []

    broken = platform.roll_out(first_device=20)
    platform.wait_for_runs("on_breach", 1)
    platform.wait_for_looks()
    airflow.kill("triggerer")
    airflow.start("triggerer")
    platform.wait_for_looks()
    assert platform.task(broken).progress.fail >= 3
    assert not platform.task(broken).status.is_terminal
    assert platform.runs("on_breach") == ["success"]

    # It has not fallen silent, either.
    another = platform.roll_out(first_device=20)
    platform.wait_for_runs("on_breach", 2)
    platform.wait_for_looks()
    assert platform.runs("on_breach") == ["success", "success"]
    about = [platform.runs_about(task_id) for task_id in (healthy, broken, another)]
    assert about == [0, 1, 1]

    platform.stop(broken, another)
    (airflow.dags / "on_breach.py").unlink()


def test_the_example_stops_the_rollout(airflow: Any, emulator: Any, platform: Platform) -> None:
    shutil.copy(EXAMPLE, airflow.dags)
    broken = platform.roll_out(first_device=20)

    airflow.wait_for("the stop", lambda: platform.task(broken).status.is_stop)
    emulator.advance(1000)
    platform.wait_for_runs("rollout_guard_event", 1)

    assert str(platform.task(broken).status) == "Stopped"
    (stop,) = [e for e in emulator.journal("stop_batch_task") if broken in e["path"]]
    assert stop["status"] == 200
    failed = airflow.xcom("rollout_guard_event", "collect_failures")
    assert {row["target"] for row in failed} <= {f"device-{n:05}" for n in range(20, 40)}
    assert len(failed) >= 3
