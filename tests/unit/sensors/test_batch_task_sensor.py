"""Waiting for a batch task in the worker."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from iotda_provider.exceptions import (
    BatchTaskFailedError,
    IoTDAConfigError,
    IoTDANotFoundError,
    IoTDATransportError,
)
from iotda_provider.sensors.batch_task import BatchTaskSensor

TASK_ID = "5c8f9e2d7a6b4c3d1e0f9a8b"
UNREACHABLE = {"exc": requests.exceptions.ConnectTimeout}


def wait(**parameters: Any) -> BatchTaskSensor:
    """The sensor, with short times."""
    parameters = {"batch_task_id": TASK_ID, "poke_interval": 0.001, "timeout": 30, **parameters}
    return BatchTaskSensor(task_id="wait", **parameters)


@pytest.mark.parametrize("status", ["Success", "PartialSuccess", "Stopped"])
def test_the_final_state_is_returned(iotda, run, status):
    iotda.shows(
        iotda.task(total=3, processing=3), iotda.task(status, total=3, success=2, stopped=1)
    )

    state = run(wait())["return_value"]

    assert state == {
        "batch_task_id": TASK_ID,
        "task_name": "canary",
        "task_type": "firmwareUpgrade",
        "status": status,
        "status_desc": None,
        "progress": state["progress"],
        "create_time": None,
    }
    assert state["progress"]["success"] == 2
    assert state["progress"]["finished"] == 2
    assert iotda.sent == [f"GET {TASK_ID}"] * 2


def test_a_failed_task_fails_the_sensor_by_default(iotda, run):
    iotda.shows(iotda.task("Fail", total=3, fail=3))

    with pytest.raises(BatchTaskFailedError, match=r"is Fail: 0 succeeded, 3 failed of 3") as error:
        run(wait())
    assert error.value.task.progress.fail == 3


def test_failure_statuses_fail_at_once_though_the_task_goes_on(iotda, run):
    iotda.shows(iotda.task("Stopping", total=3, processing=3))

    with pytest.raises(BatchTaskFailedError, match="is Stopping"):
        run(wait(failure_statuses=["Stopping"]))
    assert len(iotda.sent) == 1


def test_without_failure_statuses_every_end_is_a_success(iotda, run):
    iotda.shows(iotda.task("Fail", total=3, fail=3))

    assert run(wait(failure_statuses=()))["return_value"]["status"] == "Fail"


def test_a_target_status_is_reached_before_the_task_ends(iotda, run):
    iotda.shows(iotda.task("Initializing"), iotda.task("Waitting"), iotda.task("Processing"))

    assert run(wait(target_statuses="Processing"))["return_value"]["status"] == "Processing"


def test_a_task_that_ended_otherwise_fails_at_once_instead_of_waiting_for_the_timeout(iotda, run):
    iotda.shows(iotda.task("Success", total=3, success=3))

    with pytest.raises(BatchTaskFailedError, match="ended as Success and will not become Stopped"):
        run(wait(target_statuses=["Stopped"]))


def test_an_unknown_status_is_waited_through(iotda, run):
    iotda.shows(iotda.task("Paused"), iotda.task("Success"))

    assert run(wait())["return_value"]["status"] == "Success"


def test_an_outage_shorter_than_max_outage_is_outlived_and_said_once(iotda, run, logged):
    iotda.shows(iotda.task(), UNREACHABLE, {"status_code": 503}, UNREACHABLE, iotda.task("Success"))

    assert run(wait())["return_value"]["status"] == "Success"
    said = logged()
    assert said.count("Waiting on; giving up after") == 1
    assert said.count("IoTDA answers again") == 1


def test_an_outage_longer_than_max_outage_fails_with_its_cause(iotda, run):
    iotda.shows(UNREACHABLE)

    with pytest.raises(IoTDATransportError, match=r"has not answered .* max_outage .*timed out"):
        run(wait(max_outage=0))


def test_a_refusal_is_no_outage(iotda, run):
    iotda.shows({"status_code": 404, "json": {"error_code": "IOTDA.014217"}})

    with pytest.raises(IoTDANotFoundError):
        run(wait())
    assert len(iotda.sent) == 1


def test_a_rescheduled_look_begins_the_count_anew_and_leaves_nothing_behind(iotda, ti, variables):
    iotda.shows(UNREACHABLE, UNREACHABLE, iotda.task("Success"))
    kept: dict[str, object] = {}

    looks = [
        wait(mode="reschedule", max_outage=0).poke({"ti": ti, "task_state_store": kept})
        for _ in range(3)
    ]

    assert [look.is_done for look in looks] == [False, False, True]
    assert not kept
    assert not variables.calls


# --- its session ----------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["Success", "Fail"])
def test_its_session_is_closed_when_it_is_done(iotda, run, monkeypatch, end):
    opened, closed = [], []
    close = requests.Session.close
    opening = requests.Session.__init__
    monkeypatch.setattr(
        requests.Session, "__init__", lambda self: (opened.append(self), opening(self))[1]
    )
    monkeypatch.setattr(
        requests.Session, "close", lambda self: (closed.append(self), close(self))[1]
    )
    iotda.shows(iotda.task(), iotda.task(end))

    if end == "Success":
        run(wait())
    else:
        with pytest.raises(BatchTaskFailedError):
            run(wait())

    assert len(opened) == 1
    assert opened == closed


@pytest.mark.parametrize("batch_task_id", ["", "None", "a/../b", "a" * 25, None])
def test_a_malformed_task_id_is_refused_before_a_request(iotda, run, batch_task_id):
    with pytest.raises(IoTDAConfigError, match=r"^batch_task_id must be"):
        run(wait(batch_task_id=batch_task_id))
    assert iotda.sent == []


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("target_statuses", ["Done"]),
        ("target_statuses", ()),
        ("failure_statuses", "Waiting"),
        ("failure_statuses", ["waitting"]),
        ("max_outage", -1),
        ("max_outage", "900"),
    ],
)
def test_a_wrong_parameter_is_named_when_the_dag_is_parsed(parameter, value):
    with pytest.raises(ValueError, match=f"^{parameter} must"):
        wait(**{parameter: value})


@pytest.mark.parametrize("targets", ["Fail", ["Success", "Fail"]])
def test_a_status_can_not_both_end_and_fail_the_wait(targets):
    with pytest.raises(ValueError, match=r"^failure_statuses must not .*\['Fail'\].*\(\) lets"):
        wait(target_statuses=targets)
    assert wait(target_statuses=targets, failure_statuses=()).failure_statuses == ()


@pytest.mark.parametrize("how", ["silent_fail", "never_fail"])
@pytest.mark.parametrize("where", [{"deferrable": True}, {"start_from_trigger": True}], ids=str)
def test_what_is_about_single_looks_is_refused_where_it_defers(how, where):
    with pytest.raises(ValueError, match=f"^{how}: .* set deferrable=False"):
        wait(**{how: True, **where})
    assert getattr(wait(**{how: True}, deferrable=False), how) is True
