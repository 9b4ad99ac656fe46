"""Devices are read by pages or one by one, whichever takes fewer calls, and none is left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from iotda_provider import api
from iotda_provider.exceptions import IoTDAError, IoTDANotFoundError, IoTDATransportError
from iotda_provider.models import Device
from iotda_provider.procedures.device_reading import DeviceReading, read_devices
from iotda_provider.transport.runner import run_blocking

PRODUCT = "64f0c1d2e3a4b5c6d7e8f900"
DOWN = IoTDATransportError("the platform is down")


class Platform:
    """A product's devices; every tenth is offline.

    :param down_after: the number of calls after which nothing answers any more
    """

    def __init__(self, devices: int, down_after: int = 10**9) -> None:
        self.ids = [f"d{n:05}" for n in range(devices)]
        self.down_after = down_after
        self.pages = self.single = 0

    def _row(self, device_id: str, *, whole: bool) -> Device:
        offline = int(device_id[1:]) % 10 == 0
        since = "2026-01-01T00:00:00.000Z" if whole else None
        status = "OFFLINE" if offline else "ONLINE"
        return Device(device_id, status=status, status_changed=since)

    async def perform(self, call: api.Call[Any]) -> Any:
        if self.pages + self.single >= self.down_after:
            raise DOWN
        if call.path.endswith("/devices"):
            self.pages += 1
            start = int(dict(call.query).get("marker", "0"))
            rows = tuple(self._row(one, whole=False) for one in self.ids[start : start + 50])
            return api.Page(rows, str(start + len(rows)), len(self.ids), len(rows) == 50)
        self.single += 1
        device_id = call.path.rsplit("/", 1)[1]
        if device_id not in self.ids:
            raise IoTDANotFoundError(404, "IOTDA.014000", "no such device")
        return self._row(device_id, whole=True)

    async def perform_all(self, calls: Sequence[api.Call[Any]]) -> list[Any]:
        answers: list[Any] = []
        for call in calls:
            try:
                answers.append(await self.perform(call))
            except IoTDAError as error:
                answers.append(error)
        return answers

    async def pause(self, seconds: float) -> None:
        raise AssertionError


def ids(*numbers: int) -> list[str]:
    return [f"d{n:05}" for n in numbers]


def test_pages_are_read_where_they_are_fewer_calls() -> None:
    platform = Platform(1000)
    wanted = ids(*range(0, 1000, 3))
    found = run_blocking(read_devices(platform, wanted, PRODUCT))
    assert [one.device_id for one in found if isinstance(one, Device)] == wanted
    assert (platform.pages, platform.single) == (20, 0)


def test_one_call_each_where_the_product_is_large() -> None:
    platform = Platform(1000)
    found = run_blocking(read_devices(platform, ids(500, 600), PRODUCT))
    assert [one.device_id for one in found if isinstance(one, Device)] == ids(500, 600)
    assert (platform.pages, platform.single) == (1, 2)


def test_without_a_product_each_is_asked_for_and_says_since_when_it_is_offline() -> None:
    platform = Platform(100)
    found = run_blocking(read_devices(platform, ids(*range(100))))
    assert all(isinstance(one, Device) and one.status_changed for one in found)
    assert (platform.pages, platform.single) == (0, 100)


def test_of_the_offline_ones_in_a_list_the_details_can_be_read() -> None:
    platform = Platform(200)
    reading = DeviceReading(ids(*range(200)), PRODUCT)
    found = run_blocking(reading.to_the_end(platform))
    offline = [one for one in found if isinstance(one, Device) and one.status == "OFFLINE"]
    assert len(offline) == 20
    assert all(one.status_changed for one in offline)
    assert (platform.pages, platform.single) == (4, 20)


def test_a_device_that_is_gone_has_its_error() -> None:
    platform = Platform(200)
    *rest, gone = run_blocking(read_devices(platform, [*ids(*range(150)), "d99999"], PRODUCT))
    assert all(isinstance(one, Device) for one in rest)
    assert isinstance(gone, IoTDANotFoundError)
    assert platform.single == 1


@pytest.mark.parametrize("down_after", [0, 2, 4])
def test_a_platform_that_is_down_is_not_asked_for_each_device(down_after: int) -> None:
    platform = Platform(1000, down_after)
    wanted = ids(*range(1000))
    found = run_blocking(read_devices(platform, wanted, PRODUCT))
    assert len(found) == 1000
    assert sum(isinstance(one, Device) for one in found) == 50 * down_after
    assert found[-1] is DOWN
    assert platform.pages + platform.single == down_after


def test_a_reading_is_in_steps_of_a_few_calls() -> None:
    for product in (PRODUCT, None):
        platform = Platform(1000)
        reading = DeviceReading(ids(*range(1000)), product, since=False)
        before = 0
        while not reading.is_done:
            run_blocking(reading.step(platform))
            assert platform.pages + platform.single - before <= 32
            before = platform.pages + platform.single
        assert len(reading.found) == 1000


def test_nobody_is_asked_for_nobody() -> None:
    platform = Platform(10)
    assert run_blocking(DeviceReading([], PRODUCT).to_the_end(platform)) == []
    assert platform.pages + platform.single == 0
