"""What the official SDK's descriptions forbid, field by field, and what they allow at the most.

The fields, their types, what they may hold and how long they may be are read from the SDK's request
models; the requests are built as its client builds them.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
import requests
from huaweicloudsdkiotda import v5

from iotda_provider.emulator import Emulator

TASK = "0123456789abcdef01234567"
GROUP = "11111111-2222-3333-4444-555555555555"
PACKAGE = "abc-1"
PRODUCT = "64f0c1d2e3a4b5c6d7e8f900"

# Each call of the client that the emulator answers, its request's fields, and its body's model.
PAGED = {"limit": 50, "offset": 0, "marker": "f" * 24}
CREATE = {
    "app_id": "app",
    "task_name": "canary",
    "task_type": "firmwareUpgrade",
    "task_mode": "GATEWAY",
    "need_confirm": True,
    "task_ext_info": {"note": "x"},
    "targets": ["device-00001"],
    "targets_filter": {"group_ids": [GROUP]},
    "document": {"package_ids": [PACKAGE]},
    "task_policy": {"schedule_time": "20260101T000000Z", "retry_count": 1, "retry_interval": 1},
}
CREATE_PACKAGE = {
    "app_id": "app",
    "package_type": "firmwarePackage",
    "product_id": PRODUCT,
    "version": "2.1.0",
    "support_source_versions": ["1.0.0"],
    "description": "fixes",
    "custom_info": "{}",
    "file_location": {
        "obs_location": {
            "region_name": "cn-north-4",
            "bucket_name": "bucket",
            "object_key": "fw.bin",
            "sign_method": "SHA256",
            "sign": "0" * 64,
        }
    },
}
CALLS: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {
    "create_batch_task": ({}, CREATE),
    "list_batch_tasks": (
        {**PAGED, "app_id": "app", "task_type": "firmwareUpgrade", "status": "Success"},
        None,
    ),
    "show_batch_task": (
        {**PAGED, "task_id": TASK, "task_detail_status": "Fail", "target": "device-00001"},
        None,
    ),
    "stop_batch_task": ({"task_id": TASK}, {"targets": ["nobody"]}),
    "retry_batch_task": ({"task_id": TASK}, {"targets": ["nobody"]}),
    "confirm_batch_task": ({"task_id": TASK}, {"targets": ["nobody"]}),
    "delete_batch_task": ({"task_id": TASK}, None),
    "list_devices": (
        {
            **PAGED,
            "product_id": PRODUCT,
            "gateway_id": "device-00001",
            "is_cascade_query": "true",
            "node_id": "device-00001",
            "device_name": "device-00001",
            "start_time": "20260101T000000Z",
            "end_time": "20260101T000000Z",
            "app_id": "app",
        },
        None,
    ),
    "show_device": ({"device_id": "device-00001"}, None),
    "delete_device": ({"device_id": "nobody"}, None),
    "list_device_groups_by_device": ({"device_id": "device-00001"}, None),
    "search_devices": ({}, {"sql": "select * from device limit 1"}),
    "list_device_groups": (
        {
            **PAGED,
            "last_modified_time": "20260101T000000Z",
            "app_id": "app",
            "group_type": "STATIC",
            "name": "canaries",
        },
        None,
    ),
    "add_device_group": (
        {},
        {
            "name": "new",
            "description": "x",
            "super_group_id": GROUP,
            "app_id": "app",
            "group_type": "STATIC",
        },
    ),
    "show_device_group": ({"group_id": GROUP}, None),
    "update_device_group": ({"group_id": GROUP}, {"name": "canaries", "description": "x"}),
    "delete_device_group": ({"group_id": GROUP}, None),
    "show_devices_in_group": ({**PAGED, "group_id": GROUP}, None),
    "create_or_delete_device_in_group": (
        {"group_id": GROUP, "action_id": "addDevice", "device_id": "device-00001"},
        None,
    ),
    "list_ota_package_info": (
        {
            **PAGED,
            "app_id": "app",
            "package_type": "firmwarePackage",
            "product_id": PRODUCT,
            "version": "2.0.0",
        },
        None,
    ),
    "create_ota_package": ({}, CREATE_PACKAGE),
    "show_ota_package": ({"package_id": PACKAGE}, None),
    "delete_ota_package": ({"package_id": PACKAGE}, None),
}
BODIES = {
    "create_batch_task": v5.CreateBatchTask,
    "stop_batch_task": v5.BatchTargets,
    "retry_batch_task": v5.BatchTargets,
    "confirm_batch_task": v5.BatchTargets,
    "search_devices": v5.SearchSql,
    "add_device_group": v5.AddDeviceGroupDTO,
    "update_device_group": v5.UpdateDeviceGroupDTO,
    "create_ota_package": v5.CreateOtaPackage,
}
INNER = {
    "task_policy": v5.TaskPolicy,
    "file_location": v5.FileLocation,
    "obs_location": v5.ObsLocation,
}
# Descriptions that name no characters, or some of them "and others".
ANY_CHARACTERS = {"device_name", "description", "custom_info", "object_key", "sql"}
WRONG_TYPES: dict[str, list[Any]] = {
    "str": [None, 5, 1.5, True, [], ["a"], {}],
    "int": [None, "1", 1.5, True, [], {}, -1],
    "bool": [None, "true", 1, [], {}],
    "object": [None, "{}", 5, True, []],
    "dict": [None, "{}", 5, True, []],
    "list": [None, "a", 5, True, {}, [None], [5], [["a"]], [{}]],
}

Case = tuple[str, dict[str, Any], Any]


def request_model(call: str) -> Any:
    return getattr(v5, "".join(map(str.capitalize, call.split("_"))) + "Request")


def described(model: Any, field: str) -> str:
    return getattr(model, field).__doc__ or ""


def required(model: Any, field: str) -> bool:
    return f"if {field} is not None" not in inspect.getsource(model.__init__)


def wrong_texts(field: str, text: str) -> Iterator[str]:
    """Texts that a field's description forbids."""
    longest = re.search(r"长度不超过(\d+)|长度为(\d+)|最大为(\d+)", text)
    if longest:
        size = int(next(filter(None, longest.groups())))
        yield "a" * (size + 1)
        if "长度为" in text and "十六进制" in text:
            yield "a" * (size - 1)
            yield "g" * size
    if "yyyyMMdd" in text:
        yield from ("2026101T000000Z", "20260101T00000Z", "2026-01-01", "20261301T000000Z", "")
        yield "\uff12\uff10\uff12\uff16\uff10\uff11\uff10\uff11T000000Z"
    elif field not in ANY_CHARACTERS:
        yield from ("a/b", "a\n", "a\u0000", "réparation", "\u9fa6", "\u0663", "a;b")
        yield ""


