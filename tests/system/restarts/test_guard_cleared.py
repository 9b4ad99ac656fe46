"""A deferred guard that somebody clears, under way or at its end, knows its own stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.system.restarts.parts import VERSION

from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.models import BatchTask

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

DAG_ID = "guarded_and_cleared"
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


@pytest.fixture(scope="module")
def scenario() -> dict[str, Any]:
    """Every device fails after a while, and a stop takes a while, of which a test is the master."""
    return {
        "devices": 20,
        "failure_rate": 1.0,
        "failure_after": 100,
        "dispatch_rate": 0.1,
        "switches": {"stop_after": 1000, "stopping_timeout": 1e9},
    }


@pytest.fixture
def task(airflow: Any, emulator: Any) -> Callable[[], BatchTask]:
    """A bad rollout under way, as it is now; a DAG's run guards it in the triggerer."""
    task_id = emulator.new_upgrade("rollout", 20)
    text = DAG.format(dag_id=DAG_ID, task_id=task_id)
    (airflow.dags / f"{DAG_ID}.py").write_text(text)
    airflow.run(DAG_ID)
    airflow.wait_for_states(DAG_ID, guard="deferred")

    def now() -> BatchTask:
        with IoTDAHook() as hook:
            return hook.get_batch_task(task_id)

    return now


def tries(airflow: Any) -> int:
    ((number,),) = airflow.query("select try_number from task_instance where dag_id = ?", DAG_ID)
    return int(number)


def test_its_verdict_and_evidence_outlive_the_clear(
    airflow: Any, emulator: Any, task: Callable[[], BatchTask]
) -> None:
    emulator.advance(125)
    assert task().progress.fail >= 3
    airflow.wait_for("the stop", lambda: task().status.is_stop)
    failed = task().progress.fail
    before = tries(airflow)

    airflow.clear(DAG_ID, "guard")
    airflow.wait_for(
        "the next try",
        lambda: tries(airflow) > before and airflow.states(DAG_ID)["guard"] == "deferred",
    )
    # Airflow 3 takes a task that is resumed before its scheduler has heard that the worker is done
    # for one that somebody has changed, and fails it.
    airflow.wait_for_heartbeats("scheduler", 3)
    emulator.advance(2000)
    airflow.wait_for_states(DAG_ID, guard="success")

    result = airflow.xcom(DAG_ID, "guard")
    assert (result["verdict"], result["rule"]) == ("breached", "MaxFailures")
    assert result["evidence"]["failed"] == failed
    assert (result["status"], result["stop"]["outcome"]) == ("Stopped", "stopped")
    assert result["stop"]["attempts"] == 1

    # And once more, when it has ended: by what the task state store or a Variable has kept.
    kept = airflow.query("select key from variable where key like 'iotda_provider.%'")
    assert len(kept) == (VERSION < (3, 3))
    before = tries(airflow)
    airflow.clear(DAG_ID, "guard")
    airflow.wait_for(
        "the try after it",
        lambda: tries(airflow) > before and airflow.states(DAG_ID)["guard"] == "success",
    )
    assert airflow.xcom(DAG_ID, "guard")["evidence"] == result["evidence"]
