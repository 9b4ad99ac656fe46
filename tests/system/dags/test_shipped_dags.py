"""What holds of every task of the DAGs that are shipped, whatever Airflow's own defaults are."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

DAGS = Path(__file__).resolve().parents[3] / "dags"
BLIP = timedelta(minutes=4)


@pytest.fixture(scope="module")
def shipped(airflow_database: Path) -> dict[str, Any]:
    """The tasks of all shipped DAGs, by ``<dag>.<task>``."""
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # Airflow 2:
        from airflow.models.dagbag import DagBag

    bag = DagBag(dag_folder=str(DAGS))
    assert not bag.import_errors
    assert {"rollout_guard", "guard_one_rollout", "firmware_release"} <= set(bag.dags)
    return {f"{dag.dag_id}.{t.task_id}": t for dag in bag.dags.values() for t in dag.tasks}


def argument(task: Any, name: str) -> Any:
    """An argument of an operator, mapped or not."""
    return getattr(task, name, None) or getattr(task, "partial_kwargs", {}).get(name)


def test_everything_that_waits_does_so_in_the_triggerer(shipped: dict[str, Any]) -> None:
    waiting = {
        name: task
        for name, task in shipped.items()
        if hasattr(task, "deferrable") or "deferrable" in getattr(task, "partial_kwargs", {})
    }
    assert {"guard_one_rollout.guard", "stop_batch_task.stop_some_devices"} <= set(waiting)
    assert [name for name in waiting if argument(waiting[name], "deferrable") is not True] == []


def test_every_task_outlives_a_blip_of_minutes(shipped: dict[str, Any]) -> None:
    given_up = {
        name: (task.retries, task.retry_delay)
        for name, task in shipped.items()
        if task.retries * task.retry_delay < BLIP
    }
    assert given_up == {}


def test_what_guards_after_a_release_runs_also_where_somebody_marks_it_as_failed(
    shipped: dict[str, Any],
) -> None:
    """Airflow skips all but teardowns then."""
    assert shipped["firmware_release.unfinished"].is_teardown
    assert shipped["firmware_release.guard_unfinished"].is_teardown
