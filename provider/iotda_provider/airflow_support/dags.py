"""Whether Airflow knows a DAG, so that a run of it can be started later."""

from __future__ import annotations

from typing import Any

#: What is found out about a DAG. Airflow 3.1 does not tell a task of a DAG that has never run.
READY, PAUSED, MISSING, UNKNOWN = "ready", "paused", "missing", "unknown"
_NOT_FOUND = 404


def find_dag(ti: Any, dag_id: str) -> str:
    """What Airflow knows of a DAG: ``ready``, ``paused``, ``missing`` or ``unknown``.

    Airflow 3 does not tell a task whether the DAG's file is still there: until somebody deletes the
    DAG itself, one whose file was deleted is found as before (``airflow-core 3.3.2,
    api_fastapi/execution_api/routes/dags.py``). In Airflow 3.1 one run, however old, makes it
    ``ready``. Airflow 2 tells it, so there such a DAG is ``missing``.

    :param ti: the running task instance, which asks
    :raises Exception: Airflow's database or API is down
    """
    if not hasattr(ti, "get_dr_count"):
        return _in_database(dag_id)
    if not hasattr(ti, "get_dag"):
        return READY if ti.get_dr_count(dag_id=dag_id) else UNKNOWN
    try:
        found = ti.get_dag(dag_id)
    except Exception as error:
        # Of real tasks, and of those of dag.test().
        detail = getattr(getattr(error, "error", None), "detail", None) or {}
        response = getattr(error, "response", None)
        if _NOT_FOUND in (detail.get("status_code"), getattr(response, "status_code", None)):
            return MISSING
        raise
    return PAUSED if found.is_paused else READY


def _in_database(dag_id: str) -> str:
    """The same in Airflow 2, where a task can reach the database."""
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session

    with create_session() as session:
        found = session.get(DagModel, dag_id)
        if found is None or not found.is_active:
            return MISSING
        return PAUSED if found.is_paused else READY
