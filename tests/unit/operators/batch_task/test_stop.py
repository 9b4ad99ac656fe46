"""Stopping a batch task, or some of its targets, as a DAG's author sees it."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
import requests
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

from iotda_provider.exceptions import (
    BatchTaskTimeoutError,
    IoTDAConfigError,
    IoTDATransportError,
    TargetFailuresError,
    TaskNotStoppableError,
)
from iotda_provider.operators.batch_task import StopBatchTaskOperator

TASK_ID = "5c8f9e2d7a6b4c3d1e0f9a8b"
IN_TASK, STRANGER = "e495cf17-ff79-4294-8f64-4d367919d677", "e495cf17-ff79-4294-8f64-4d367919d665"
NOT_IN_TASK = {
    "target": STRANGER,
    "status": "failure",
    "error_code": "IOTDA.014219",
    "error_msg": "Invalid input. The target is not in the task",
}
VENDORS_ANSWER = {"targets": [NOT_IN_TASK, {"target": IN_TASK, "status": "success"}]}
FAILED_ROW = {**NOT_IN_TASK, "failure_class": "unknown"}
del FAILED_ROW["status"]
REFUSED = {
    "status_code": 400,
    "json": {"error_code": "IOTDA.014218", "error_msg": "The task can not be stopped."},
}
UNREACHABLE = {"exc": requests.exceptions.ConnectTimeout}


def stop(**parameters: Any) -> StopBatchTaskOperator:
    """The operator, impatient."""
    parameters = {"batch_task_id": TASK_ID, "poll_interval": 0.001, **parameters}
    return StopBatchTaskOperator(task_id="stop", **parameters)


def test_a_task_that_begins_after_its_refusal_is_asked_again(iotda, run):
    running, over = iotda.task(total=2, processing=2), iotda.task("Stopped", total=2, stopped=2)
    iotda.shows(iotda.task("Initializing"), running, running, running, running, over)
    iotda.stops(REFUSED, {})

    xcoms = run(stop())

    assert xcoms["return_value"]["outcome"] == "stopped"
    assert sum("stop" in each for each in iotda.sent) == 2


# --- some targets ---------------------------------------------------------------------------------


def test_vendors_example_gives_one_failed_row_and_one_succeeded_target(iotda, run):
    iotda.shows(iotda.task(total=2, processing=2), iotda.task(total=2, processing=1, stopped=1))
    iotda.stops(VENDORS_ANSWER)

    xcoms = run(stop(targets=[STRANGER, IN_TASK]))

    assert xcoms.pop("rollout")["kind"] == "stop"
    assert xcoms.pop("live")["verdict"] == "stopped"
    assert xcoms == {
        "failed_targets": [FAILED_ROW],
        "succeeded_targets": [IN_TASK],
        "return_value": {
            "batch_task_id": TASK_ID,
            "outcome": "stopped",
            "status": "Processing",
            "requested": 2,
            "succeeded": 1,
            "failed": 1,
            "failed_truncated": False,
            "progress": {
                "total": 2,
                "processing": 1,
                "success": 0,
                "fail": 0,
                "waiting": 0,
                "fail_wait_retry": 0,
                "stopped": 1,
                "removed": 0,
                "started": 1,
                "finished": 0,
            },
            "report_path": None,
        },
    }
    body = json.dumps({"targets": [STRANGER, IN_TASK]})
    assert iotda.sent == [f"GET {TASK_ID}", f"POST {TASK_ID}/stop {body}", f"GET {TASK_ID}"]


@pytest.mark.parametrize("targets", ['["a", "b"]', "['a', 'b']", ("a", "b"), ["a", "b"]])
def test_targets_are_taken_in_every_form(iotda, run, targets):
    iotda.shows(iotda.task())
    iotda.stops({"targets": [{"target": t, "status": "success"} for t in "ab"]})

    assert run(stop(targets=targets))["succeeded_targets"] == ["a", "b"]


@pytest.mark.parametrize("targets", [[], "[]", (), " [] "])
def test_an_empty_list_stops_nothing_without_a_call(iotda, run, targets):
    result = run(stop(targets=targets))

    assert iotda.sent == []
    assert result["failed_targets"] == result["succeeded_targets"] == []
    assert result["return_value"]["outcome"] == "stopped"
    assert (result["return_value"]["requested"], result["return_value"]["succeeded"]) == (0, 0)


@pytest.mark.parametrize("rendered", [None, "None", "", " ", "null", "none"])
def test_targets_rendered_to_nothing_are_an_error_never_the_whole_task(iotda, run, rendered):
    operator = stop(targets="{{ ti.xcom_pull(task_ids='find') }}")
    operator.targets = rendered

    with pytest.raises(IoTDAConfigError, match=r"targets was rendered to None.*empty list"):
        run(operator)
    assert iotda.sent == []


def test_targets_set_to_none_before_rendering_are_refused_where_the_dag_named_some(iotda, run):
    operator = stop(targets=["a"])
    operator.targets = None

    with pytest.raises(IoTDAConfigError):
        run(operator)
    assert iotda.sent == []


@pytest.mark.parametrize(
    "targets", ["device-1", '"device1"', [7], [None], ["a b"], ["../x"], ["é"], [""], [["a"]], "{}"]
)
def test_targets_that_are_no_device_ids_are_refused_before_a_request(iotda, run, targets):
    with pytest.raises(IoTDAConfigError, match=r"^targets(\[0\])? ") as refusal:
        run(stop(targets=targets))
    assert len(str(refusal.value).splitlines()) == 1
    assert iotda.sent == []


@pytest.mark.parametrize(
    "batch_task_id",
    ["", "None", "../stop", "a/b", "%2e%2e", "5C8F", "a" * 25, "abc\n", "a?x=1", 7, None, "g"],
)
def test_a_malformed_task_id_is_one_helpful_line_before_a_request(iotda, run, batch_task_id):
    with pytest.raises(IoTDAConfigError, match=r"^batch_task_id must be .*check that the task"):
        run(stop(batch_task_id=batch_task_id))
    assert iotda.sent == []


def test_duplicate_targets_are_sent_once_and_counted_once(iotda, run):
    iotda.shows(iotda.task())
    iotda.stops({"targets": [{"target": t, "status": "success"} for t in "ab"]})

    xcoms = run(stop(targets=["a", "b", "a"]))

    assert iotda.requests[1].json() == {"targets": ["a", "b"]}
    assert xcoms["return_value"]["requested"] == 2


def test_report_goes_on_after_targets_failed(iotda, run):
    iotda.shows(iotda.task())
    iotda.stops(VENDORS_ANSWER)

    assert run(stop(targets=[STRANGER, IN_TASK]))["return_value"]["failed"] == 1


@pytest.mark.parametrize(
    ("on_target_failure", "error"),
    [("fail", TargetFailuresError), ("skip", AirflowSkipException)],
)
def test_failed_targets_are_in_the_xcoms_before_the_task_fails_or_skips(
    iotda, run, ti, on_target_failure, error
):
    iotda.shows(iotda.task(total=2, processing=2))
    iotda.stops(VENDORS_ANSWER)

    with pytest.raises(error, match="1 of 2 target"):
        run(stop(targets=[STRANGER, IN_TASK], on_target_failure=on_target_failure))

    assert ti.xcoms["failed_targets"] == [FAILED_ROW]
    assert ti.xcoms["succeeded_targets"] == [IN_TASK]
    assert ti.xcoms["return_value"]["outcome"] == "stopped"
    assert ti.xcoms["return_value"]["failed"] == 1


def test_failing_on_targets_says_which_and_is_not_retried(iotda, run):
    iotda.shows(iotda.task())
    iotda.stops(VENDORS_ANSWER)

    with pytest.raises(AirflowFailException, match=f"{STRANGER}: IOTDA.014219 .*failed_targets"):
        run(stop(targets=[STRANGER, IN_TASK], on_target_failure="fail"))


def test_ignored_error_codes_are_no_failures(iotda, run):
    iotda.shows(iotda.task())
    iotda.stops(VENDORS_ANSWER)
    harmless = ["IOTDA.014219"]

    xcoms = run(
        stop(targets=[STRANGER, IN_TASK], on_target_failure="fail", ignore_error_codes=harmless)
    )

    assert xcoms["failed_targets"] == []
    assert xcoms["return_value"]["failed"] == 0


# --- the whole task -------------------------------------------------------------------------------


def test_whole_task_is_stopped_and_waited_for(iotda, run):
    iotda.shows(
        iotda.task(total=9, success=2, fail=1, processing=3, waitting=3),
        iotda.task("Stopping", total=9, success=2, fail=1, processing=3, stopped=3),
        iotda.task("Stopped", total=9, success=3, fail=1, stopped=5),
    )
    iotda.stops({})

    result = run(stop())["return_value"]

    assert (result["outcome"], result["status"]) == ("stopped", "Stopped")
    assert (result["requested"], result["succeeded"], result["failed"]) == (6, 5, 0)
    assert iotda.sent[1] == f"POST {TASK_ID}/stop {{}}"


def test_stop_joins_a_task_that_is_already_stopping(iotda, run):
    iotda.shows(iotda.task("Stopping", total=2, processing=2), iotda.task("Stopped", stopped=2))

    result = run(stop())["return_value"]

    assert (result["outcome"], result["status"]) == ("stopped", "Stopped")
    assert not [line for line in iotda.sent if "stop" in line]


def test_stop_of_targets_joins_a_stop_of_the_whole_task_and_reads_what_came_of_each(iotda, run):
    iotda.shows(
        iotda.task("Stopping", total=2, processing=2),
        {
            "batchtask": iotda.task("Stopped", total=2, success=1, stopped=1),
            "task_details": [
                {"target": "a", "status": "Stopped"},
                {"target": "b", "status": "Success"},
            ],
            "page": {"count": 2},
        },
    )

    xcoms = run(stop(targets=["a", "b"]))

    assert xcoms["succeeded_targets"] == ["a"]
    assert [row["target"] for row in xcoms["failed_targets"]] == ["b"]
    assert "status is Success" in xcoms["failed_targets"][0]["error_msg"]
    assert not [line for line in iotda.sent if "/stop" in line]


def test_without_waiting_the_outcome_is_stopping(iotda, run):
    iotda.shows(iotda.task(total=2, processing=2), iotda.task("Stopping", total=2, processing=2))
    iotda.stops({})

    result = run(stop(wait_for_completion=False))["return_value"]

    assert (result["outcome"], result["status"]) == ("stopping", "Stopping")
    assert len(iotda.sent) == 3


def test_a_stop_that_is_over_at_once_is_stopped_even_without_waiting(iotda, run):
    iotda.shows(iotda.task(total=1, processing=1), iotda.task("Stopped", total=1, stopped=1))
    iotda.stops({})

    assert run(stop(wait_for_completion=False))["return_value"]["outcome"] == "stopped"


def test_a_timeout_raises_after_the_xcoms_are_pushed(iotda, run, ti):
    iotda.shows(iotda.task(total=1, processing=1), iotda.task("Stopping", total=1, processing=1))
    iotda.stops({})

    with pytest.raises(BatchTaskTimeoutError, match=r"last seen Stopping.*raise timeout"):
        run(stop(timeout=0.01))

    assert ti.xcoms["return_value"]["outcome"] == "stopping"
    assert ti.xcoms["return_value"]["status"] == "Stopping"
    assert ti.xcoms["failed_targets"] == ti.xcoms["succeeded_targets"] == []


def test_a_timeout_pushes_the_xcoms_though_the_platform_no_longer_answers(iotda, run, ti):
    iotda.shows(iotda.task(total=1, processing=1), UNREACHABLE)
    iotda.stops({})

    with pytest.raises(BatchTaskTimeoutError, match="last seen never"):
        run(stop(timeout=0.01))

    assert ti.xcoms["return_value"]["outcome"] == "stopping"


def test_a_stop_that_ends_in_the_last_moment_is_no_timeout(iotda, run):
    stopping = iotda.task("Stopping", total=1, processing=1)
    iotda.shows(iotda.task(total=1, processing=1), stopping, iotda.task("Stopped", stopped=1))
    iotda.stops({})

    result = run(stop(timeout=1e-9))["return_value"]

    assert (result["outcome"], result["status"]) == ("stopped", "Stopped")


def test_an_outage_beyond_max_outage_raises_after_the_xcoms_are_pushed(iotda, run, ti):
    iotda.shows(iotda.task(total=1, processing=1), UNREACHABLE)
    iotda.stops({})

    with pytest.raises(IoTDATransportError, match=r"has not answered .* max_outage"):
        run(stop(max_outage=0))

    assert ti.xcoms["return_value"]["outcome"] == "stopping"


def test_a_wait_outlives_an_outage_and_says_so_once(iotda, run, logged):
    iotda.shows(iotda.task(total=1, processing=1), UNREACHABLE, UNREACHABLE, iotda.task("Stopped"))
    iotda.stops({})

    assert run(stop())["return_value"]["outcome"] == "stopped"
    said = logged()
    assert said.count("Waiting on; giving up after") == 1
    assert "IoTDA answers again" in said


def test_failure_rows_in_the_answer_to_a_whole_stop_do_not_hide_a_timeout(iotda, run, ti):
    iotda.shows(iotda.task(total=2, processing=2), iotda.task("Stopping", total=2, processing=2))
    iotda.stops(VENDORS_ANSWER)

    with pytest.raises(BatchTaskTimeoutError):
        run(stop(timeout=0.01, on_target_failure="fail"))
    assert ti.xcoms["return_value"]["failed"] == 1


def test_counts_of_a_torn_read_never_make_requested_negative(iotda, run):
    iotda.shows(iotda.task(total=0, success=3), iotda.task("Stopped", total=3, success=3))
    iotda.stops({})

    assert run(stop())["return_value"]["requested"] == 0


def test_devices_of_a_task_that_showed_no_counts_before_were_asked_for(iotda, run):
    iotda.shows(iotda.task("Waitting"), iotda.task("Stopped", total=3, stopped=3))
    iotda.stops({})

    result = run(stop())["return_value"]

    assert (result["requested"], result["succeeded"], result["failed"]) == (3, 3, 0)


# --- tasks that have ended, or can't be stopped ---------------------------------------------------


@pytest.mark.parametrize("targets", [None, ["a"]])
@pytest.mark.parametrize("status", ["Success", "Fail", "PartialSuccess", "Stopped"])
def test_a_task_that_has_ended_is_reported_and_not_stopped(iotda, run, status, targets):
    iotda.shows(iotda.task(status, total=2, success=1, fail=1))

    xcoms = run(stop(targets=targets))

    result = xcoms["return_value"]
    assert (result["outcome"], result["status"]) == ("already_ended", status)
    assert result["requested"] == (0 if targets is None else 1)
    assert xcoms["failed_targets"] == xcoms["succeeded_targets"] == []
    assert iotda.sent == [f"GET {TASK_ID}"]


@pytest.mark.parametrize("targets", [None, ["a"]])
@pytest.mark.parametrize(
    ("if_ended", "error"), [("skip", AirflowSkipException), ("fail", AirflowFailException)]
)
def test_if_ended_decides_after_the_xcoms_are_pushed(iotda, run, ti, targets, if_ended, error):
    iotda.shows(iotda.task("Success", total=2, success=2))

    with pytest.raises(error, match="had already ended as Success: 2 succeeded"):
        run(stop(targets=targets, if_ended=if_ended))

    assert ti.xcoms["return_value"]["outcome"] == "already_ended"
    assert ti.xcoms["failed_targets"] == []


@pytest.mark.parametrize("targets", [None, ["a", "b"]])
def test_a_task_that_ends_between_the_look_and_the_stop_has_already_ended(iotda, run, targets):
    iotda.shows(iotda.task(total=2, processing=2), iotda.task("Success", total=2, success=2))
    iotda.stops(REFUSED)

    result = run(stop(targets=targets))["return_value"]

    assert (result["outcome"], result["status"]) == ("already_ended", "Success")


def test_a_whole_stop_that_another_has_just_sent_is_joined(iotda, run):
    iotda.shows(
        iotda.task(total=2, processing=2),
        iotda.task("Stopping", total=2, processing=2),
        iotda.task("Stopped", total=2, stopped=2),
    )
    iotda.stops(REFUSED)

    assert run(stop())["return_value"]["outcome"] == "stopped"


@pytest.mark.parametrize("targets", [None, ["a"]])
def test_a_module_upgrade_is_refused_before_a_stop_is_sent(iotda, run, targets):
    iotda.shows(iotda.task(task_type="moduleUpgrade", total=2, processing=2))

    with pytest.raises(TaskNotStoppableError, match=r"is a moduleUpgrade: .* only firmwareUpgrade"):
        run(stop(targets=targets))
    assert iotda.sent == [f"GET {TASK_ID}"]


def test_an_unknown_task_is_one_line_with_the_request_id(iotda, run):
    body = {"error_code": "IOTDA.014217", "error_msg": "The task does not exist."}
    iotda.shows({"status_code": 404, "json": body, "headers": {"X-Request-Id": "req-7"}})

    with pytest.raises(Exception, match=r"IOTDA\.014217 The task does not exist.*req-7") as error:
        run(stop())
    assert len(str(error.value).splitlines()) == 1


def test_an_answer_about_another_task_stops_nothing(iotda, run):
    iotda.shows(iotda.task(task_id="00ff"))
    iotda.shows(iotda.task(task_id="00ff"), of="00ff")
    iotda.stops({}, of="00ff")

    with pytest.raises(IoTDATransportError, match="another task"):
        run(stop())
    assert not [line for line in iotda.sent if "stop" in line]


# --- bounds, reports, answers that can't be trusted -----------------------------------------------


@pytest.mark.parametrize(("most", "kept"), [(3, 3), (0, 0), (100_000, 50)])
def test_xcom_lists_are_bounded_by_the_parameter_and_by_airflow(
    iotda, run, monkeypatch, most, kept
):
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "50")
    ids = [f"d{n}" for n in range(60)]
    rows = [{"target": t, "status": "failure", "error_code": "X"} for t in ids]
    iotda.shows(iotda.task())
    iotda.stops({"targets": rows})

    xcoms = run(stop(targets=ids, max_xcom_targets=most))

    assert len(xcoms["failed_targets"]) == kept
    assert xcoms["return_value"]["failed"] == 60
    assert xcoms["return_value"]["failed_truncated"] is True


def test_report_holds_every_failed_target_as_one_json_object_a_line(iotda, run, tmp_path):
    ids = [f"d{n}" for n in range(60)]
    rows = [{"target": t, "status": "failure", "error_code": "X", "error_msg": "坏"} for t in ids]
    iotda.shows(iotda.task())
    iotda.stops({"targets": rows})
    path = tmp_path / "new" / "folder" / "failed.jsonl"

    xcoms = run(stop(targets=ids, max_xcom_targets=1, report_path=str(path)))

    written = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [row["target"] for row in written] == ids
    assert written[0] == xcoms["failed_targets"][0]
    assert written[0]["error_msg"] == "坏"
    assert xcoms["return_value"]["report_path"] == str(path)


def test_report_is_empty_where_nothing_failed(iotda, run, tmp_path):
    iotda.shows(iotda.task("Success"))
    path = tmp_path / "failed.jsonl"

    run(stop(report_path=f"file://{path}"))

    assert path.read_text() == ""


@pytest.mark.parametrize("rendered", ["None", "", "null"])
def test_a_report_path_rendered_to_nothing_writes_nothing(
    iotda, run, rendered, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    iotda.shows(iotda.task("Success"))

    assert run(stop(report_path=rendered))["return_value"]["report_path"] is None
    assert list(tmp_path.iterdir()) == []


def test_a_report_path_of_an_unknown_storage_is_refused_before_a_request(iotda, run):
    with pytest.raises(IoTDAConfigError, match=r"report_path 'nope://b/k' can't be written"):
        run(stop(report_path="nope://b/k"))
    assert iotda.sent == []


def test_what_was_stopped_is_in_the_xcoms_though_the_report_can_not_be_written(
    iotda, run, ti, tmp_path
):
    iotda.shows(iotda.task())
    iotda.stops(VENDORS_ANSWER)

    with pytest.raises(OSError, match=r"."):
        run(stop(targets=[STRANGER, IN_TASK], report_path=str(tmp_path)))
    assert ti.xcoms["return_value"]["failed"] == 1


def test_a_hostile_message_is_one_short_line_in_log_and_xcom(iotda, run, logged):
    row = {**NOT_IN_TASK, "error_msg": "x\n[ERROR] forged\x1b[31m" + "y" * 100_000}
    iotda.shows(iotda.task(task_name="a\nb"))
    iotda.stops({"targets": [row]})

    xcoms = run(stop(targets=[STRANGER]))

    assert len(xcoms["failed_targets"][0]["error_msg"]) <= 500
    said = logged()
    assert "forged" in said
    assert not [line for line in said.splitlines() if line.startswith("[ERROR]")]
    assert "\x1b" not in said


@pytest.mark.parametrize(
    "row",
    [
        {"target": STRANGER, "status": "failure", "error_code": 14219, "error_msg": {"a": 1}},
        {"target": STRANGER, "status": "failure"},
        {"target": STRANGER, "status": None, "error_msg": None},
        {"target": STRANGER, "status": ["success"]},
    ],
)
def test_a_row_of_wrong_types_is_a_failure_in_plain_text(iotda, run, row):
    iotda.shows(iotda.task())
    iotda.stops({"targets": [row]})

    (failed,) = run(stop(targets=[STRANGER]))["failed_targets"]

    assert set(failed) == {"target", "error_code", "error_msg", "failure_class"}
    assert all(value is None or isinstance(value, str) for value in failed.values())


def test_no_secret_is_in_xcoms_logs_reprs_or_errors(iotda, run, ti, logged, caplog):
    def echo(request: Any, context: Any) -> str:
        context.status_code = 500
        return json.dumps(dict(request.headers))

    iotda.shows(iotda.task(total=1, processing=1), {"text": echo})
    iotda.stops({})
    operator = stop(max_outage=0)

    with pytest.raises(IoTDATransportError) as error:
        run(operator)

    signature = iotda.requests[-1].headers["Authorization"].rsplit("Signature=", 1)[1]
    seen = "\n".join(
        map(
            str,
            (logged(), caplog.text, ti.xcoms, vars(operator), error.value, error.value.__cause__),
        )
    )
    assert "canary-secret-key" not in seen
    assert "canary-security-token" not in seen
    assert signature not in seen


# --- refused when the DAG is parsed ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("if_ended", "ignore"),
        ("on_target_failure", "raise"),
        ("poll_interval", 0),
        ("poll_interval", float("nan")),
        ("poll_interval", "10"),
        ("timeout", -1),
        ("timeout", float("inf")),
        ("timeout", True),
        ("max_outage", -1),
        ("max_xcom_targets", -1),
        ("ignore_error_codes", "IOTDA.014219"),
    ],
)
def test_a_parameter_out_of_range_is_named_when_the_dag_is_parsed(parameter, value):
    with pytest.raises(ValueError, match=f"^{parameter} must be"):
        stop(**{parameter: value})


def test_every_documented_template_field_is_one():
    assert set(StopBatchTaskOperator.template_fields) == {
        "batch_task_id",
        "targets",
        "iotda_conn_id",
        "project_id",
        "instance_id",
        "report_path",
    }


@pytest.mark.parametrize("rendered", [None, "None", ""])
def test_overrides_rendered_to_nothing_leave_the_connections_own(iotda, run, rendered):
    iotda.shows(iotda.task("Success"))

    run(stop(project_id=rendered, instance_id=rendered))

    assert "Instance-Id" not in iotda.requests[0].headers
    assert "/canary-project/" in iotda.requests[0].path


def test_overrides_of_the_operator_win_over_the_connection(iotda, run):
    iotda.shows(iotda.task("Success"))

    run(stop(instance_id="instance-7"))

    assert iotda.requests[0].headers["Instance-Id"] == "instance-7"


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a/b", "../x", "é", "a b"])
def test_an_override_that_no_header_or_path_may_hold_is_refused(iotda, run, value):
    for name in ("project_id", "instance_id"):
        with pytest.raises(IoTDAConfigError, match=name):
            run(stop(**{name: value}))
    assert iotda.sent == []


def test_a_missing_connection_is_one_line_that_says_what_to_do(iotda, run):
    with pytest.raises(IoTDAConfigError, match=r"'nowhere'.*airflow connections add") as error:
        run(stop(iotda_conn_id="nowhere"))
    assert len(str(error.value).splitlines()) == 1


class Forged:
    """The notes of a task instance, as somebody has written them."""

    def __init__(self, note: Any) -> None:
        self.note = note

    def get(self, *_: Any) -> Any:
        """What stands there."""
        return self.note

    def set(self, *_: Any) -> None:
        """Nothing else is kept."""

    delete = set


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("joined", [True, False])
@pytest.mark.parametrize("numbers", [0, 10**9, -1, "x"])
@pytest.mark.parametrize("status", ["Processing", "Stopped", "Success"])
def test_a_forged_note_stops_no_more_than_was_asked_for(
    iotda, run, monkeypatch, whole, joined, numbers, status
):
    """It may have a stop reported as this task's own; what is sent is what the DAG asks for."""
    note = {"batch_task_id": TASK_ID, "requested": numbers, "stopped_before": numbers}
    note |= {"whole": whole, "joined": joined}
    monkeypatch.setattr(
        "iotda_provider.operators.batch_task.stop_record.notes_of", lambda _: Forged(note)
    )
    iotda.shows(iotda.task(status, processing=1), iotda.task("Stopped", stopped=1))
    iotda.stops({"targets": [{"target": "a", "status": "success"}]})

    with suppress(Exception):
        run(stop(targets=["a"]))

    sent = [call for call in iotda.sent if "/stop" in call]
    assert sent == ([f'POST {TASK_ID}/stop {{"targets": ["a"]}}'] if status == "Processing" else [])
