"""The DAG that a person starts from a form, in real Airflow against the emulator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.system.virtual_time import pass_with_looks

from iotda_provider.emulator import Emulator

DAG_FILE = Path(__file__).resolve().parents[3] / "dags" / "stop_batch_task.py"
TASK_ID = "5c8fb9d0e2f14a5b9c0d1e2f"
WHOLE, SOME = "the whole task", "only the devices below"


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """Twenty devices in the middle of an upgrade that takes an hour."""
    scenario = {
        "devices": 20,
        "success_after": 3600,
        "batch_tasks": [{"task_id": TASK_ID, "targets": "all"}],
        "switches": {"stop_after": 0},
    }
    with Emulator(scenario, speed=0) as emulator:
        emulator.advance(60)
        pass_with_looks(emulator, 1)
        monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(emulator.airflow_connection))
        yield emulator


def test_the_whole_task_is_stopped_when_the_form_says_so(run_dag: Any, emulator: Emulator) -> None:
    run = run_dag(DAG_FILE, conf={"batch_task_id": TASK_ID, "scope": WHOLE})
    assert run.state == "success"
    result = run.xcom("stop_the_whole_task")
    assert (result["outcome"], result["status"]) == ("stopped", "Stopped")
    assert (result["requested"], result["succeeded"], result["failed"]) == (20, 20, 0)
    assert run.states["all_stopped"] == "success"
    assert run.states["stop_some_devices"] == run.states["some_not_stopped"] == "skipped"


@pytest.mark.parametrize("never", [False, True])
def test_a_whole_task_that_showed_no_counts_is_stopped_and_green(
    run_dag: Any, emulator: Emulator, never: bool
) -> None:
    task = {"task_id": TASK_ID, "task_name": "a", "task_type": "firmwareUpgrade"}
    for status, count in (("Processing", 1), ("Stopped", 100))[: 2 if never else 1]:
        body = {"batchtask": {**task, "status": status}}
        emulator.add_fault("status", status=200, body=body, call="show_batch_task", count=count)
    run = run_dag(DAG_FILE, conf={"batch_task_id": TASK_ID, "scope": WHOLE})
    assert len(emulator.journal("stop_batch_task")) == 1
    result = run.xcom("stop_the_whole_task")
    assert (result["requested"], result["succeeded"]) == ((0, 0) if never else (20, 20))
    assert (run.state, run.states["all_stopped"]) == ("success", "success")


def test_a_whole_task_that_ended_before_its_stop_came_is_not_green(
    run_dag: Any, emulator: Emulator
) -> None:
    task = {"task_id": TASK_ID, "task_name": "a", "task_type": "firmwareUpgrade"}
    over = {"status": "Success", "task_progress": {"total": 20, "success": 20}}
    for shown, count in (({"status": "Processing"}, 1), (over, 100)):
        body = {"batchtask": {**task, **shown}}
        emulator.add_fault("status", status=200, body=body, call="show_batch_task", count=count)
    run = run_dag(DAG_FILE, conf={"batch_task_id": TASK_ID, "scope": WHOLE})
    result = run.xcom("stop_the_whole_task")
    assert (result["outcome"], result["requested"], result["status"]) == ("stopped", 0, "Success")
    assert run.states["all_stopped"] == run.state == "failed"


def test_one_stopped_and_one_unknown_device_follow_the_path_of_partial_success(
    run_dag: Any, emulator: Emulator
) -> None:
    targets = ["device-00003", "not-in-the-task"]
    run = run_dag(DAG_FILE, conf={"batch_task_id": TASK_ID, "scope": SOME, "targets": targets})
    assert run.state == "success"
    (failure,) = run.xcom("stop_some_devices", "failed_targets")
    assert failure["target"] == "not-in-the-task"
    assert failure["error_code"] == "IOTDA.014219"
    assert run.xcom("stop_some_devices", "succeeded_targets") == ["device-00003"]
    assert run.xcom("did_all_stop", "branch") == ["some_not_stopped"]
    assert run.states["some_not_stopped"] == "success"
    assert run.states["all_stopped"] == run.states["none_stopped"] == "skipped"


def test_no_devices_stop_nothing_ask_nothing_and_are_not_green(
    run_dag: Any, emulator: Emulator
) -> None:
    run = run_dag(DAG_FILE, conf={"batch_task_id": TASK_ID, "scope": SOME, "targets": []})
    assert run.xcom("stop_some_devices")["requested"] == 0
    assert not emulator.journal()
    assert run.states["all_stopped"] == run.state == "failed"


def test_a_task_that_has_ended_already_is_not_green(run_dag: Any, emulator: Emulator) -> None:
    emulator.advance(7200)
    run = run_dag(DAG_FILE, conf={"batch_task_id": TASK_ID, "scope": WHOLE})
    assert run.xcom("stop_the_whole_task")["outcome"] == "already_ended"
    assert run.states["all_stopped"] == run.state == "failed"


def test_only_unknown_devices_fail_the_run(run_dag: Any, emulator: Emulator) -> None:
    run = run_dag(DAG_FILE, conf={"batch_task_id": TASK_ID, "scope": SOME, "targets": ["nobody"]})
    assert run.xcom("did_all_stop", "branch") == ["none_stopped"]
    assert run.state == "failed"
