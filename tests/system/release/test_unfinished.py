"""A release that ends while a batch task of it goes on leaves that to a guard run."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS
from tests.system.pipeline import DAGS, PACKAGE, VERSION

from iotda_provider.airflow_support.guard_runs import VARIABLE, guard_run_id

SECRET = "a secret of this test"
GUARD, WAY_BACK, OLD = "guard_one_rollout", "roll_back_release", "01d"


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


def runs_of(dag_id: str) -> dict[str, Any]:
    """The confs of a DAG's runs that there are, by their ids."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session

    with create_session() as session:
        found = session.query(DagRun).filter(DagRun.dag_id == dag_id)
        return {run.run_id: run.conf for run in found}


def test_a_guard_is_started_for_devices_that_are_held_and_nothing_after_a_release_that_ended_well(
    guard_dag: None, release: Any, hurried: Any, fleet: Any, run_dag: Any, way_back_file: Path
) -> None:
    file = hurried(2)
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
    assert runs_of(GUARD)[run_id] == {"batch_task_id": batch_task_id}
    # It is told beside, and not after.
    assert run.states["report"] == "failed"
    assert "NOT announced" in run.log

    # Another one ends well: neither a guard nor a way back.
    # Airflow gets to know the DAG of the way back by a run that ends at once.
    how = "ask" if AIRFLOW_V_3_1_PLUS else "at once"
    run_dag(way_back_file, conf={"release_run_id": "none", "package_id": OLD, "how": how})
    packages = [
        {"package_id": PACKAGE, "version": VERSION},
        {"package_id": OLD, "version": "1.0.0"},
    ]
    fleet(devices=200, packages=packages)
    before = runs_of(GUARD), runs_of(WAY_BACK)

    run = release(waves="50%, 100%", rollback="at once", rollback_package_id=OLD)

    assert run.state == "success"
    assert run.xcom("unfinished") == []
    assert run.states["guard_unfinished"] == run.states["way_back"] == "skipped"
    assert (runs_of(GUARD), runs_of(WAY_BACK)) == before


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
