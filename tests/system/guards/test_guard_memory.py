"""A guard that is retried in real Airflow goes on with what its rules have seen."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

TASK = "0123456789abcdef01234567"
SILENT = {
    "devices": 20,
    "success_after": 1e9,
    "batch_tasks": [{"task_id": TASK, "task_name": "rollout", "targets": "all"}],
}
GOOD = {**SILENT, "success_after": 30}

# Each try ends at its third look, as by its execution_timeout; the rule waits for longer than that.
# Airflow 2's dag.test() retries after an Exception only, which a timeout is not.
GUARD = """
import itertools
from datetime import timedelta
from airflow.providers.common.compat.sdk import AirflowException, AirflowTaskTimeout
from iotda_provider.guards import Stalled

class ShortTries(RolloutGuardSensor):
    def hook(self):
        hook = super().hook()
        look, looks = hook.get_batch_task, itertools.count(1)

        def get_batch_task(batch_task_id):
            if next(looks) == 3:
                raise AirflowTaskTimeout("execution_timeout")
            return look(batch_task_id)

        hook.get_batch_task = get_batch_task
        return hook

    def execute(self, context):
        try:
            return super().execute(context)
        except AirflowTaskTimeout as error:
            raise AirflowException("this try is over") from error

ShortTries(
    task_id="guard", batch_task_id=TASK, rules=Stalled(45), poke_interval=0.05,
    retries=4, retry_delay=timedelta(0), deferrable=False,
)
"""


@pytest.fixture
def guards_time(iotda_emulator, monkeypatch):
    """The guard's clock is that of the fleet, which moves on by ten seconds after each look."""
    began, instance = time.time(), iotda_emulator.instance
    clock = SimpleNamespace(
        time=lambda: began + instance.clock.now() / 1e6, monotonic=time.monotonic, sleep=time.sleep
    )
    monkeypatch.setattr("iotda_provider.sensors.rollout_guard.time", clock)
    monkeypatch.setattr("iotda_provider.sensors.guard_loop.time", clock)


def variables():
    """The Variables that the provider has written, and not deleted."""
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session

    with create_session() as session:
        found = session.query(Variable).filter(Variable.key.like("iotda_provider.%"))
        return {variable.key for variable in found}


@pytest.fixture
def left_behind(airflow_database):
    """The same, without those of tests before this one."""
    before = variables()
    return lambda: variables() - before


@pytest.mark.iotda_emulator(scenario=SILENT, speed=0)
def test_a_retry_goes_on_with_the_rules_history(
    iotda_emulator, guards_time, run_tasks, left_behind
):
    run = run_tasks(GUARD)

    assert run.states == {"guard": "success"}
    result = run.xcom("guard")
    assert (result["verdict"], result["rule"]) == ("breached", "Stalled")
    assert "this try is over" in run.log
    # Two looks a try; all devices stand still since the second one, and do for 50 s at the seventh.
    assert len(iotda_emulator.journal("show_batch_task")) == 7
    assert left_behind() == set()


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "triggerer"])
@pytest.mark.iotda_emulator(scenario=GOOD, speed=0)
def test_a_guard_leaves_no_variable(run_tasks, left_behind, deferrable):
    run = run_tasks(f"""
RolloutGuardSensor(
    task_id="guard", batch_task_id=TASK, rules=MaxFailures(5), poke_interval=0.1,
    deferrable={deferrable},
)
""")

    assert run.xcom("guard")["verdict"] == "completed"
    assert left_behind() == set()
