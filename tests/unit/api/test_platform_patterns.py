"""What the platform states of names, ids and objects, checked before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from iotda_provider import api
from iotda_provider.exceptions import IoTDAConfigError

NOW = datetime.now(timezone.utc)


def create(**fields: Any) -> api.Call[Any]:
    return api.create_batch_task(
        **{"task_name": "a", "task_type": "firmwareUpgrade", "targets": ["a"], **fields}
    )


def at(moment: datetime) -> dict[str, str]:
    return {"schedule_time": moment.strftime("%Y%m%dT%H%M%SZ")}


def retry(count: Any = 1, interval: Any = 1) -> dict[str, Any]:
    return {"retry_count": count, "retry_interval": interval}


FILE = {"region_name": "cn-north-4", "bucket_name": "builds", "object_key": "v2/fw.bin"}


def new_package(**fields: Any) -> Any:
    """The call that creates a package, with some fields of its own."""
    good = {"app_id": "a", "package_type": "firmwarePackage", "product_id": "p", "version": "2"}
    return api.create_package(**{**good, "obs_location": FILE, **fields})


FIELDS: dict[str, tuple[Callable[[Any], api.Call[Any]], list[Any], list[Any]]] = {
    "task_name": (
        lambda value: create(task_name=value),
        ["a", "名_1", "\u4e00\u9fa5", "A" * 128],
        [
            "",
            "a-b",
            "a b",
            "a\n",
            "réparation",
            "имя",
            "٣٣",
            "\uff41\uff42",
            "\u9fa6",
            "a" * 129,
            1.1,
            None,
        ],
    ),
    "task_policy": (
        lambda value: create(task_policy=value),
        [
            {},
            retry(1, 0),
            retry(5, 1440),
            at(NOW + timedelta(days=7, minutes=-1)),
            {**retry(), **at(NOW)},
        ],
        [
            retry(0),
            retry(6),
            retry(True),
            retry("1"),
            retry(1.0),
            retry(1, -1),
            retry(1, 1441),
            retry(None),
            {"retry_count": 1},
            {"retry_interval": 1},
            {"retries": 1},
            {"schedule_time": None},
            {"schedule_time": "20261128"},
            {"schedule_time": "2026112T101010Z"},
            {"schedule_time": "20260231T101010Z"},
            {"schedule_time": "\u0662\u0660261128T101010Z"},
            at(NOW + timedelta(days=8)),
            [],
            "soon",
            5,
        ],
    ),
    "app_id": (lambda value: create(app_id=value), ["a-B_1", "a" * 36], ["", "a b", "a" * 37, 5]),
    "task_mode": (lambda value: create(task_mode=value), ["GATEWAY"], ["gateway", "", True, 1]),
    "task_ext_info": (
        lambda value: create(task_ext_info=value),
        [{}, {"a": "x" * 500}, {"a": "名" * 500}],
        [{"a": "x" * 510}, "text", [1], 5],
    ),
    "group_ids": (
        lambda value: create(targets=None, group_ids=value),
        [["e495cf17-ff79-4294-8f64-4d367919d665"], ["aF-9", "a"]],
        [["north"], ["a" * 37], [5], [None], [["a"]], "a", {"a": 1}, 5],
    ),
    "document": (
        lambda value: create(document=value),
        [{"package_ids": ["a-B1", "a" * 36]}, {"package_ids": ("a",)}, {"version": "1.10"}],
        [
            {"package_ids": ["a_b"]},
            {"package_ids": []},
            {"package_ids": [12]},
            {"package_ids": "a"},
            {"package_ids": None},
            {"package_id": 1.1},
            {"version": 1.1},
            "a",
            [],
        ],
    ),
    "need_confirm": (lambda value: create(need_confirm=value), [True, False], ["true", 1, 0]),
    "sql": (
        api.search_devices,
        [
            "select * from device where fw_version = '1.0' and device_name like '名%'",
            "a" * 400,
        ],
        ["", "  ", "a" * 401, 'a"b', "a;b", "a\nb", "a\u9fa6", 5, None, b"a"],
    ),
    "name": (
        lambda value: api.create_group(name=value),
        ["名 _?'#().,&%@!-", "a" * 64],
        ["", "a" * 65, "a+b", "a/b", "a\n", "\u9fa6", "é", 1.1, None],
    ),
    "description": (
        lambda value: api.create_group(name="a", description=value),
        ["", "名 _?'#().,&%@!-", "a" * 64],
        ["a" * 65, "a+b", "a:b", 5, None],
    ),
    "group_id": (
        api.list_devices_in_group,
        ["e495cf17-ff79-4294-8f64-4d367919d665", "Af-9"],
        ["", "north", "a" * 37, "../a", 5],
    ),
    "package_id": (api.show_package, ["a-B1", "a" * 36], ["", "a_b", "a" * 37, "../a", 32822574]),
    "product_id": (
        lambda value: api.list_devices(product_id=value),
        ["a-B_1", "a" * 36],
        ["", "a b", "a" * 37, 5],
    ),
    "package_type": (
        lambda value: api.list_packages(package_type=value),
        ["firmwarePackage", "softwarePackage", "modulePackage"],
        ["firmware", "", None, 5, ["firmwarePackage"]],
    ),
    "version": (
        lambda value: api.list_packages(package_type="firmwarePackage", version=value),
        ["1.10", "1_0", "0x10", "1e3", "a" * 256],
        ["", "a b", "a" * 257, "1.0+b", 1.1, 16, True],
    ),
    "support_source_versions": (
        lambda value: new_package(support_source_versions=value),
        [["1.0"], ("1.0", "0.9-b"), [str(n) for n in range(20)], None],
        [[], "1.0", [1.0], ["a b"], [str(n) for n in range(21)], 5, {"1.0": 1}],
    ),
    "custom_info": (
        lambda value: new_package(custom_info=value),
        ["a\nb", "更" * 4096, None],
        ["", "a" * 4097, 5, {}],
    ),
    "module_name": (
        lambda value: new_package(package_type="modulePackage", module_name=value),
        ["MCU_1.a-b", "a" * 64],
        ["", "a b", "a" * 65, None, 5],
    ),
    "obs_location": (
        lambda value: new_package(obs_location=value),
        [
            FILE,
            {**FILE, "sign": "aF" * 32},
            {**FILE, "sign": None},
            {**FILE, "object_key": "目录/" + "k" * 1021},
        ],
        [
            None,
            "obs://bucket/key",
            {},
            {**FILE, "region_name": "cn north"},
            {**FILE, "region_name": None},
            {**FILE, "bucket_name": "UP"},
            {**FILE, "bucket_name": "ab"},
            {**FILE, "object_key": ""},
            {**FILE, "object_key": "k" * 1025},
            {**FILE, "object_key": 5},
            {**FILE, "sign": "a" * 63},
            {**FILE, "sign": "g" * 64},
            {**FILE, "sign": ""},
            {**FILE, "sha256": "a" * 64},
        ],
    ),
}


def test_only_a_module_package_has_a_module() -> None:
    with pytest.raises(IoTDAConfigError, match="module_name is for a modulePackage"):
        new_package(module_name="MCU")


@pytest.mark.parametrize("name", FIELDS)
def test_what_the_platform_takes_goes_through(name: str) -> None:
    call, good, _ = FIELDS[name]
    for value in good:
        call(value)


@pytest.mark.parametrize("name", FIELDS)
def test_what_the_platform_refuses_is_refused_before_it_is_sent(name: str) -> None:
    call, _, wrong = FIELDS[name]
    for value in wrong:
        with pytest.raises(IoTDAConfigError, match=rf"\b{name}\b") as refusal:
            call(value)
        said = str(refusal.value)
        assert len(said) < 500
        assert len(said.splitlines()) == 1
        if isinstance(value, (int, float)):
            assert type(value).__name__ in said
            if name != "need_confirm":
                assert f"'{value}'" not in said, "it does not look like a valid one"


def test_commands_may_hold_what_an_upgrade_may_not() -> None:
    document = {"paras": {"version": 1.1, "package_ids": 5}, "version": 1.1}
    call = create(task_type="createCommands", document=document)
    assert call.body["document"] == document
