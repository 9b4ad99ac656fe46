"""From the bytes that came back to a result or a typed error in one line, whatever the bytes."""

from __future__ import annotations

import gc
import json
import tracemalloc
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.growth import growth

from iotda_provider import api
from iotda_provider.api.responses import MAX_ANSWER_BYTES, Answer, read_answer
from iotda_provider.exceptions import (
    IoTDAApiError,
    IoTDAAuthError,
    IoTDAError,
    IoTDANotFoundError,
    IoTDAServerError,
    IoTDAThrottledError,
    IoTDATransportError,
)

TASK_ID = "5c8f9e2d7a6b4c3d1e0f9a8b"
SHOW = api.show_batch_task(TASK_ID)
STOP = api.stop_batch_task(TASK_ID, None)
CALLS = [
    SHOW,
    STOP,
    api.list_subtasks(TASK_ID),
    api.list_batch_tasks(task_type="firmwareUpgrade"),
    api.create_batch_task(task_name="a", task_type="firmwareUpgrade", targets=["a"]),
    api.any_call("GET", "devices"),
]
NAMES = ["batchtask", "batchtasks", "task_details", "page", "targets", "task_id", "status"]
NAMES += ["task_progress", "marker", "count", "target", "error", "error_code", "error_msg"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5)
    ),
    max_leaves=12,
)
HEADERS = st.dictionaries(
    st.sampled_from(["date", "retry-after", "x-request-id", "location", "content-type"]),
    st.text(max_size=60)
    | st.sampled_from(["Mon, 01 Jan 2024 00:00:00 +" + "9" * n for n in (4, 25)]),
)


def answer(status: int, body: Any = b"", /, **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    names = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Answer.of(status, names, raw)


@given(
    call=st.sampled_from(CALLS),
    status=st.sampled_from([200, 201, 204, 301, 400, 401, 403, 404, 429, 500, 503, 999]),
    body=st.binary(max_size=200) | JSON.map(lambda data: json.dumps(data).encode()),
    headers=HEADERS,
)
def test_any_answer_is_a_result_or_one_line_of_a_typed_error(call, status, body, headers):
    try:
        read_answer(call, Answer.of(status, headers.items(), body))
    except IoTDAError as error:
        line = str(error)
    else:
        return
    assert len(line.splitlines()) == 1
    assert len(line) < 2_500
    assert line.isprintable()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, IoTDAApiError),
        (401, IoTDAAuthError),
        (403, IoTDAAuthError),
        (404, IoTDANotFoundError),
        (429, IoTDAThrottledError),
        (500, IoTDAServerError),
        (502, IoTDAServerError),
    ],
)
def test_the_status_tells_the_type(status, kind):
    with pytest.raises(IoTDAApiError) as error:
        read_answer(SHOW, answer(status))
    assert type(error.value) is kind
    assert error.value.status_code == status
    assert f"Could not read batch task {TASK_ID}: HTTP {status}" in str(error.value)


def test_a_404_of_a_proxy_does_not_say_that_a_batch_task_was_deleted():
    page = b"<html><head><title>404 Not Found</title></head></html>"
    with pytest.raises(IoTDANotFoundError) as error:
        read_answer(SHOW, Answer.of(404, (), page))
    assert "a proxy or load balancer may have sent it" in str(error.value)
    assert "deleted" not in str(error.value)


@pytest.mark.parametrize(
    "body",
    [
        {"error_code": "IOTDA.000006", "error_msg": "bad"},
        {"errorCode": "IOTDA.000006", "errorMsg": "bad"},
        {"code": "IOTDA.000006", "message": "bad"},
        {"error": {"code": "IOTDA.000006", "message": "bad"}},
        {"error_code": "IOTDA.000006", "error_msg": "bad", "encoded_authorization_message": "xx"},
    ],
)
def test_code_message_and_request_id_are_kept_in_every_shape_a_gateway_uses(body):
    with pytest.raises(IoTDAApiError, match=r"IOTDA\.000006 bad.*\(request id req-7\)") as error:
        read_answer(SHOW, answer(400, body, x_request_id="req-7"))
    assert (error.value.error_code, error.value.error_msg) == ("IOTDA.000006", "bad")
    assert error.value.request_id == "req-7"


