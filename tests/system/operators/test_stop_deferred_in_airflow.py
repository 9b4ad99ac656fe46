"""A stop that waits in the triggerer, in real Airflow against the emulator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.system.virtual_time import pass_with_looks

from iotda_provider.emulator import Emulator

TASK_ID = "5c8fb9d0e2f14a5b9c0d1e2f"
DAG_FILE = f"""
import pendulum
from airflow.providers.common.compat.sdk import DAG
from iotda_provider.operators.batch_task import StopBatchTaskOperator

with DAG("deferred_stop", schedule=None, start_date=pendulum.datetime(2026, 1, 1, tz="UTC")):
    StopBatchTaskOperator(
        task_id="stop", batch_task_id="{TASK_ID}", deferrable=True, poll_interval=0.1
    )
"""


def test_a_deferred_stop_reports_what_it_had_sent_before_it_waited(
    run_dag: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = {
        "devices": 20,
        "success_after": 36000,
        "batch_tasks": [{"task_id": TASK_ID, "targets": "all"}],
        "switches": {"stop_after": 40},
    }
    file = tmp_path / "deferred_stop.py"
    file.write_text(DAG_FILE)
    with Emulator(scenario, speed=0) as emulator:
        emulator.advance(60)
        pass_with_looks(emulator, 15)
        monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(emulator.airflow_connection))
        run = run_dag(file)
        stops = emulator.journal("stop_batch_task")

    assert run.state == "success"
    result = run.xcom("stop")
    assert (result["outcome"], result["status"]) == ("stopped", "Stopped")
    assert (result["requested"], result["succeeded"], result["failed"]) == (20, 20, 0)
    assert len(stops) == 1
