"""A second look at the devices of a wave: who is left out, and what it keeps of the others."""

from __future__ import annotations

import logging
import tracemalloc
from collections.abc import Sequence
from typing import Any

from iotda_provider.api import Page
from iotda_provider.models import Device
from iotda_provider.models.sorted_ids import SortedIds
from iotda_provider.release.second_look import Counted, SecondLook
from iotda_provider.transport.runner import run_blocking

BEFORE = Counted("2.0.0", "fw_version", "product", devices=3)


class Platform:
    """A product of devices, one of which was made anew as a device of another product."""

    def __init__(self) -> None:
        stay = [Device(one, fw_version="1.0.0", product_id="product") for one in ("a", "b")]
        self.devices = {
            **{one.device_id: one for one in stay},
            "c": Device("c", fw_version="1.0.0", product_id="another"),
        }

    async def perform(self, call: Any) -> Any:
        """A count, or the first page of the product's devices."""
        if call.path.endswith("query-devices"):
            return 0
        rows = [one for one in self.devices.values() if one.product_id == "product"]
        return Page(tuple(rows), None, total=len(rows))

    async def perform_all(self, calls: Sequence[Any]) -> list[Any]:
        """Devices, asked for by their ids."""
        return [self.devices[call.path.rpartition("/")[2]] for call in calls]


def test_a_device_that_belongs_to_another_product_by_now_is_left_out() -> None:
    look = SecondLook(BEFORE, SortedIds(["a", "b", "c"]), logging.getLogger("test"))

    async def to_its_end() -> None:
        while not look.is_done:
            await look.step(Platform(), 0)

    run_blocking(to_its_end())
    assert look.left_out == {"other_product": ["c"]}
    # The next wave expects the product without it.
    assert look.counted.devices == 2


class LargeProduct:
    """Pages of a large product of which nothing can be counted; its devices are made anew."""

    def __init__(self, devices: int) -> None:
        self.ids = [f"5c8fb9d0e2f14a5b9c0d1e2f_{number:06}" for number in range(devices)]

    async def perform(self, call: Any) -> Any:
        """A page: 50 devices from the marker on."""
        start = int(dict(call.query).get("marker", 0))
        wire = [{"device_id": f"{one} "[:-1], **self.wire()} for one in self.ids[start:][:50]]
        rows = tuple(map(Device.from_wire, wire))
        return Page(rows, str(start + 50), total=len(self.ids), full=len(rows) == 50)

    async def perform_all(self, calls: Sequence[Any]) -> list[Any]:
        """Nobody is asked for alone."""
        assert not calls
        return []

    def wire(self) -> dict[str, Any]:
        """What a device of it has beside its id."""
        fields = {"fw_version": "1.0.0", "product_id": "product", "node_id": "node", "status": "X"}
        return {name: f"{value} "[:-1] for name, value in fields.items()}


def test_of_each_device_of_a_large_product_a_look_keeps_under_a_hundred_bytes() -> None:
    platform = LargeProduct(22_000)  # at which a table of hashes has just doubled
    uncounted = Counted("2.0.0", "fw_version", "product")
    look = SecondLook(uncounted, SortedIds(platform.ids), logging.getLogger("test"))

    async def to_its_end() -> None:
        while not look.is_done:
            await look.step(platform, 0)

    run_blocking(look.step(platform, 0))
    tracemalloc.start()
    run_blocking(to_its_end())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert not look.left_out
    assert peak < 100 * len(platform.ids)
