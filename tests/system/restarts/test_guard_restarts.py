"""A deferred guard in a real Airflow whose parts die: it stops in time, and knows its own stop."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.models import BatchTask

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

DAG = """
from airflow.providers.common.compat.sdk import DAG

from iotda_provider.guards import MaxFailures
from iotda_provider.sensors.batch_task import RolloutGuardSensor

with DAG({dag_id!r}, schedule=None):
    RolloutGuardSensor(
        rehearse_stop=False,
        task_id="guard",
        batch_task_id={task_id!r},
        rules=MaxFailures(3),
        stop_on_breach=True,
        poke_interval=1,
        deferrable=True,
    )
"""
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def scenario() -> dict[str, Any]:
    """Every device fails after a while, of which a test is the master."""
    return {"devices": 20, "failure_rate": 1.0, "failure_after": 100, "dispatch_rate": 0.1}


class Rollout:
    """A rollout of a bad firmware, and a DAG that guards it."""

    def __init__(self, airflow: Any, emulator: Any) -> None:
        self.airflow, self.emulator = airflow, emulator
        self.dag_id = f"guarded_{next(_numbers)}"
        self.task_id = emulator.new_upgrade(self.dag_id, 20)
        text = DAG.format(dag_id=self.dag_id, task_id=self.task_id)
        (airflow.dags / f"{self.dag_id}.py").write_text(text)
        airflow.run(self.dag_id)
        airflow.wait_for_states(self.dag_id, guard="deferred")

    def fail(self) -> None:
        """More devices have failed than the rule allows."""
        self.emulator.advance(125)
        assert self.task.progress.fail >= 3

    @property
    def task(self) -> BatchTask:
        with IoTDAHook() as hook:
            return hook.get_batch_task(self.task_id)

    def wait_for_stop(self) -> None:
        self.airflow.wait_for("the stop", lambda: self.task.status.is_stop)

    def result(self) -> dict[str, Any]:
        """What the guard reports in the end."""
        self.emulator.advance(300)
        self.airflow.wait_for_states(self.dag_id, guard="success")
        result: dict[str, Any] = self.airflow.xcom(self.dag_id, "guard")
        return result


@pytest.fixture
def rollout(airflow: Any, emulator: Any) -> Callable[[], Rollout]:
    return lambda: Rollout(airflow, emulator)


def test_the_stop_waits_for_no_scheduler_and_no_worker_slot(airflow: Any, rollout: Any) -> None:
    guarded = rollout()
    airflow.kill("scheduler")  # and nothing can run a task any more

    guarded.fail()
    guarded.wait_for_stop()
    airflow.start("scheduler")

    result = guarded.result()
    assert (result["verdict"], result["rule"]) == ("breached", "MaxFailures")
    assert (result["status"], result["stop"]["outcome"]) == ("Stopped", "stopped")


def test_a_guard_whose_triggerer_dies_with_its_stop_under_way_knows_it_as_its_own(
    airflow: Any, emulator: Any, rollout: Any
) -> None:
    """The platform has acted, the answer is on its way, and nobody is there any more."""
    guarded = rollout()
    fault = emulator.add_fault("latency", call="stop_batch_task", seconds=20, acted=True, count=1)
    guarded.fail()
    guarded.wait_for_stop()

    airflow.kill("triggerer")
    emulator.remove_fault(fault)
    airflow.start("triggerer")

    result = guarded.result()
    assert (result["verdict"], result["rule"]) == ("breached", "MaxFailures")
    assert result["evidence"]["failed"] >= 3
    assert result["stop"]["outcome"] == "stopped"


def test_a_guard_whose_triggerer_was_away_decides_when_it_is_back(
    airflow: Any, rollout: Any
) -> None:
    guarded = rollout()
    airflow.kill("triggerer")
    guarded.fail()

    airflow.start("triggerer")
    guarded.wait_for_stop()

    assert guarded.result()["verdict"] == "breached"
