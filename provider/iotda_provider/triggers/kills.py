"""Whether a cancelled trigger's task instance was killed by a user; for Airflow below 3.3.

A trigger is cancelled when a user marks its task instance or clears it, but also when the triggerer
stops or another one takes over. Only the task instance's state tells these apart.
Everything in this file serves those versions alone; dropping them is deleting it.
"""

from __future__ import annotations

import asyncio
from typing import Any

# Where a user's mark or clearing leads. Deferred: the triggerer is stopping, or was replaced.
_KILLED = frozenset({None, "failed", "success", "skipped", "removed", "upstream_failed"})
_STARTED_AGAIN = frozenset({"scheduled", "queued", "running", "restarting"})


async def was_killed(task_instance: Any) -> bool:
    """Whether the task instance is one that a user has ended; in doubt it is not."""
    if task_instance is None:
        return False
    try:
        from airflow.models.taskinstance import TaskInstance

        from_database = hasattr(TaskInstance, "get_task_instance")
    except ImportError:  # Airflow 2:
        from_database = False
    state, resumes = await asyncio.to_thread(
        _read_database if from_database else _ask_airflow, task_instance
    )
    # A task instance that is about to be resumed was not killed: its trigger has timed out.
    return state in _KILLED or (state in _STARTED_AGAIN and not resumes)


def _read_database(task_instance: Any) -> tuple[str | None, bool]:
    """Airflow 2: a triggerer has the database."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        found = session.query(TaskInstance.state, TaskInstance.next_method).filter(
            TaskInstance.dag_id == task_instance.dag_id,
            TaskInstance.task_id == task_instance.task_id,
            TaskInstance.run_id == task_instance.run_id,
            TaskInstance.map_index == task_instance.map_index,
        )
        row = found.one_or_none()
    return (None, False) if row is None else (row.state, row.next_method is not None)


def _ask_airflow(task_instance: Any) -> tuple[str | None, bool]:
    """Airflow 3.1 and 3.2: a triggerer asks the API server, which does not tell what resumes."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    states = RuntimeTaskInstance.get_task_states(
        dag_id=task_instance.dag_id,
        task_ids=[task_instance.task_id],
        run_ids=[task_instance.run_id],
        map_index=task_instance.map_index,
    )
    by_task = states.get(task_instance.run_id, {})
    key = task_instance.task_id
    if task_instance.map_index >= 0:
        key = f"{key}_{task_instance.map_index}"
    return by_task.get(key, "deferred"), True
