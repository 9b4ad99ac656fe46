"""A hundred rollouts are listed no slower than Airflow lists as many DAGs, asked alternately."""

from __future__ import annotations

import json
import statistics
import time
import uuid
from typing import Any

import pytest
from tests.system.ui.test_routes import BAD, GUARD, TASK

ROLLOUTS = 100


@pytest.mark.iotda_emulator(scenario=BAD, speed=0)
def test_a_hundred_rollouts_are_listed_as_fast_as_a_hundred_dags(
    run_tasks: Any, login: Any
) -> None:
    from airflow.api_fastapi.app import create_app
    from fastapi.testclient import TestClient

    run = run_tasks(GUARD.format(deferrable=False), "hundred_00")
    for number in range(1, ROLLOUTS):
        copy_of(run.dag_id, f"hundred_{number:02}", batch_task_id=f"{number:024x}")
    page = login("viewer")
    airflow = TestClient(create_app(apps="core"), headers=dict(page.headers))

    def ask(client: Any, path: str) -> tuple[float, Any]:
        began = time.perf_counter()
        answer = client.get(path)
        taken = time.perf_counter() - began
        assert answer.status_code == 200, answer.text
        return taken, answer.json()

    ours = "/iotda/api/rollouts?state=all&limit=1000"
    theirs = "/ui/dags?limit=100&dag_id_pattern=hundred"
    rows = ask(page, ours)[1]["rollouts"]
    assert len([row for row in rows if row["dag_id"].startswith("hundred")]) == ROLLOUTS
    assert len(ask(airflow, theirs)[1]["dags"]) == ROLLOUTS
    taken = [(ask(page, ours)[0], ask(airflow, theirs)[0]) for _ in range(9)]
    mine, airflows = (1000 * statistics.median(column) for column in zip(*taken, strict=True))
    print(f"{ROLLOUTS} rollouts: {mine:.0f} ms; as many DAGs of Airflow: {airflows:.0f} ms")
    assert mine <= airflows


def copy_of(dag_id: str, new: str, *, batch_task_id: str) -> None:
    """A copy of a DAG with its run, tasks and XComs, which are about another batch task."""
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    with create_session() as session:
        runs: dict[int, int] = {}
        for model in (DagModel, DagRun, TaskInstance, XComModel):
            table = model.__table__
            for row in session.execute(table.select().where(table.c.dag_id == dag_id)).mappings():
                values = {**row, "dag_id": new}
                if model is DagRun:
                    old = values.pop("id")
                    inserted = session.execute(table.insert().values(values))
                    runs[old] = inserted.inserted_primary_key[0]
                    continue
                if model is TaskInstance:
                    values["id"] = uuid.uuid4()
                if model is XComModel:
                    values["dag_run_id"] = runs[values["dag_run_id"]]
                    text = json.dumps(values["value"]).replace(TASK, batch_task_id)
                    values["value"] = json.loads(text)
                session.execute(table.insert().values(values))
