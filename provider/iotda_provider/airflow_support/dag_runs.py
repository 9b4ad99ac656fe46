"""What the tasks of a DAG run have come to, for a task at its end that tells of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS


class TasksOfRun:
    """The tasks of the DAG run that a task belongs to.

    Airflow deletes the XComs of a task when it starts again, and not when it is skipped: after a
    run was cleared, those of its earlier pass are still there. Here they are not seen.

    :param context: Airflow's context of the running task instance
    """

    def __init__(self, context: Mapping[str, Any]) -> None:
        self._ti = context["ti"]
        self.states = _states(context)

    @property
    def failed(self) -> list[str]:
        """The ids of those that failed themselves, in order."""
        return sorted(task_id for task_id, state in self.states.items() if state == "failed")

    def has_succeeded(self, task_id: str) -> bool:
        """Whether a task has succeeded in this pass."""
        return self.states.get(task_id) == "success"

    def left_by(self, task_id: str, key: str = "return_value") -> Any:
        """An XCom of a task that has succeeded in this pass, or None."""
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
