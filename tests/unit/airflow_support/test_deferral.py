"""Waiting in the triggerer and coming back: one mechanism, which outlives an upgrade."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.providers.common.compat.sdk import BaseOperator, TaskDeferred
from tests.airflow_values import TIMED_OUT, as_json

import iotda_provider
from iotda_provider.airflow_support.deferral import DeferrableTask, is_airflows_timeout
from iotda_provider.airflow_support.trigger_events import Event
from iotda_provider.exceptions import IoTDAError
from iotda_provider.operators.batch_task import StopBatchTaskOperator
from iotda_provider.operators.release.at_rest import WaitUntilAtRestOperator
from iotda_provider.sensors.batch_task import BatchTaskSensor
from iotda_provider.waiting.deadline import Deadline

TASK_ID = "5c8f9e2d7a6b4c3d1e0f9a8b"
STOPPED = {
    "batch_task_id": TASK_ID,
    "task_name": "canary",
    "task_type": "firmwareUpgrade",
    "status": "Stopped",
    "status_desc": None,
    "progress": {"total": 5, "success": 2, "stopped": 3},
    "create_time": None,
}


class Waiting(DeferrableTask, BaseOperator):
    def execute(self, context: Any) -> Any:
        return self.wait_in_triggerer(TRIGGER, Deadline(0.0), poll_interval=10)

    def waited_for(self, context: Any) -> Any:
        return ("one", "two")

    def resumed(self, context: Any, event: Event) -> Any:
        return event

    def without_triggerer(self, context: Any) -> Any:
        return "nobody has looked"


TRIGGER: Any = object()


def waiting() -> Waiting:
    return Waiting(task_id="wait")


def test_a_deferral_names_the_method_and_leaves_the_trigger_time_to_speak_first():
    with pytest.raises(TaskDeferred) as deferred:
        waiting().execute({})

    assert deferred.value.trigger is TRIGGER
    assert deferred.value.method_name == "execute_complete"
    assert deferred.value.timeout > timedelta(seconds=2 * 10)


def test_what_a_trigger_says_comes_back_whole():
    event = {
        "status": "ask",
        "batch_task_ids": ["one", "two"],
        "memo": {"began": 5},
        "memory": {"looks": 3},
        "intent": {"rule": "x"},
    }

    found = waiting().resume_execution("execute_complete", {"event": event}, {})

    assert found == Event(
        "ask",
        ("one", "two"),
        memo={"began": 5},
        memory={"looks": 3},
        intent={"rule": "x"},
    )


@pytest.mark.parametrize(
    "event",
    [
        None,
        "over",
        {"status": "over", "result": {}},
        {"status": "over", "batch_task_ids": ["one"], "result": {}},
        {"status": "over", "batch_task_ids": ["two", "one"], "result": {}},
        {"status": "over", "batch_task_ids": ["one", "two"]},
        {"status": "over", "batch_task_ids": ["one", "two"], "result": "fine"},
        {"status": "over", "batch_task_ids": ["one", "two"], "task": STOPPED},
        {"status": "fine", "batch_task_ids": ["one", "two"], "result": {}},
        {"status": ["over"], "batch_task_ids": ["one", "two"], "result": {}},
        {"status": "timeout", "batch_task_ids": ["one", "two"], "memo": 5},
    ],
)
def test_an_event_that_makes_no_sense_is_an_error(event):
    with pytest.raises(IoTDAError, match="event makes no sense"):
        waiting().resume_execution("execute_complete", {"event": event}, {})


@pytest.mark.parametrize(
    ("method", "arguments", "expected"),
    [
        ("__fail__", TIMED_OUT, True),
        ("__fail__", {"error": "Trigger failure"}, False),
        ("__fail__", None, False),
        ("execute_complete", TIMED_OUT, False),
    ],
)
def test_airflows_own_limit_is_told_from_other_failures(method, arguments, expected):
    assert is_airflows_timeout(method, arguments) is expected


def test_airflows_scheduler_says_so_in_these_words():
    said = []

    class Session:
        def execute(self, statement):
            said.append(statement.compile().params["next_kwargs"])
            return SimpleNamespace(rowcount=0)

    scheduler = SchedulerJobRunner.__new__(SchedulerJobRunner)
    scheduler.check_trigger_timeouts(session=Session())

    assert as_json(said) == [TIMED_OUT]


def test_where_no_triggerer_came_the_task_goes_on_by_itself():
    found = waiting().resume_execution("__fail__", TIMED_OUT, {})

    assert found == "nobody has looked"


# --- deferred before an upgrade, resumed after it -------------------------------------------------


def test_a_wait_is_resumed(ti):
    sensor = BatchTaskSensor(task_id="wait", batch_task_id=TASK_ID, deferrable=True)
    event = {"status": "over", "batch_task_ids": [TASK_ID], "task": STOPPED, "memo": {}}

    result = sensor.resume_execution("execute_complete", {"event": event}, {"ti": ti})

    assert result["status"] == "Stopped"


@pytest.mark.parametrize("began", [{}, {"began": 1000.0}])
def test_a_stop_is_resumed(iotda, ti, variables, began):
    operator = StopBatchTaskOperator(task_id="stop", batch_task_id=TASK_ID, deferrable=True)
    sent = {"requested": 3, "stopped_before": 0, "whole": True, "joined": False, "again": False}
    told = {"rows": 0, "succeeded": 0, "failed": 0, "first": ""}
    memo = {"sent": sent, "told": told, **began}
    event = {"status": "over", "batch_task_ids": [TASK_ID], "task": STOPPED, "memo": memo}

    result = operator.resume_execution("execute_complete", {"event": event}, {"ti": ti})

    assert result["outcome"] == "stopped"
    assert (result["requested"], result["succeeded"], result["failed"]) == (3, 3, 0)


def test_a_wait_for_rest_is_resumed(ti):
    operator = WaitUntilAtRestOperator(task_id="rest", batch_task_id=TASK_ID, deferrable=True)
    result = {"batch_task_id": TASK_ID, "at_rest": True}
    event = {"status": "over", "batch_task_ids": [TASK_ID], "result": result, "memo": {}}

    assert operator.resume_execution("execute_complete", {"event": event}, {"ti": ti}) == result


# --- one of them ----------------------------------------------------------------------------------


def test_nothing_else_defers():
    package = Path(iotda_provider.__file__).parent

    found = [path.name for path in package.rglob("*.py") if ".defer(" in path.read_text("utf-8")]

    assert found == ["deferral.py"]
