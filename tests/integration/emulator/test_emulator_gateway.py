"""What the gateway lets in, what it refuses, and what it writes down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests

from iotda_provider.emulator import Emulator

TASK = "0123456789abcdef01234567"

Call = Callable[..., requests.Response]


@pytest.fixture
def emulator(start: Callable[..., Emulator]) -> Emulator:
    emulator = start({"devices": 10, "batch_tasks": [{"task_id": TASK}]})
    emulator.advance(2)
    return emulator


def test_every_answer_has_a_request_id(emulator: Emulator, call: Call) -> None:
    answers = [
        call(emulator, "GET", "/devices"),
        call(emulator, "GET", "/nothing"),
        call(emulator, "GET", "/batchtasks", query={"limit": "0"}),
        requests.get(emulator.url, timeout=60),
    ]
    ids = {answer.headers["X-Request-Id"] for answer in answers}
    assert len(ids) == len(answers)


@pytest.mark.parametrize(
    ("method", "path", "query", "body", "status", "code"),
    [
        ("GET", "/nothing", {}, None, 404, "APIGW.0101"),
        ("PATCH", "/batchtasks", {}, None, 404, "APIGW.0101"),
        ("GET", "/batchtasks/", {}, None, 404, "APIGW.0101"),
        ("GET", "/batchtasks", {}, None, 400, "IOTDA.000006"),
        (
            "GET",
            "/batchtasks",
            {"task_type": "firmwareUpgrade", "app_id": ""},
            None,
            400,
            "IOTDA.000006",
        ),
        ("GET", "/batchtasks", {"app_id": "a b"}, None, 400, "IOTDA.000006"),
        ("GET", f"/batchtasks/{TASK}", {"target": "a/b"}, None, 400, "IOTDA.000006"),
        ("GET", "/batchtasks", {"limit": "51"}, None, 400, "IOTDA.000017"),
        ("GET", "/batchtasks", {"limit": "+1"}, None, 400, "IOTDA.000017"),
        ("GET", "/batchtasks", {"marker": "xyz"}, None, 400, "IOTDA.000018"),
        ("GET", "/batchtasks", {"offset": "501"}, None, 400, "IOTDA.000006"),
        ("GET", "/batchtasks", {"status": "Waiting"}, None, 400, "IOTDA.000006"),
        ("GET", "/batchtasks", {"task_type": "upgrade"}, None, 400, "IOTDA.000006"),
        ("GET", f"/batchtasks/{TASK}", {"task_detail_status": "x"}, None, 400, "IOTDA.000006"),
        ("GET", "/batchtasks/UPPER", {}, None, 400, "IOTDA.000006"),
        ("GET", "/batchtasks/" + "a" * 25, {}, None, 400, "IOTDA.000006"),
        ("GET", "/batchtasks/abc", {}, None, 404, "IOTDA.014217"),
        ("POST", f"/batchtasks/{TASK}/stop", {}, b"{", 400, "IOTDA.000008"),
        ("POST", f"/batchtasks/{TASK}/stop", {}, [], 400, "IOTDA.000008"),
        ("POST", f"/batchtasks/{TASK}/stop", {}, {"targets": "a"}, 400, "IOTDA.000006"),
        ("POST", f"/batchtasks/{TASK}/stop", {}, {"targets": ["a/b"]}, 400, "IOTDA.000006"),
        ("POST", f"/batchtasks/{TASK}/stop", {}, {"targets": ["a"] * 101}, 400, "IOTDA.000006"),
        ("POST", "/batchtasks", {}, b"\xff", 400, "IOTDA.000008"),
        ("GET", "/devices/nobody", {}, None, 404, "IOTDA.014000"),
        ("POST", "/search/query-devices", {}, {"sql": "drop"}, 400, "IOTDA.000006"),
    ],
)
def test_bad_input_is_refused_in_the_platforms_words(
    emulator: Emulator,
    call: Call,
    method: str,
    path: str,
    query: dict[str, str],
    body: Any,
    status: int,
    code: str,
) -> None:
    answer = call(emulator, method, path, body, query)
    assert (answer.status_code, answer.json()["error_code"]) == (status, code)
    assert set(answer.json()) == {"error_code", "error_msg"}


def test_a_signature_covers_path_query_body_and_headers(emulator: Emulator, call: Call) -> None:
    path = f"{emulator.url}/v5/iot/{emulator.instance.settings.project_id}/devices"
    good = call(emulator, "GET", "/devices", query={"limit": "5"}).request
    for change in (
        {"url": f"{path}?limit=6"},
        {"url": f"{path}/device-00001?limit=5"},
        {"data": b"x"},
        {"headers": {**good.headers, "Content-Type": "text/plain"}},
        {"headers": {**good.headers, "X-Sdk-Date": "20200101T000000Z"}},
    ):
        send = {"url": f"{path}?limit=5", "headers": good.headers, **change}
        assert requests.request("GET", timeout=60, **send).status_code == 401, change
    again = requests.get(f"{path}?limit=5", headers=good.headers, timeout=60)
    assert again.status_code == 200


def test_strange_json_is_refused_or_comes_back(emulator: Emulator, call: Call) -> None:
    deep = b"[" * 100_000
    assert call(emulator, "POST", "/batchtasks", deep).json()["error_code"] == "IOTDA.000008"
    body = {
        "task_name": "x",
        "task_type": "firmwareUpgrade",
        "targets": ["a"],
        "document": {"package_ids": ["1"]},
        "task_ext_info": {"note": "half a pair: \ud800"},
    }
    answer = call(emulator, "POST", "/batchtasks", body)
    assert answer.status_code == 201
    assert answer.json()["task_ext_info"] == {"note": "half a pair: ?"}


def test_the_query_is_signed_whatever_its_characters(emulator: Emulator, call: Call) -> None:
    query = {"name": "a b#c&d%(水)?'", "limit": "5"}
    for derived in (False, True):
        answer = call(emulator, "GET", "/device-group", query=query, derived=derived)
        assert answer.status_code == 200, answer.text


def test_a_call_without_a_signature_is_refused(emulator: Emulator) -> None:
    answer = requests.get(f"{emulator.url}/v5/iot/emulator-project/batchtasks", timeout=60)
    assert (answer.status_code, answer.json()["error_code"]) == (401, "APIGW.0301")


def test_another_project_is_forbidden(emulator: Emulator, call: Call) -> None:
    answer = call(emulator, "GET", "/devices", project="other")
    assert (answer.status_code, answer.json()["error_code"]) == (403, "APIGW.0302")


def test_an_instance_may_want_its_id_and_one_kind_of_signature(
    start: Callable[..., Emulator], call: Call
) -> None:
    emulator = start({"switches": {"instance_id": "mine", "signature": "V11-HMAC-SHA256"}})
    extra = emulator.airflow_connection["extra"]
    assert (extra["instance_id"], extra["derived_auth"]) == ("mine", "always")
    mine = {"Instance-Id": "mine"}
    assert call(emulator, "GET", "/devices", headers=mine, derived=True).status_code == 200
    assert call(emulator, "GET", "/devices", derived=True).status_code == 403
    assert call(emulator, "GET", "/devices", headers=mine).status_code == 401


def test_the_journal_tells_what_was_asked_and_keeps_no_secret(
    emulator: Emulator, call: Call
) -> None:
    call(emulator, "POST", f"/batchtasks/{TASK}/stop", {"targets": ["device-00001"]})
    call(emulator, "GET", "/batchtasks", query={"limit": "51"})
    stop, listing = emulator.journal()
    assert stop["call"] == "stop_batch_task"
    assert stop["body"] == {"targets": ["device-00001"]}
    assert stop["status"] == 200
    assert stop["key"] == emulator.instance.settings.ak
    assert listing["query"] == {"limit": "51"}
    assert listing["error_code"] == "IOTDA.000017"
    assert [entry["n"] for entry in emulator.journal("list_*")] == [listing["n"]]
    assert "authorization" not in stop["headers"]
    emulator.clear_journal()
    assert emulator.journal() == []


@pytest.mark.parametrize(
    ("meaning", "status", "stopped"), [("all", 200, 10), ("none", 200, 0), ("refuse", 400, 0)]
)
def test_an_explicitly_empty_list_means_what_the_switch_says(
    start: Callable[..., Emulator], call: Call, meaning: str, status: int, stopped: int
) -> None:
    scenario = {
        "devices": 10,
        "batch_tasks": [{"task_id": TASK}],
        "switches": {"empty_targets": meaning},
    }
    emulator = start(scenario)
    emulator.advance(2)
    answer = call(emulator, "POST", f"/batchtasks/{TASK}/stop", {"targets": []})
    assert answer.status_code == status
    emulator.advance(10)
    task = call(emulator, "GET", f"/batchtasks/{TASK}").json()["batchtask"]
    assert task["task_progress"]["stopped"] == stopped


@pytest.mark.parametrize(
    ("switch", "answer"),
    [
        ("omit", {}),
        ("empty", {"targets": []}),
        ("results", {"targets": [{"target": "device-00000", "status": "success"}]}),
    ],
)
def test_the_answer_to_stopping_everything_is_a_switch(
    start: Callable[..., Emulator], call: Call, switch: str, answer: object
) -> None:
    scenario = {
        "devices": 1,
        "batch_tasks": [{"task_id": TASK}],
        "switches": {"all_answer": switch},
    }
    emulator = start(scenario)
    assert call(emulator, "POST", f"/batchtasks/{TASK}/stop", {}).json() == answer
