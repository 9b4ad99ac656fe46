"""Addresses of pages in Airflow's user interface."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from airflow.providers.common.compat.sdk import conf
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

#: Where the Rollouts page is in Airflow's user interface.
ROLLOUTS = "/plugin/rollouts"


def rollouts_page(dag_id: str, run_id: str) -> str:
    """The address of a run on the Rollouts page; before Airflow 3.1, of the run itself.

    Empty if Airflow's configuration does not say where its user interface is: ``[api] base_url``,
    in Airflow 2 ``[webserver] base_url``.
    """
    if AIRFLOW_V_3_1_PLUS:
        base = _base("api")
        page = f"{ROLLOUTS}#/run/{quote(dag_id, safe='')}/{quote(run_id, safe='')}"
    else:  # Airflow 2:
        base = _base("webserver")
        page = f"/dags/{quote(dag_id, safe='')}/grid?{urlencode({'dag_run_id': run_id})}"
    return f"{base}{page}" if base else ""


def all_rollouts_page() -> str:
    """The address of the Rollouts page; before Airflow 3.1, of Airflow's first page.

    Empty where that of :func:`rollouts_page` is.
    """
    base = _base("api" if AIRFLOW_V_3_1_PLUS else "webserver")
    return f"{base}{ROLLOUTS if AIRFLOW_V_3_1_PLUS else '/home'}" if base else ""


def _base(section: str) -> str:
    base = (conf.get(section, "base_url", fallback="") or "").rstrip("/")
    return base if base.startswith(("http://", "https://")) else ""
