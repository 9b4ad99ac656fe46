"""The examples of docs/howto/test-your-dag.md, which includes what is below the marks."""

from __future__ import annotations

# [example]
from pathlib import Path
from typing import Any

import pytest

TASK_ID = "5c8fb9d0e2f14a5b9c0d1e2f"
DAG_FILE = Path(__file__).resolve().parents[3] / "dags" / "stop_batch_task.py"
HALF_WAY = {
    "devices": 20,
    "success_after": 10 * 86_400,
    "batch_tasks": [{"task_id": TASK_ID, "targets": "all"}],
}


@pytest.mark.iotda_emulator(scenario=HALF_WAY, speed=600)
def test_two_devices_are_stopped_and_the_others_go_on(
    run_dag: Any, iotda_emulator: Any, iotda_connection: Any
) -> None:
    iotda_emulator.advance(60)
    two = ["device-00003", "device-00007"]
    conf = {"batch_task_id": TASK_ID, "scope": "only the devices below", "targets": two}
    run = run_dag(DAG_FILE, conf=conf)
    assert run.state == "success"
    assert run.xcom("stop_some_devices", "succeeded_targets") == two
    (stop,) = iotda_emulator.journal("stop_batch_task")
    assert stop["body"] == {"targets": two}


# [end of example]


# [bad times]
@pytest.mark.iotda_emulator(scenario=HALF_WAY, speed=600)
def test_an_answer_that_is_lost_stops_nothing_twice(
    run_dag: Any, iotda_emulator: Any, iotda_connection: Any
) -> None:
    iotda_emulator.advance(60)
    # Done, but the answer never arrives; and now and then a 429.
    iotda_emulator.add_fault("lost", call="stop_batch_task", count=1)
    iotda_emulator.add_fault("throttle", call="show_batch_task", count=2)
    run = run_dag(DAG_FILE, conf={"batch_task_id": TASK_ID, "scope": "the whole task"})
    assert run.state == "success"
    assert run.xcom("stop_the_whole_task")["outcome"] == "stopped"
