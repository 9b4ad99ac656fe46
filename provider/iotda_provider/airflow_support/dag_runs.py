"""The states of DAG runs, and of their tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

_UNDER_WAY = ("queued", "running")


class TasksOfRun:
    """The tasks of the DAG run that a task belongs to.

    Airflow deletes a task's XComs when the task starts again, but not when it is skipped: after a
    clear of the run, old XComs may remain. This class ignores them.

    :param context: Airflow's context of the running task instance
    """

    def __init__(self, context: Mapping[str, Any]) -> None:
        self._ti = context["ti"]
        self.states = _states(context)

    @property
    def failed(self) -> list[str]:
        """The sorted ids of the tasks that failed themselves (not: upstream)."""
        return sorted(task_id for task_id, state in self.states.items() if state == "failed")

    def has_succeeded(self, task_id: str) -> bool:
        """Whether a task has succeeded since the last clear."""
        return self.states.get(task_id) == "success"

    def left_by(self, task_id: str, key: str = "return_value") -> Any:
        """An XCom of a task, or None unless the task has succeeded since the last clear."""
        found = self._ti.xcom_pull(task_ids=task_id, key=key)
        return found if self.has_succeeded(task_id) else None


def _states(context: Mapping[str, Any]) -> dict[str, str]:
    ti: Any = context["ti"]
    if AIRFLOW_V_3_0_PLUS:
        found = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id])
        states = found.get(ti.run_id) or {}
    else:
        found = context["dag_run"].get_task_instances()
        states = {each.task_id: each.state for each in found}
    return {task_id: str(getattr(state, "value", state)) for task_id, state in states.items()}


def is_under_way(dag_id: str, run_id: str) -> bool:
    """Whether a DAG run exists, and has not ended; for workers and triggerers.

    :raises Exception: Airflow can't be asked
    """
    if AIRFLOW_V_3_0_PLUS:
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        found = RuntimeTaskInstance.get_dr_count(
            dag_id=dag_id, run_ids=[run_id], states=list(_UNDER_WAY)
        )
        return int(found) > 0
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session

    with create_session() as session:
        wanted = DagRun.dag_id == dag_id, DagRun.run_id == run_id, DagRun.state.in_(_UNDER_WAY)
        return bool(session.query(DagRun).filter(*wanted).count())
