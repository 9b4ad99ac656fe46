"""The link ``Why`` from a guard to the page that says why it decided as it did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from airflow.providers.common.compat.sdk import BaseOperatorLink, conf
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey


class RolloutGuardLink(BaseOperatorLink):
    """Leads to the Rollouts page; on Airflow 2, which has none, to the guard's XComs.

    It needs only the key of the task instance, so it works while the guard watches and after the
    guard has failed.
    """

    name = "Why"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        return rollout_page(ti_key) if AIRFLOW_V_3_0_PLUS else xcom_page(ti_key)


def rollout_page(ti_key: Any) -> str:
    """The Rollouts page of the run that a task instance belongs to."""
    base = conf.get("api", "base_url", fallback="").rstrip("/")
    run = "/".join(quote(part, safe="") for part in (ti_key.dag_id, ti_key.run_id))
    return f"{base}/plugin/rollouts#/run/{run}"


def xcom_page(ti_key: Any) -> str:
    """The page of Airflow 2's UI that shows the XComs of one task instance."""
    dag_id, run_id, task_id = ti_key.dag_id, ti_key.run_id, ti_key.task_id
    map_index = getattr(ti_key, "map_index", -1)
    base = conf.get("webserver", "base_url", fallback="").rstrip("/")
    query = {"dag_run_id": run_id, "task_id": task_id, "tab": "xcom"}
    if map_index >= 0:
        query["map_index"] = map_index
    return f"{base}/dags/{quote(dag_id, safe='')}/grid?{urlencode(query)}"
