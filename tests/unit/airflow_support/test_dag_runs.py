"""What a task at the end of a run sees of the others."""

from __future__ import annotations

from enum import Enum
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from iotda_provider.airflow_support.dag_runs import TasksOfRun


class State(str, Enum):
    SUCCESS, FAILED, SKIPPED = "success", "failed", "skipped"


XCOMS = {"made": 1, "skipped_now": 2, "broke": 3}
STATES = {
    "made": State.SUCCESS,
    "skipped_now": State.SKIPPED,
    "broke": State.FAILED,
    "another": State.FAILED,
    "to_come": None,
}


@pytest.fixture
def tasks() -> TasksOfRun:
    ti = SimpleNamespace(
        dag_id="d",
        run_id="r",
        xcom_pull=lambda task_ids, key: XCOMS.get(task_ids),
        get_task_states=lambda dag_id, run_ids: {run_ids[0]: STATES},
    )
    rows = [SimpleNamespace(task_id=name, state=state) for name, state in STATES.items()]
    run = SimpleNamespace(get_task_instances=lambda: rows)
    context: dict[str, Any] = {"ti": ti} if AIRFLOW_V_3_0_PLUS else {"ti": ti, "dag_run": run}
    return TasksOfRun(context)


def test_what_an_earlier_pass_has_left_is_not_seen(tasks: TasksOfRun) -> None:
    """Airflow deletes the XComs of a task when it starts, and not when it is skipped."""
    assert tasks.left_by("made") == 1
    assert tasks.left_by("skipped_now") is None
    assert tasks.left_by("broke") is None
    assert tasks.left_by("unknown") is None


def test_those_that_failed_are_named(tasks: TasksOfRun) -> None:
    assert tasks.failed == ["another", "broke"]
    assert tasks.has_succeeded("made")
    assert not tasks.has_succeeded("to_come")
