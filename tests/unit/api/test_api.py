"""Calls of the API as plain requests: checked before they are sent, unable to leave their place."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotda_provider import api
from iotda_provider.exceptions import IoTDAConfigError

TASK_ID = "5c8f9e2d7a6b4c3d1e0f9a8b"
ACTIONS = [api.stop_batch_task, api.retry_batch_task, api.confirm_batch_task]
TASK_IDS = st.from_regex(r"[a-f0-9]{1,24}", fullmatch=True)
DEVICE_IDS = st.from_regex(r"[A-Za-z0-9_-]{1,128}", fullmatch=True)


def outgoing(call: api.Call[Any], project_id: str = "p") -> api.Outgoing:
    return call.outgoing(host="iotda.test", project_id=project_id, headers={})


@given(task_id=TASK_IDS)
def test_every_documented_task_id_is_taken(task_id):
    assert api.check_task_id(task_id) == task_id
    path = f"/v5/iot/p/batchtasks/{task_id}"
    assert outgoing(api.show_batch_task(task_id)).path == path
    assert outgoing(api.stop_batch_task(task_id, None)).path == f"{path}/stop"


@given(value=st.text() | st.integers() | st.none() | st.binary() | st.lists(TASK_IDS, max_size=2))
def test_whatever_else_a_task_id_is_it_is_refused_in_one_line(value):
    if isinstance(value, str) and re.fullmatch(r"[a-f0-9]{1,24}", value):
        return
    with pytest.raises(IoTDAConfigError, match=r"^batch_task_id must be 1 to 24") as refusal:
        api.show_batch_task(value)
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize(
    "value", ["..", "a/b", "a%2fb", "a?b=c", "a#b", "a\n", "a;b", " a", "\uff41"]
)
def test_path_characters_in_a_task_id_are_refused_by_every_call(value):
    calls = [api.show_batch_task, api.list_subtasks, api.delete_batch_task]
    calls += [lambda task_id, act=act: act(task_id, None) for act in ACTIONS]
    for call in calls:
        with pytest.raises(IoTDAConfigError, match="batch_task_id"):
            call(value)


def test_an_id_that_was_made_a_number_of_says_so():
    with pytest.raises(IoTDAConfigError, match=r"got the int 123, not text: with render_temp"):
        api.check_task_id(123)


@given(targets=st.lists(DEVICE_IDS, max_size=30))
def test_device_ids_keep_their_order_and_come_once(targets):
    checked = api.check_targets(targets)

    assert checked == list(dict.fromkeys(targets))


@given(before=st.lists(DEVICE_IDS, max_size=3), wrong=st.text() | st.integers() | st.none())
def test_what_is_no_device_id_is_named_by_its_place(before, wrong):
    if isinstance(wrong, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,128}", wrong):
        return
    with pytest.raises(IoTDAConfigError, match=rf"^targets\[{len(before)}\] is not a device id"):
        api.check_targets([*before, wrong])


@pytest.mark.parametrize("value", ["device-1", b"device-1", {"device-1": 1}])
def test_one_device_alone_is_no_list_of_its_letters(value):
    with pytest.raises(IoTDAConfigError, match=r"^targets must be a list of ids"):
        api.check_targets(value)
    with pytest.raises(IoTDAConfigError, match=r"^targets must be a list of ids"):
        api.create_batch_task(task_name="a", task_type="firmwareUpgrade", targets=value)


@pytest.mark.parametrize("act", ACTIONS)
def test_the_whole_task_is_an_empty_object_and_no_list_ever_is(act):
    assert outgoing(act(TASK_ID, None)).body == b"{}"
    assert json.loads(outgoing(act(TASK_ID, ["a"])).body) == {"targets": ["a"]}
    with pytest.raises(IoTDAConfigError, match=r"takes 1 to 100 targets, got 0"):
        act(TASK_ID, [])
    with pytest.raises(IoTDAConfigError, match="takes 1 to 100 targets, got 101"):
        act(TASK_ID, [f"d{n}" for n in range(101)])


def test_what_may_be_repeated_is_said_by_each_call():
    create = api.create_batch_task(task_name="a", task_type="firmwareUpgrade", targets=["d"])
    calls = {
        "show": api.show_batch_task(TASK_ID),
        "stop": api.stop_batch_task(TASK_ID, None),
        "confirm": api.confirm_batch_task(TASK_ID, None),
        "retry": api.retry_batch_task(TASK_ID, None),
        "create": create,
    }
    assert {name: call.repeat.name for name, call in calls.items()} == {
        "show": "READ",
        "stop": "HARMLESS",
        "confirm": "HARMLESS",
        "retry": "ONCE",
        "create": "ONCE",
    }


def test_each_call_names_the_iam_action_it_needs():
    assert api.stop_batch_task(TASK_ID, None).permission == "iotda:batchtasks:stop"
    assert api.show_batch_task(TASK_ID).permission == "iotda:batchtasks:query"


def test_an_answer_about_another_task_is_not_believed():
    answer = {"batchtask": {"task_id": "00ff", "status": "Processing"}, "task_details": []}
    for call in (api.show_batch_task(TASK_ID), api.list_subtasks(TASK_ID)):
        with pytest.raises(ValueError, match="another task, 00ff"):
            call.read(answer)


@given(
    page=st.fixed_dictionaries(
        {"marker": st.none() | st.text() | st.integers(), "count": st.none() | st.integers()}
    )
)
def test_a_page_of_any_marker_leads_to_a_call_that_stays_in_its_place(page):
    answer = {"batchtask": {"task_id": TASK_ID}, "task_details": [{"target": "a"}], "page": page}
    marker = api.list_subtasks(TASK_ID).read(answer).marker

    uri = outgoing(api.list_subtasks(TASK_ID, marker=marker)).uri

    parts = urlsplit(uri)
    assert parts.path == f"/v5/iot/p/batchtasks/{TASK_ID}"
    assert parts.fragment == ""
    assert dict(parse_qsl(parts.query, keep_blank_values=True)) == (
        {"limit": "50", "marker": marker} if marker else {"limit": "50"}
    )


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"task_name": "a-b"}, "task_name must be 1 to 128 letters"),
        ({"task_name": ""}, "task_name must be"),
        ({"task_name": "a" * 129}, "task_name must be"),
        ({"task_name": None}, "task_name must be"),
        ({"task_type": "firmware"}, "task_type must be one of softwareUpgrade"),
        ({"targets": []}, "takes 1 to 30000 targets, got 0"),
        ({"targets": [f"d{n}" for n in range(30_001)]}, "got 30001: split the rollout"),
        ({"targets": None}, "needs targets or group_ids"),
        ({"targets": None, "group_ids": []}, "group_ids is empty"),
        ({"targets": None, "group_ids": "a"}, "group_ids must be a list"),
    ],
)
def test_a_task_that_can_not_be_created_is_refused_before_it_is_sent(parameters, message):
    parameters = {"task_name": "a", "task_type": "firmwareUpgrade", "targets": ["a"], **parameters}
    with pytest.raises(IoTDAConfigError, match=message):
        api.create_batch_task(**parameters)


def test_a_task_is_created_with_what_was_given_and_nothing_else():
    call = api.create_batch_task(
        task_name="名_1",
        task_type="firmwareUpgrade",
        group_ids=["ab-1"],
        document={"package_ids": ["p"]},
        need_confirm=False,
    )
    assert json.loads(outgoing(call).body) == {
        "task_name": "名_1",
        "task_type": "firmwareUpgrade",
        "targets_filter": {"group_ids": ["ab-1"]},
        "document": {"package_ids": ["p"]},
        "need_confirm": False,
    }


@pytest.mark.parametrize("value", [object(), {1, 2}, b"x", float("nan"), "\ud800"])
def test_a_body_that_json_can_not_hold_is_refused_in_one_line(value):
    call = api.create_batch_task(
        task_name="a", task_type="createCommands", targets=["a"], document={"paras": value}
    )
    with pytest.raises(IoTDAConfigError, match=r"Could not create batch task a: the body") as error:
        outgoing(call)
    assert len(str(error.value).splitlines()) == 1


def test_lists_are_filtered_by_words_that_exist():
    call = api.list_batch_tasks(task_type="firmwareUpgrade", status="Waitting", app_id="a-1")
    assert outgoing(call).uri == (
        "/v5/iot/p/batchtasks?app_id=a-1&limit=50&status=Waitting&task_type=firmwareUpgrade"
    )
    for app_id in (5, "a b&c", ""):
        with pytest.raises(IoTDAConfigError, match=r"^app_id must be"):
            api.list_batch_tasks(task_type="firmwareUpgrade", app_id=app_id)
    for words in ({"status": "Waiting"}, {"task_type": "firmware"}):
        with pytest.raises(IoTDAConfigError, match="must be one of"):
            api.list_batch_tasks(**{"task_type": "firmwareUpgrade", **words})
    with pytest.raises(IoTDAConfigError, match="status must be one of"):
        api.list_subtasks(TASK_ID, status="Stopping")
    with pytest.raises(IoTDAConfigError, match=r"target\[0\] is not a device id"):
        api.list_subtasks(TASK_ID, target="a/b")


@given(endpoint=st.text(alphabet="/.%?#\\:@{}ab5v\n\x00é", max_size=20), project_id=st.text())
def test_no_endpoint_and_no_project_leads_out_of_its_place(endpoint, project_id):
    try:
        sent = outgoing(api.any_call("GET", endpoint), project_id)
    except IoTDAConfigError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017 - a refusal is as good
        return
    parts = urlsplit(f"https://iotda.test{sent.uri}")
    assert parts.netloc == "iotda.test"
    assert parts.path.startswith("/v5/")
    assert parts.query == parts.fragment == ""
    segments = parts.path.split("/")[1:]
    assert not {"", ".", ".."} & {unquote(part) for part in segments if part != ""}
    assert parts.path.isascii()
    assert parts.path.isprintable()


@pytest.mark.parametrize(
    ("endpoint", "path"),
    [
        ("/v5/iot/{project_id}/devices", "/v5/iot/p/devices"),
        ("devices/a-1", "/v5/iot/p/devices/a-1"),
        ("/devices", "/v5/iot/p/devices"),
    ],
)
def test_an_endpoint_is_taken_below_the_project(endpoint, path):
    assert outgoing(api.any_call("get", endpoint)).path == path


@pytest.mark.parametrize(
    "endpoint",
    [
        *("", "/", None, "//evil.test/x", "https://evil.test", "/v5/../x", "/a/./b", "/a?b"),
        *("/a#b", "/a//b", "/a%2fb", "/a b", "/a\r\nX: y", "{other}/a", "/v5/iot/..."),
    ],
)
def test_an_endpoint_that_is_no_plain_path_is_refused(endpoint):
    with pytest.raises(IoTDAConfigError, match="endpoint must be a plain path"):
        api.any_call("GET", endpoint)


def test_a_query_holds_repeated_empty_and_boolean_values_and_leaves_none_out():
    query = {"a": ["2", 1], "b": "", "c": True, "d": None, "e": "x&y=z +"}
    call = api.any_call("GET", "devices", query=query)
    assert outgoing(call).uri.partition("?")[2] == "a=1&a=2&b=&c=true&e=x%26y%3Dz%20%2B"


@pytest.mark.parametrize("method", ["TRACE", "", "GET\r\n", "connect"])
def test_a_method_that_the_api_has_not_is_refused(method):
    with pytest.raises(IoTDAConfigError, match="method must be GET"):
        api.any_call(method, "devices")


@pytest.mark.parametrize("where", [{"query": {"app_id": "\ud800"}}, {"query": {"\ud800": "1"}}])
def test_query_that_no_url_can_hold_is_refused_before_it_is_sent(where):
    with pytest.raises(IoTDAConfigError, match="the query can't be encoded"):
        outgoing(api.any_call("GET", "devices", **where))
