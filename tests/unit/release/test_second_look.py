"""Which devices a second look leaves out: those that belong to another product by now."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from iotda_provider.api import Page
from iotda_provider.models import Device
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
    look = SecondLook(BEFORE, ["a", "b", "c"], logging.getLogger("test"))

    async def to_its_end() -> None:
        while not look.is_done:
            await look.step(Platform(), 0)

    run_blocking(to_its_end())
    assert look.left_out == {"other_product": ["c"]}
    # The next wave expects the product without it.
    assert look.counted.devices == 2
