"""A release that ends while a batch task of it goes on leaves that to a guard run."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from tests.system.pipeline import DAGS

from iotda_provider.airflow_support.guard_runs import VARIABLE, guard_run_id

SECRET = "a secret of this test"


@pytest.fixture
def guard_dag(airflow_database: Path, run_dag: Any, fleet: Any) -> None:
    """The DAG that guards one rollout is known to Airflow."""
    from airflow.models.variable import Variable

    Variable.set(VARIABLE, SECRET)
    fleet(devices=200)
    if version("apache-airflow").startswith("2."):
        from airflow.models.dagbag import DagBag

        DagBag(DAGS / "rollout_guard.py", include_examples=False).sync_to_db()
    else:
        run_dag(DAGS / "rollout_guard.py", "rollout_guard")


def guard_runs() -> dict[str, Any]:
    """The confs of the guard runs that there are, by their ids."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session

    with create_session() as session:
        found = session.query(DagRun).filter(DagRun.dag_id == "guard_one_rollout")
        return {run.run_id: run.conf for run in found}


def test_a_release_that_fails_with_its_devices_held_starts_a_guard_for_them(
    guard_dag: None, release: Any, hurried: Any
) -> None:
    file = hurried()
    text = file.read_text()
    # Its first wave is not confirmed, so that nothing of the release guards what was created.
    before = "{{ params.max_in_flight or '' }}"
    assert text.count(before) == 1
    file.write_text(text.replace(before, "{{ 'no ' ~ params.timezone }}"))

    run = release(file, waves="50%, 100%")

    assert run.state == "failed"
    (part,) = run.xcom("rollout.wave_1_create")["parts"]
    batch_task_id = part["batch_task_id"]
    assert "_wave_1_of_2_part_1_afr" in part["task_name"]
    run_id = guard_run_id(SECRET, batch_task_id)
    assert run.xcom("unfinished")[0]["trigger_run_id"] == run_id
    assert guard_runs()[run_id] == {"batch_task_id": batch_task_id}
    # It is told beside, and not after.
    assert run.states["report"] == "failed"
    assert "NOT announced" in run.log


def test_a_release_whose_batch_task_has_ended_starts_none(guard_dag: None, release: Any) -> None:
    before = set(guard_runs())

    run = release(waves="50%, 100%")

    assert run.state == "success"
    assert run.xcom("unfinished") == []
    assert run.states["guard_unfinished"] == "skipped"
    assert set(guard_runs()) == before


@pytest.mark.parametrize(
    "beyond",
    [
        {"tolerated_rate": 0.999},
        {"gate_rate": 0.999},
        {"bake_minutes": 0},
        {"report_within_minutes": 1e9},
    ],
)
def test_the_form_takes_nothing_beyond_its_ceilings(
    run_dag: Any, fleet: Any, beyond: dict[str, Any]
) -> None:
    platform = fleet(devices=10)
    conf = {"package_id": "p", "group_ids": ["a"], "approval": "never", **beyond}
    ((name, value),) = beyond.items()
    with pytest.raises(Exception, match=f"(?s){value}.*(minimum|maximum)|{name}"):
        run_dag(DAGS / "firmware_release.py", conf=conf)
    assert not platform.asked("batchtasks")