REFUSALS = [
    {"error_code": "IOTDA.000006", "error_msg": "bad"},
    {"error_code": "IOTDA.000006"},
    {"error_msg": "bad"},
    {"errorCode": "IOTDA.000006", "errorMsg": "bad"},
    {"code": "APIGW.0201", "message": "bad"},
    {"error": {"code": "IOTDA.000006", "message": "bad"}},
    {"error": "bad"},
    {"error": True},
    {"error_code": "IOTDA.000006", "targets": []},
]
EVERY_CALL = [
    *CALLS,
    api.stop_batch_task(TASK_ID, ["d"]),
    api.confirm_batch_task(TASK_ID, None),
    api.retry_batch_task(TASK_ID, None),
    api.delete_batch_task(TASK_ID),
    api.change_group("a1", "d", add=True),
    api.create_group(name="g"),
    api.list_groups(),
    api.list_devices_in_group("a1"),
    api.list_devices(),
    api.show_device("d"),
    api.search_devices("select device_id from device"),
    api.list_packages(package_type="firmwarePackage"),
    api.show_package("p"),
    api.create_package(
        app_id="a",
        package_type="firmwarePackage",
        product_id="p",
        version="1",
        obs_location={"region_name": "r", "bucket_name": "bkt", "object_key": "k"},
    ),
    api.delete_package("p"),
    api.any_call("POST", "devices", body={}),
]


@pytest.mark.parametrize("body", REFUSALS, ids=repr)
@pytest.mark.parametrize("call", EVERY_CALL, ids=lambda call: call.action)
def test_an_error_is_a_refusal_whatever_the_status_says(call, body):
    with pytest.raises(IoTDAApiError, match=f"Could not {call.action}: HTTP 200") as error:
        read_answer(call, answer(200, body, x_request_id="req-7"))
    assert error.value.request_id == "req-7"
    assert error.value.error_code in ("IOTDA.000006", "APIGW.0201", None)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("APIGW.0301", IoTDAAuthError),
        ("APIGW.0302", IoTDAAuthError),
        ("APIG.0308", IoTDAThrottledError),
        ("IOTDA.021101", IoTDAThrottledError),
        ("IOTDA.000006", IoTDAApiError),
    ],
)
def test_where_the_status_says_success_the_code_tells_the_type(code, kind):
    with pytest.raises(IoTDAApiError) as error:
        read_answer(STOP, answer(200, {"error_code": code, "error_msg": "no"}))
    assert type(error.value) is kind


@pytest.mark.parametrize("none", [None, "", {}, {"error_code": None, "error_msg": None}])
def test_errors_of_rows_and_fields_without_an_error_are_no_refusal(none):
    error = {"error_code": "IOTDA.014219", "error_msg": "The target is not in the task"}
    row = {"target": "d", "status": "failure", **error}
    assert read_answer(STOP, answer(200, {"targets": [row], "error": none})) != ()
    task = {"task_id": TASK_ID, "status": "Fail", "status_desc": "error", "error": error}
    rows = [{"target": "d", "status": "Fail", "error": error}]
    told = {"batchtask": task, "task_details": rows, "error_code": None, "error_msg": ""}
    assert read_answer(SHOW, answer(200, told)).status == "Fail"
    page = read_answer(api.list_subtasks(TASK_ID), answer(200, told))
    assert page.rows[0].error_code == "IOTDA.014219"
    devices = {"devices": [{"device_id": "d", **error}]}
    assert read_answer(api.list_devices(), answer(200, devices)).rows
    own = {"command_id": "c", "error_code": None, "message": "text", "response": error}
    assert read_answer(api.any_call("GET", "x"), answer(200, own)) == own


@pytest.mark.parametrize("call", [api.delete_batch_task(TASK_ID), EVERY_CALL[10]])
def test_what_says_no_more_than_done_is_empty_or_an_object(call):
    for body in (b"", b"null", b"{}"):
        assert read_answer(call, answer(200, body)) is None
    for body in (b'"Forbidden"', b"[1]", b"7"):
        with pytest.raises(IoTDATransportError, match="makes no sense"):
            read_answer(call, answer(200, body))


