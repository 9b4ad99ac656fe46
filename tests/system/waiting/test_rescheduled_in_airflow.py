"""A sensor whose looks are processes of their own, in real Airflow."""

from __future__ import annotations

import json

import pytest

TASK = "0123456789abcdef01234567"
ROLLOUT = {"devices": 3, "success_after": 1, "batch_tasks": [{"task_id": TASK}]}

DAG = f"""
from airflow.providers.common.compat.sdk import DAG

from iotda_provider.sensors.batch_task import BatchTaskSensor

with DAG("rescheduled", schedule=None):
    BatchTaskSensor(
        task_id="wait", batch_task_id={TASK!r}, mode="reschedule", poke_interval=0.5,
        max_outage=0,
    )
"""


@pytest.mark.iotda_emulator(scenario=ROLLOUT, speed=100)
def test_trouble_begins_anew_with_each_look(iotda_emulator, run_dag, tmp_path, monkeypatch):
    connection = iotda_emulator.airflow_connection
    connection["extra"]["max_attempts"] = 1
    monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(connection))
    file = tmp_path / "rescheduled.py"
    file.write_text(DAG)
    iotda_emulator.add_fault("status", call="show_batch_task", status=503, count=2)

    run = run_dag(file)

    assert run.states == {"wait": "success"}
    assert len(iotda_emulator.journal("show_batch_task")) == 3
