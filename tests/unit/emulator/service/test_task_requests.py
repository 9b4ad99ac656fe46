"""The limits and precedences of creating a batch task."""

from __future__ import annotations

from typing import Any

import pytest

from iotda_provider.emulator.common.errors import ApiError
from iotda_provider.emulator.service.task_requests import read_task_request

NOW = 1_767_225_600.0  # 2026-01-01
GOOD = {
    "task_name": "固件_v2",
    "task_type": "firmwareUpgrade",
    "targets": ["a"],
    "document": {"package_ids": ["32822e5744a45ede319d2c50"]},
}

SHADOW = {"service_id": "meter", "desired": {"unit": "l"}}


@pytest.mark.parametrize(
    "change",
    [
        {"task_name": None},
        {"task_name": ""},
        {"task_name": "a-b"},
        {"task_name": "a" * 129},
        {"task_name": "a\n"},
        {"task_name": "\u9fa6"},
        {"task_name": "r\u00e9paration"},
        {"task_name": "\u0663"},
        {"task_name": 5},
        {"task_type": "upgrade"},
        {"task_type": None},
        {"app_id": "a" * 37},
        {"app_id": "a b"},
        {"targets": [f"d{n}" for n in range(30_001)]},
        {"targets": ["a" * 129]},
        {"targets": ["a/b"]},
        {"targets": [1]},
        {"targets": "a"},
        {"targets": []},
        {"targets": None},
        {"targets": None, "targets_filter": {}},
        {"targets": None, "targets_filter": {"group_ids": []}},
        {"targets": None, "document_source": "file"},
        {"document": None},
        {"document": {"package_ids": []}},
        {"document": {"package_ids": ["a/b"]}},
        {"task_policy": "now"},
        {"task_policy": {"retry_count": 1}},
        {"task_policy": {"retry_count": 0, "retry_interval": 1}},
        {"task_policy": {"retry_count": None, "retry_interval": None}},
        {"task_policy": {"retry_count": 1, "retry_interval": 1, "cron": "x"}},
        {"task_policy": {"retry_count": "1", "retry_interval": 1}},
        {"task_policy": {"retry_count": 1.0, "retry_interval": 1}},
        {"task_policy": {"schedule_time": None}},
        {"task_policy": {"schedule_time": "2026101T000000Z"}},
        {"task_policy": {"schedule_time": "20260101T00000Z"}},
        {"task_policy": {"schedule_time": "20260101T\u0660\u0660\u0660\u0660\u0660\u0660Z"}},
        {"task_policy": {"schedule_time": 20260101}},
        {"task_policy": {"retry_interval": 1}},
        {"task_policy": {"retry_count": 6, "retry_interval": 1}},
        {"task_policy": {"retry_count": 1, "retry_interval": 1441}},
        {"task_policy": {"retry_count": True, "retry_interval": 1}},
        {"task_policy": {"schedule_time": "2026-01-01"}},
        {"task_policy": {"schedule_time": "20260108T000001Z"}},
        {"need_confirm": "yes"},
        {"task_mode": "DEVICE"},
        {"task_ext_info": "{}"},
        {"task_ext_info": ["a"]},
        {"task_ext_info": {"x": "y" * 505}},
        {"task_type": "createCommands", "document": None},
        {"task_type": "createCommands", "document": {"x": float("inf")}},
        {"task_type": "createMessages", "document": {"x": "y" * 65_536}},
        {"task_type": "updateDeviceShadows", "document": {"shadow": []}},
        {"task_type": "updateDeviceShadows", "document": {"shadow": [{"service_id": "a"}]}},
        {"task_type": "updateDeviceShadows", "document": {"shadow": [SHADOW, SHADOW]}},
        {"task_type": "createDevices"},
        {"task_type": "sendEmails"},
        {"document_source": "f"},
        {"targets": None, "targets_filter": {"group_ids": ["ab"]}},
        {"app_id": None},
        {"task_policy": None},
    ],
)
def test_out_of_bounds(change: dict[str, Any]) -> None:
    read_task_request(GOOD, NOW)
    with pytest.raises(ApiError) as refusal:
        read_task_request({**GOOD, **change}, NOW)
    assert refusal.value.status == 400
    assert refusal.value.code in ("IOTDA.000006", "IOTDA.000009")


@pytest.mark.parametrize(
    "change",
    [
        {"task_name": "a" * 128},
        {"targets": [f"d{n}" for n in range(30_000)]},
        {"task_policy": {"schedule_time": "20260108T000000Z"}},
        {"task_policy": {"retry_count": 5, "retry_interval": 1440}},
        {"task_policy": {"retry_count": 1, "retry_interval": 0}},
        {"task_policy": {}},
        {"task_name": "\u9fa5"},
        {"task_ext_info": {"x": "\u6c34" * 504}},
        {"task_ext_info": {}},
        {"task_type": "updateDeviceShadows", "document": {"shadow": [SHADOW]}},
        {"task_mode": "GATEWAY"},
        {"unknown": "ignored"},
    ],
)
def test_just_within_bounds(change: dict[str, Any]) -> None:
    read_task_request({**GOOD, **change}, NOW)


def test_targets_come_before_the_filter() -> None:
    both = {**GOOD, "targets_filter": {"group_ids": ["ab"]}}
    request = read_task_request(both, NOW)
    assert (request.targets, request.group_ids) == (("a",), None)
    del both["targets"]
    request = read_task_request(both, NOW)
    assert (request.targets, request.group_ids) == (None, ("ab",))


def test_what_a_type_does_not_support_is_left_out() -> None:
    command = {
        **GOOD,
        "task_type": "createCommands",
        "document": {"service_id": "water"},
        "need_confirm": True,
        "task_mode": "GATEWAY",
    }
    request = read_task_request(command, NOW)
    assert not request.need_confirm
    assert set(request.fields) == {"task_name", "task_type", "targets", "document"}
