"""A release whose DAG a person has paused, as real Airflow tells of it."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import pytest

TELLS_TASKS = not version("apache-airflow").startswith("3.1.")
ITS_RUN = """
    @task
    def begin(dag_run=None):
        from airflow.models.dag import DagModel
        from airflow.utils.session import create_session

        from iotda_provider.hooks.iotda import IoTDAHook
        from iotda_provider.procedures.create_once import stamp_of, stamped_name
        from iotda_provider.release import under_way
        from iotda_provider.release.other_releases import ReleaseNote

        stamp = stamp_of("production", dag_run.dag_id, dag_run.run_id, "create", -1)
        with IoTDAHook() as hook:
            hook.create_batch_task(
                task_name=stamped_name("release", stamp, of_release=True),
                task_type="firmwareUpgrade",
                targets=["device-00001"],
                document={{"package_ids": ["32822e5744a45ede319d2c50"]}},
            )
        note = ReleaseNote(stamp, dag_run.dag_id, dag_run.run_id, "2.0.0", None, ("0000000a-0000",))
        under_way.enter(note, logging.getLogger("airflow.task"))
        with create_session() as session:
            # Airflow 2: dag.test() writes no row of a DAG.
            row = session.get(DagModel, dag_run.dag_id) or DagModel(
                dag_id=dag_run.dag_id, is_active=True
            )
            row.is_paused = {paused}
            session.add(row)

    begin() >> FindUnguardedRolloutsOperator(task_id="look")
"""


@pytest.mark.skipif(not TELLS_TASKS, reason="Airflow 3.1 tells no task which DAGs are paused")
@pytest.mark.parametrize("paused", [True, False])
@pytest.mark.iotda_emulator(scenario={"devices": 5}, speed=0)
def test_it_is_reported(run_tasks: Any, paused: bool) -> None:
    run = run_tasks(ITS_RUN.format(paused=paused))

    assert run.state == "success"
    assert ("The release of version 2.0.0" in run.log) is paused
    assert ("MAY BE UNGUARDED: its DAG is paused" in run.log) is paused