def wrong_values(model: Any, field: str) -> Iterator[Any]:
    """Values that a field of a body must not have."""
    kind, text = model.openapi_types[field], described(model, field)
    base = re.match(r"[a-z]+", kind)
    yield from WRONG_TYPES[base[0] if base else "object"]
    if kind == "str" and field != "sql":
        yield from wrong_texts(field, text)
    if kind.startswith("list"):
        most = re.search(r"最多支持(\d+)(万?)", text)
        if most:
            yield ["a"] * ((int(most[1]) * (10_000 if most[2] else 1)) + 1)
        yield from (["a/b"], ["a\n"], ["水"])
    if field == "retry_count":
        yield from (0, 6)
    if field == "retry_interval":
        yield 1441
    if field == "sql":
        yield from ("", "a" * 401, "drop", 'select * from device where device_id = "a"')


def body_cases(
    call: str, body: dict[str, Any], model: Any, path: tuple[str, ...]
) -> Iterator[Case]:
    for field in model.openapi_types:
        whole = CALLS[call][1]
        assert whole is not None
        if INNER.get(field) is not None and field in body:
            yield from body_cases(call, body[field], INNER[field], (*path, field))
            wrong: Iterator[Any] = iter([None, "x", 5, True, []])
        else:
            wrong = wrong_values(model, field)
        for value in wrong:
            yield (
                f"{'.'.join((*path, field))}={value!r:.30}",
                {},
                changed(whole, (*path, field), value),
            )
        if required(model, field):
            yield f"no {field}", {}, changed(whole, (*path, field), LEFT_OUT)


