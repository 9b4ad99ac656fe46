"""Reads some devices: by pages of their product's list, or by one call each. Both hooks use it.

Pages are read where they are fewer calls. A list leaves out since when a device is offline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from iotda_provider import api
from iotda_provider.api.pagination import Listing
from iotda_provider.exceptions import IoTDAError
from iotda_provider.models import Device
from iotda_provider.models.sorted_ids import MarkedIds, SortedIds, ValuesOfIds
from iotda_provider.procedures import MAX_IN_FLIGHT, CallsIO
from iotda_provider.waiting.outage import may_pass

#: The most calls of one step, so that whoever reads can do something else in between.
_PAGES, _SINGLE = 8, 2 * MAX_IN_FLIGHT


class DeviceReading:
    """One reading of some devices, in steps of a few calls.

    :param device_ids: in the order in which they are asked for where each takes a call
    :param product_id: the product that most of them belong to: its list is read where that takes
        fewer calls. None: one call each
    :param since: whether it must be known since when a device is offline, which takes one call for
        each that is
    :param keep: what is kept of a device, as there may be a million; None: the device itself
    """

    def __init__(
        self,
        device_ids: Sequence[str],
        product_id: str | None = None,
        *,
        since: bool = True,
        keep: Callable[[Device], Any] | None = None,
    ) -> None:
        self._wanted = device_ids if isinstance(device_ids, SortedIds) else SortedIds(device_ids)
        #: What is kept of each device that was found, by its id.
        self.found = ValuesOfIds(self._wanted)
        self.errors: dict[str, IoTDAError] = {}
        self._ids = device_ids
        self._since = since
        self._keep = keep or (lambda device: device)
        #: Devices whose page does not say since when they are offline.
        self._unsaid: set[str] = set()
        self._listing: Listing[Device] | None = None
        if product_id is not None and len(device_ids) > 1:
            self._listing = Listing(api.list_devices, product_id=product_id)
        self._pages = 0
        self._left: list[str] | None = None

    @property
    def is_done(self) -> bool:
        """Whether each device is found, or has its error."""
        return self._listing is None and self._left == []

    async def to_the_end(self, io: CallsIO) -> list[Device | IoTDAError]:
        """Each device or its error, in the order asked for."""
        while not self.is_done:
            await self.step(io)
        return [self.errors[one] if one in self.errors else self.found[one] for one in self._ids]

    async def step(self, io: CallsIO) -> None:
        """Make some calls."""
        if self._listing is not None:
            await self._read_pages(io, self._listing)
            return
        if self._left is None:
            self._left = self._to_be_asked()
        block, self._left = self._left[:_SINGLE], self._left[_SINGLE:]
        answers = await io.perform_all([api.show_device(one) for one in block])
        for device_id, answer in zip(block, answers, strict=True):
            if isinstance(answer, IoTDAError):
                self.found.pop(device_id, None)
                self.errors[device_id] = answer
            else:
                self.found[device_id] = self._keep(answer)
        # The platform is away: the rest is not asked for.
        if answers and all(isinstance(one, IoTDAError) and may_pass(one) for one in answers):
            self._fail(self._left, answers[0])
            self._left = []

    def _to_be_asked(self) -> list[str]:
        once = MarkedIds(self._wanted)
        left = (one for one in self._ids if one not in self.found or one in self._unsaid)
        return [one for one in left if once.add(one)]

    async def _read_pages(self, io: CallsIO, listing: Listing[Device]) -> None:
        wanted = self._wanted
        for _ in range(_PAGES):
            if listing.next is None:
                break
            try:
                page = await io.perform(listing.next)
            except IoTDAError:
                self._listing = None  # whoever is left is asked for alone, and has an error then
                return
            rows = listing.take(page)
            self._pages += 1
            for device in rows:
                if (device_id := wanted.own(device.device_id)) is not None:
                    self.found[device_id] = self._keep(device)
                    if self._since and device.status == "OFFLINE":
                        self._unsaid.add(device_id)
            many = page.total is None or page.total > api.MAX_PAGE * len(wanted)
            if len(self.found) == len(wanted) or many or self._pages >= len(wanted):
                break
        else:
            return
        self._listing = None

    def _fail(self, device_ids: Iterable[str], error: object) -> None:
        assert isinstance(error, IoTDAError)
        for device_id in device_ids:
            self.found.pop(device_id, None)
            self.errors[device_id] = error


async def read_devices(
    io: CallsIO, device_ids: Sequence[str], product_id: str | None = None
) -> list[Device | IoTDAError]:
    """Some devices, or each one's error, in the order asked for.

    :param product_id: None: one call each; otherwise pages of this product's devices where that
        takes fewer calls, without the time since when a device is offline
    """
    ids = api.check_targets(device_ids, "device_ids", unique=False)
    return await DeviceReading(ids, product_id, since=product_id is None).to_the_end(io)
