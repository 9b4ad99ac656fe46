"""Devices: listed, filtered, and deleted by a task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from iotda_provider.emulator.common.errors import ApiError
from iotda_provider.emulator.common.paging import NEWEST, Page
from iotda_provider.emulator.service.device_queries import record_id

Make = Callable[..., Any]


def test_a_filtered_list_is_paged_and_knows_who_went(hands: Make) -> None:
    h = hands()
    fleet, devices = h.world.fleet, h.world.devices()
    wanted = [("product_id", fleet.behaviour(0).product_id)]

    def listed() -> list[int]:
        found, marker = [], NEWEST
        while page := devices.page(Page(limit=3, marker=marker), wanted)[1]:
            found += page
            marker = record_id(page[-1])
        return found

    everybody = list(reversed(range(10)))
    assert listed() == everybody
    assert devices.page(Page(), [("product_id", "another")]) == (0, [])
    fleet.remove(4)
    assert listed() == [device for device in everybody if device != 4]


def test_a_task_may_delete_devices(hands: Make) -> None:
    h = hands(groups=[{"name": "g", "group_id": "a", "count": 5}])
    running = h.create()
    h.pass_time(2)
    body = {"task_name": "x", "task_type": "deleteDevices", "targets": ["device-00001"]}
    h.world.commands["create_task"](body=body)
    h.pass_time(10)
    assert h.row(running, "device-00001")["status"] == "Removed"
    assert len(h.world.groups.devices_of(["a"])) == 4
    with pytest.raises(ApiError, match="does not exist"):
        h.world.groups.device("device-00001")