LEFT_OUT = object()


def changed(body: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    copy = dict(body)
    if len(path) > 1:
        copy[path[0]] = changed(body[path[0]], path[1:], value)
    elif value is LEFT_OUT:
        del copy[path[0]]
    else:
        copy[path[0]] = value
    return copy


def cases(call: str) -> Iterator[Case]:
    """What must be refused: what is wrong, the request's changed fields, its body."""
    body = CALLS[call][1]
    model = request_model(call)
    for field, kind in model.openapi_types.items():
        if field in ("instance_id", "body"):
            continue
        text = described(model, field)
        wrong = {
            "int": ["", "x", "-1", "1.0", "²", "٣", "1_0", "+1", " 1", "9" * 5000, "501"],
            "bool": ["", "yes", "1", "True"],
        }.get(kind) or list(wrong_texts(field, text))
        for value in wrong:
            yield f"{field}={value!r:.30}", {field: value}, body
        if required(model, field) and "{" + field + "}" not in path_of(call):
            yield f"no {field}", {field: LEFT_OUT}, body
    if body is not None:
        yield from body_cases(call, body, BODIES[call], ())
        for value in ([], "x", 5, True, b"null", b"{", b"\xff"):
            yield f"a body {value!r}", {}, value


def path_of(call: str) -> str:
    return str(info(call, {})["resource_path"])


def info(call: str, fields: dict[str, Any]) -> dict[str, Any]:
    """What the SDK's client makes of a request with these fields."""
    request = SimpleNamespace(attribute_map=fields, **fields)
    made: dict[str, Any] = getattr(v5.IoTDAClient, f"_{call}_http_info")(request)
    return made


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    scenario = {
        "devices": 10,
        "start_time": "20260101T000000Z",
        "batch_tasks": [{"task_id": TASK}],
        "groups": [{"name": "canaries", "group_id": GROUP, "count": 5}],
        "packages": [{"package_id": PACKAGE, "version": "2.0.0", "product_id": PRODUCT}],
        "switches": {"search_per_second": None},
    }
    with Emulator(scenario, speed=0) as running:
        running.advance(2)
        yield running


def send(
    emulator: Emulator,
    call: Callable[..., requests.Response],
    name: str,
    fields: dict[str, Any],
    body: Any,
) -> requests.Response:
    sent = info(name, {k: v for k, v in fields.items() if v is not LEFT_OUT})
    path = sent["resource_path"].removeprefix("/v5/iot/{project_id}")
    for field, value in sent["path_params"].items():
        path = path.replace("{" + field + "}", quote(str(value), safe=""))
    query = {field: str(value) for field, value in sent["query_params"]}
    return call(emulator, sent["method"], path, body, query)


@pytest.mark.parametrize("name", CALLS)
def test_what_the_description_allows_is_answered(
    emulator: Emulator, call: Callable[..., requests.Response], name: str
) -> None:
    fields, body = CALLS[name]
    if name.startswith(("delete", "retry", "confirm")):
        return  # these change what the others need, or are refused in this state
    answer = send(emulator, call, name, fields, body)
    assert answer.status_code < 300, answer.text


@pytest.mark.parametrize("name", CALLS)
def test_what_the_description_forbids_is_a_4xx(
    emulator: Emulator, call: Callable[..., requests.Response], name: str
) -> None:
    fields, _ = CALLS[name]
    let_in = []
    for what, change, body in cases(name):
        if any(not value and f"{{{field}}}" in path_of(name) for field, value in change.items()):
            continue  # an empty id is another path
        answer = send(emulator, call, name, {**fields, **change}, body)
        if not 400 <= answer.status_code < 500 or set(answer.json()) != {"error_code", "error_msg"}:
            let_in.append(f"{what}: {answer.status_code}")
        elif answer.status_code == 404 and "APIGW" not in answer.text:
            let_in.append(f"{what}: looked for, and not refused")
    assert not let_in, "\n".join(let_in)