@pytest.mark.parametrize("body", [b"false", b"0", b'""', b"[]"])
@pytest.mark.parametrize(
    "call",
    [
        make(TASK_ID, None)
        for make in (api.stop_batch_task, api.confirm_batch_task, api.retry_batch_task)
    ],
)
def test_json_that_is_no_object_is_no_success(call, body):
    assert read_answer(call, answer(200, b"")) == read_answer(call, answer(200, b"null")) == ()
    with pytest.raises(IoTDATransportError, match="makes no sense"):
        read_answer(call, answer(200, body))


@pytest.mark.parametrize("status", [200, 502])
def test_an_html_page_is_told_by_its_title(status):
    page = b"<html><head><title>502 Bad\nGateway</title></head>" + b"x" * 100_000
    with pytest.raises(IoTDAError, match="an HTML page titled '502 Bad Gateway'"):
        read_answer(SHOW, answer(status, page))


HOSTILE = ["<title>", "<title><", "\\", "&amp;", "[", "[],", '"a",', "9", "\n", '{"a":[', "<"]


@pytest.mark.parametrize("status", [200, 502])
@pytest.mark.parametrize("part", HOSTILE)
def test_the_time_to_read_an_answer_grows_with_its_size_and_no_faster(status, part):
    secrets = {"X-Auth-Token": "&<>\"'" * 50, "X-Security-Token": "<title>" * 10}

    def work(size):
        reply = Answer.of(status, [], (part * (size // len(part))).encode(), sent=secrets)

        def read():
            with pytest.raises(IoTDAError):
                read_answer(SHOW, reply)

        return read

    assert growth(work, 32_768, tries=3) < 2.5


@pytest.mark.parametrize("name", ["date", "retry-after", "x-request-id", "location"])
@pytest.mark.parametrize("part", ["9", "1 ", "Mon, ", ":"])
def test_the_time_to_read_a_header_grows_with_its_size_and_no_faster(name, part):
    def work(size):
        reply = Answer.of(401, [(name, part * (size // len(part)))], b"", sent={})

        def read():
            with pytest.raises(IoTDAError) as error:
                read_answer(SHOW, reply)
            assert len(str(error.value)) < 2_500

        return read

    assert growth(work, 16_384, tries=3) < 2.5


@pytest.mark.parametrize("part", [b"[],", b"{},", b"1,"])
def test_an_answer_of_many_small_values_takes_no_memory_to_speak_of(part):
    body = b"[" + part * (MAX_ANSWER_BYTES // len(part) - 1) + b"1]"
    gc.collect()
    tracemalloc.start()
    try:
        with pytest.raises(IoTDATransportError):
            read_answer(SHOW, answer(200, body))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * MAX_ANSWER_BYTES


def test_the_largest_answer_of_the_api_is_read():
    """A task whose 30,000 targets, with the longest ids, are repeated."""
    targets = [f"{number:0128}" for number in range(30_000)]
    task = {"task_id": TASK_ID, "status": "Processing", "targets": targets}
    body = json.dumps({"batchtask": task}).encode()
    assert len(body) < MAX_ANSWER_BYTES
    assert read_answer(SHOW, answer(200, body)).task_id == TASK_ID


@pytest.mark.parametrize(
    ("call", "key", "row", "most"),
    [
        (api.list_subtasks(TASK_ID), "task_details", {"target": "a", "status": "Fail"}, 50),
        (api.list_subtasks(TASK_ID, limit=1), "task_details", {"target": "a"}, 1),
        (api.list_batch_tasks(task_type="firmwareUpgrade"), "batchtasks", {"task_id": TASK_ID}, 50),
        (api.list_devices(), "devices", {"device_id": "a"}, 50),
        (api.list_devices_in_group("a1"), "devices", {"device_id": "a"}, 50),
        (api.search_devices("select device_id from device"), "devices", {"device_id": "a"}, 50),
        (api.list_groups(), "device_groups", {"group_id": "a"}, 50),
        (
            api.list_packages(package_type="firmwarePackage"),
            "packages",
            {"package_id": "a", "version": "1"},
            50,
        ),
        (api.stop_batch_task(TASK_ID, ["a", "b"]), "targets", {"target": "a"}, 2),
        (api.confirm_batch_task(TASK_ID, ["a"]), "targets", {"target": "a"}, 1),
        (STOP, "targets", {"target": "a"}, 30_000),
    ],
)
def test_more_rows_than_were_asked_for_are_no_answer(call, key, row, most):
    def rows(count):
        task = {"batchtask": {"task_id": TASK_ID}}
        return answer(200, {**task, key: [row] * count})

    read_answer(call, rows(most))
    with pytest.raises(IoTDATransportError, match=f"{key} has {most + 1} rows, more than the"):
        read_answer(call, rows(most + 1))


@pytest.mark.parametrize(
    "value", ["a\nERROR forged", "a\x1b[2K", "a" * 300, "a\u2028b", "a" * 10**6]
)
def test_an_id_that_no_log_line_should_hold_is_no_answer(value):
    for call, body in (
        (api.list_subtasks(TASK_ID), {"task_details": [{"target": value}]}),
        (api.list_batch_tasks(task_type="firmwareUpgrade"), {"batchtasks": [{"task_id": value}]}),
        (api.list_devices(), {"devices": [{"device_id": value}]}),
        (api.list_groups(), {"device_groups": [{"group_id": value}]}),
        (STOP, {"targets": [{"target": value, "status": "success"}]}),
        (api.show_package("p"), {"package_id": value, "version": "1"}),
        (api.show_package("p"), {"package_id": "p", "version": value}),
    ):
        task = {"batchtask": {"task_id": TASK_ID}}
        with pytest.raises(IoTDATransportError, match="makes no sense") as error:
            read_answer(call, answer(200, {**task, **body}))
        assert len(str(error.value)) < 2_500
        assert str(error.value).isprintable()


def test_what_the_platform_says_of_a_device_is_one_short_line():
    said = "line\n" * 10**5
    device = read_answer(
        api.show_device("d"),
        answer(200, {"device_id": "d", "status": said, "fw_version": said, "device_name": said}),
    )
    for text in (device.status, device.fw_version, device.device_name):
        assert len(text) <= 500
        assert text.isprintable()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"batchtask": {"task_id": "5c8f',
        b"null",
        b"[]",
        b'"text"',
        b"7",
        b'{"batchtask": null}',
        b'{"batchtask": []}',
        b'{"batchtask": {"status": "Success"}}',
        b"[" * 100_000,
        b"9" * 10_000,
        b"\xff\xfe\x00",
    ],
)
def test_what_is_no_answer_of_this_api_is_a_transport_error(body):
    with pytest.raises(IoTDATransportError, match=f"Could not read batch task {TASK_ID}: the an"):
        read_answer(SHOW, answer(200, body))


@pytest.mark.parametrize("levels", [70, 900])
@pytest.mark.parametrize("name", ["task_id", "task_name", "status", "task_type", "task_progress"])
def test_what_is_nested_more_deeply_than_any_answer_is_none(name, levels):
    """To quote it takes a deeper stack than to read it."""
    nested = '{"a": [' * (levels // 2) + "]}" * (levels // 2)
    body = f'{{"batchtask": {{"task_id": "{TASK_ID}", "{name}": {nested}}}}}'
    for status, text in ((200, body), (200, nested), (502, f'{{"error_msg": {nested}}}')):
        with pytest.raises(IoTDAError) as caught:
            read_answer(SHOW, answer(status, text.encode()))
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("rows", [[None], ["a"], [7], {"a": 1}, "text", [{}], [{"target": None}]])
def test_rows_that_are_none_make_the_answer_unusable_never_a_success(rows):
    with pytest.raises(IoTDATransportError, match="makes no sense"):
        read_answer(STOP, answer(200, {"targets": rows}))


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b'{"targets": null}', b'{"targets": []}'])
def test_a_stop_of_all_may_be_answered_without_rows(body):
    assert read_answer(STOP, answer(200, body)) == ()


@pytest.mark.parametrize("count", [-1, "many", 1.5, True, [1]])
def test_a_count_that_makes_no_sense_is_not_believed(count):
    task = {"task_id": TASK_ID, "status": "Processing", "task_progress": {"fail": count}}
    with pytest.raises(IoTDATransportError, match=r"task_progress\.fail is"):
        read_answer(SHOW, answer(200, {"batchtask": task}))


def test_an_unknown_status_is_kept_as_it_is():
    task = {"task_id": TASK_ID, "status": "Paused"}
    assert str(read_answer(SHOW, answer(200, {"batchtask": task})).status) == "Paused"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        ("1.5", 1.5),
        ("soon", None),
        ("-3", None),
        ("9" * 12, None),
        ("", None),
    ],
)
def test_retry_after_in_seconds(value, seconds):
    with pytest.raises(IoTDAThrottledError) as error:
        read_answer(SHOW, answer(429, retry_after=value))
    assert error.value.retry_after == seconds


@pytest.mark.parametrize(
    "date",
    [
        *("", "soon", "Fri, 31 Dec 9999 23:59:59 -0100"),
        *(f"Mon, 01 Jan 2024 00:00:00 +{'9' * digits}" for digits in (4, 14, 25)),
    ],
)
def test_a_date_that_can_not_be_is_no_date(date):
    with pytest.raises(IoTDAThrottledError) as throttled:
        read_answer(SHOW, answer(429, retry_after=date, date=date))
    assert throttled.value.retry_after is None
    with pytest.raises(IoTDAAuthError, match="check the connection's access key"):
        read_answer(SHOW, answer(401, date=date))


def test_retry_after_as_a_date():
    in_an_hour = format_datetime(datetime.now(timezone.utc) + timedelta(hours=1), usegmt=True)
    with pytest.raises(IoTDAThrottledError) as error:
        read_answer(SHOW, answer(429, retry_after=in_an_hour))
    assert 3500 < error.value.retry_after <= 3600

    with pytest.raises(IoTDAThrottledError) as error:
        read_answer(SHOW, answer(429, retry_after="Mon, 01 Jan 2024 00:00:00 GMT"))
    assert error.value.retry_after == 0


def test_a_refused_permission_names_the_iam_action():
    with pytest.raises(IoTDAAuthError, match="iotda:batchtasks:stop"):
        read_answer(STOP, answer(403, {"error_code": "APIGW.0302", "error_msg": "no"}))


def test_a_wrong_clock_is_named_before_a_wrong_key():
    an_hour_ago = format_datetime(datetime.now(timezone.utc) - timedelta(hours=1), usegmt=True)
    with pytest.raises(IoTDAAuthError, match=r"clock is (1 hour|59 minutes).* ahead"):
        read_answer(SHOW, answer(401, date=an_hour_ago))
    now = format_datetime(datetime.now(timezone.utc), usegmt=True)
    with pytest.raises(IoTDAAuthError, match="check the connection's access key"):
        read_answer(SHOW, answer(401, date=now))


def test_a_redirect_is_an_error_that_says_where_to():
    with pytest.raises(IoTDAApiError, match=r"redirects to https://evil\.test/; redirects are not"):
        read_answer(SHOW, answer(302, location="https://evil.test/"))


@pytest.mark.parametrize("status", [200, 400, 500])
def test_secrets_that_an_answer_echoes_are_not_shown(status):
    secrets = {"Authorization": "SDK-HMAC Access=AK, Signature=" + "ab" * 32}
    secrets |= {"X-Security-Token": 'to"ken/+%', "X-Auth-Token": "auth-token"}
    echoed = json.dumps(secrets).encode() + b"<<" + b"ab" * 32
    headers = [("X-Request-Id", "auth-token")]

    with pytest.raises(IoTDAError) as error:
        read_answer(SHOW, Answer.of(status, headers, echoed, sent=secrets))

    seen = str(error.value) + repr(error.value) + repr(vars(error.value))
    for secret in ("ab" * 16, "auth-token", "ken/"):
        assert secret not in seen


def test_an_answer_shows_neither_body_nor_secrets_in_its_repr():
    names = [("X-Subject-Token", "subject-token")]
    shown = repr(Answer.of(200, names, b"body-text", sent={"X-Auth-Token": "auth-token"}))
    assert "subject-token" not in shown
    assert "body-text" not in shown
    assert "auth-token" not in shown
