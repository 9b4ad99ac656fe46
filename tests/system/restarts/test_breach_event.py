"""The DAG of the documentation in a real Airflow: a guard that has stopped a rollout starts it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.system.restarts.parts import IS_AIRFLOW_2

from iotda_provider.hooks.iotda import IoTDAHook

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(IS_AIRFLOW_2, reason="the example is one of Airflow 3"),
]

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "tests" / "system" / "guards" / "dags" / "after_a_breach.py"


@pytest.fixture(scope="module")
def scenario() -> dict[str, Any]:
    """A fleet that takes no upgrade well."""
    return {"devices": 20, "failure_rate": 1.0, "failure_after": 100, "dispatch_rate": 0.05}


def test_a_dag_starts_where_a_guard_has_stopped_a_rollout(airflow: Any, emulator: Any) -> None:
    shutil.copy(EXAMPLE, airflow.dags)
    shutil.copy(ROOT / "dags" / "rollout_guard.py", airflow.dags)
    known = "select 1 from serialized_dag where dag_id = ?"
    airflow.wait_for("the example", lambda: airflow.query(known, "after_a_breach"))
    task_id = emulator.new_upgrade("rollout", 20)
    emulator.advance(250)

    def status() -> Any:
        with IoTDAHook() as hook:
            return hook.get_batch_task(task_id).status

    airflow.wait_for("the stop", lambda: status().is_stop)
    emulator.advance(1000)
    runs = "select state from dag_run where dag_id = 'after_a_breach'"
    airflow.wait_for("its run", lambda: airflow.query(runs) == [("success",)])

    summary = airflow.xcom("guard_one_rollout", "guard")["summary"]
    assert airflow.xcom("after_a_breach", "freeze_releases") == {task_id: summary}
