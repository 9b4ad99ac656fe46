"""Tells whether a user has ended the task instance of a cancelled trigger.

A trigger is cancelled if a user marks or clears its task instance, but also if the triggerer stops
or another one has taken over. Before 3.3 Airflow does not tell these apart. Since 3.3 it reports
that a triggerer stops. But when another triggerer takes over from one that only seemed dead, that
still looks like a user's kill. The state of the task instance decides.
"""

from __future__ import annotations

import logging
from typing import Any

from iotda_provider.airflow_support.supervisor import ask
from iotda_provider.airflow_support.task_notes import owner_of
from iotda_provider.airflow_support.threads import in_thread

_log = logging.getLogger(__name__)
_STARTED_AGAIN = frozenset({"scheduled", "queued", "running", "restarting"})
_ENDED = frozenset({"failed", "success", "skipped", "removed", "upstream_failed"})
#: The XCom in which a worker leaves the number of the try that waits. Airflow deletes it when the
#: next try starts.
_TRY = "waiting_try"


def note_try(task_instance: Any) -> None:
    """Let :func:`was_killed` tell this try from a later one; call it in the worker, then defer."""
    task_instance.xcom_push(key=_TRY, value=task_instance.try_number)


async def was_killed(task_instance: Any) -> bool:
    """Whether a user has ended the task instance; False if that can't be found out."""
    if task_instance is None:
        return False
    try:
        return await _judge(task_instance)
    except Exception as error:  # noqa: BLE001 - no error proves a kill
        _log.error("Nothing is stopped: Airflow did not say if a user ended this task: %r", error)
        return False


async def _judge(task_instance: Any) -> bool:
    try:
        from airflow.sdk.execution_time import task_runner
    except ImportError:  # Airflow 2:
        return await in_thread(_by_database, task_instance)
    return await _by_asking(task_instance, task_runner.SUPERVISOR_COMMS)


def _by_database(task_instance: Any) -> bool:
    """Ask Airflow 2's database, which a triggerer can reach."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        found = session.query(
            TaskInstance.state, TaskInstance.next_method, TaskInstance.try_number
        ).filter(
            TaskInstance.dag_id == task_instance.dag_id,
            TaskInstance.task_id == task_instance.task_id,
            TaskInstance.run_id == task_instance.run_id,
            TaskInstance.map_index == task_instance.map_index,
        )
        return _row_says(found.one_or_none(), task_instance.try_number)


def _row_says(row: Any, try_number: int) -> bool:
    if row is None or row.state is None:  # deleted with its run, or cleared
        return True
    if row.state in _STARTED_AGAIN:  # from the beginning: killed; resumed: not killed
        return row.next_method is None
    if row.state in _ENDED:  # while deferred: killed; a task that ends by itself resumes first
        return row.next_method is not None
    # A cleared task instance may be deferred again already, in a later try.
    return bool(row.try_number > try_number)


async def _by_asking(task_instance: Any, airflow: Any) -> bool:
    """Ask Airflow 3's API server, which tells neither the try nor whether a task resumes."""
    from airflow.sdk.execution_time.comms import GetTaskStates, GetXCom

    facts = owner_of(task_instance)
    question = GetTaskStates(
        dag_id=facts["dag_id"],
        map_index=facts["map_index"],
        task_ids=[facts["task_id"]],
        run_ids=[facts["run_id"]],
    )
    answer = await ask(airflow, question)
    by_task = answer.task_states.get(facts["run_id"], {})
    key = facts["task_id"]
    if facts["map_index"] >= 0:
        key = f"{key}_{facts['map_index']}"
    state = by_task.get(key, "deferred")
    # A task that succeeded by itself has a return value; one that a user has marked has none.
    if state == "success":
        result = await ask(airflow, GetXCom(key="return_value", **facts))
        return getattr(result, "value", None) is None
    if state == "deferred":  # a cleared one may be deferred again already, in a later try
        waiting = await ask(airflow, GetXCom(key=_TRY, **facts))
        number = getattr(waiting, "value", None)
        return isinstance(number, int) and number > task_instance.try_number
    return state is None or state in _STARTED_AGAIN or state in _ENDED
