"""The sensor in real Airflow, waiting in its worker."""

from __future__ import annotations

import pytest
from tests.system.virtual_time import pass_with_looks

TASK = "0123456789abcdef01234567"


def rollout(**scenario):
    """A mark: a batch task on three devices."""
    scenario = {"devices": 3, "batch_tasks": [{"task_id": TASK}], **scenario}
    return pytest.mark.iotda_emulator(scenario=scenario, speed=0)


@pytest.fixture(autouse=True)
def _an_hour_takes_four_looks(iotda_emulator):
    pass_with_looks(iotda_emulator, 900)


@rollout(success_after=3600)
def test_the_final_state_is_the_return_value(run_tasks):
    run = run_tasks('BatchTaskSensor(task_id="wait", batch_task_id=TASK, poke_interval=0.1)')

    assert run.states == {"wait": "success"}
    assert run.xcom("wait")["status"] == "Success"
    assert run.xcom("wait")["progress"]["success"] == 3


@rollout(failure_rate=1, failure_after=3600)
def test_a_failed_rollout_fails_the_sensor_unless_told_otherwise(run_tasks):
    run = run_tasks("""
        for name, how in {"fails": {}, "returns": {"failure_statuses": ()}}.items():
            BatchTaskSensor(task_id=name, batch_task_id=TASK, poke_interval=0.1, **how)
    """)

    assert run.states == {"fails": "failed", "returns": "success"}
    assert run.xcom("returns")["status"] == "Fail"
    assert f"Batch task {TASK} is Fail: 0 succeeded, 3 failed of 3." in run.log


@rollout(success_after=1e9)
def test_a_rollout_that_never_ends_times_the_sensor_out(run_tasks):
    run = run_tasks("""
        for name, soft in {"fails": False, "skips": True}.items():
            BatchTaskSensor(
                task_id=name, batch_task_id=TASK, poke_interval=0.1, timeout=0.2, soft_fail=soft
            )
    """)

    assert run.states == {"fails": "failed", "skips": "skipped"}
