"""Twenty first tasks at once, each a process of its own, agree on what their Airflow is called."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from iotda_provider.airflow_support.installation import VARIABLE
from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.operators.batch_task.create import CreateBatchTaskOperator
from iotda_provider.procedures.create_once import stamp_in, stamp_of

pytestmark = pytest.mark.slow  # twenty processes on one database
TASKS = 20


class TaskInstance:
    dag_id, run_id, map_index = "dag", "run", -1

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id

    def xcom_push(self, key: str, value: Any) -> None:
        pass


def _create(number: int, ready: Any, made: Any) -> None:
    from airflow import settings

    # A connection of the process that this one was forked from is not ours.
    settings.engine.dispose(close=False)
    operator = CreateBatchTaskOperator(
        task_id=f"create_{number}",
        task_name="rollout",
        task_type="firmwareUpgrade",
        targets=[f"device-{number:05}"],
        document={"package_ids": ["32822e5744a45ede319d2c50"]},
    )
    ready.wait(60)
    created = operator.execute({"ti": TaskInstance(operator.task_id)})  # type: ignore[typeddict-item]
    made.put((operator.task_id, created["batch_task_id"]))


@pytest.mark.iotda_emulator(scenario={"devices": TASKS, "batch_tasks": []})
def test_twenty_first_tasks_at_once_use_one_id(
    airflow_database: Path, iotda_connection: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.models.variable import Variable

    monkeypatch.delenv("AIRFLOW__IOTDA__INSTALLATION_ID")
    # As a worker's, but without a supervisor in between.
    monkeypatch.setattr("iotda_provider.airflow_support.task_notes.variables", lambda: Variable)
    forking = multiprocessing.get_context("fork")
    ready, made = forking.Barrier(TASKS), forking.Queue()
    tasks = [forking.Process(target=_create, args=(n, ready, made)) for n in range(TASKS)]
    try:
        for task in tasks:
            task.start()
        ids = dict(made.get(timeout=240) for _ in tasks)
    finally:
        for task in tasks:
            task.join(30)
            task.kill()

    installation = Variable.get(VARIABLE)
    with IoTDAHook() as hook:
        stamps = {one.task_id: stamp_in(one.task_name) for one in hook.list_batch_tasks()}
    assert stamps == {
        batch_task_id: stamp_of(installation, "dag", "run", task_id, -1)
        for task_id, batch_task_id in ids.items()
    }
    assert len(stamps) == TASKS
    Variable.delete(VARIABLE)
