"""Which devices of a wave run the version by now, or are gone, in few calls. No I/O.

The plan writes down how many devices the product has, and how many of them run the version. Before
each wave both are counted again, in two calls. The wave's devices are read only if these counts
differ from what the release itself explains: by pages of the product's list, or by one call each,
whichever takes fewer calls.

If a wave is only for devices of one version, as on the way back, its devices are always read: no
count tells which other version somebody has installed meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain

from iotda_provider import api
from iotda_provider.exceptions import IoTDAError
from iotda_provider.models import Device
from iotda_provider.models.json_text import PlainJson
from iotda_provider.models.log import Log
from iotda_provider.models.sorted_ids import SortedIds
from iotda_provider.procedures import CallsIO
from iotda_provider.procedures.device_reading import DeviceReading
from iotda_provider.release.manifest import (
    CURRENT,
    GONE,
    LOOKED,
    MOVED,
    OTHER_VERSION,
    UNREAD_VERSION,
)
from iotda_provider.waiting.outage import is_gone, may_pass


@dataclass(frozen=True)
class Counted(PlainJson):
    """What was counted when the release was planned.

    :param version: the version that the release brings
    :param column: where a device's version is: ``fw_version`` or ``sw_version``
    :param product_id: of the package; None: of any product
    :param devices: how many devices the product had; None: that could not be counted
    :param current: how many of them ran the version
    """

    version: str
    column: str
    product_id: str | None
    devices: int | None = None
    current: int = 0

    title = LOOKED


async def count(io: CallsIO, counted: Counted, log: Log) -> Counted:
    """The same with what is counted now; without numbers if devices can't be counted.

    They can't be if the platform's edition has no search, or if the connection may not use it.
    """
    product = {} if counted.product_id is None else {"product_id": counted.product_id}
    try:
        page = await io.perform(api.list_devices(**product, limit=1))
        # The platform takes one search a second.
        current = await io.perform(api.count_devices({**product, counted.column: counted.version}))
    except IoTDAError as error:
        log.info("Devices can't be counted, so each wave's are read before it begins: %s", error)
        return replace(counted, devices=None, current=0)
    return replace(counted, devices=page.total, current=current)


class SecondLook:
    """One look at the devices of one wave, in steps of a few calls.

    :param counted: what was counted before
    :param ids: the wave's devices
    :param log: where its lines go
    :param from_version: a device that is not known to run this version is left out; None: a device
        that runs the version of the release is left out
    """

    def __init__(
        self, counted: Counted, ids: SortedIds, log: Log, from_version: str | None = None
    ) -> None:
        self.counted = counted
        self._from = from_version
        self._ids = ids
        self._log = log
        self._before: tuple[Counted, int] | None = None
        self._reading: DeviceReading | None = None
        self.is_done = not ids
        #: The devices to leave out, by the reason.
        self.left_out: dict[str, list[str]] = {}

    @property
    def absent(self) -> Iterator[str]:
        """All devices that are to be left out."""
        return chain.from_iterable(self.left_out.values())

    @property
    def must_wait(self) -> bool:
        """Whether the guard has to look before the next step."""
        return self._before is not None and self._reading is None and not self.is_done

    async def step(self, io: CallsIO, succeeded: int) -> None:
        """Make some calls.

        :param succeeded: how many devices this release has given the version by now, as the guard
            has just seen
        :raises IoTDAError: the devices can't be read now
        """
        if self._reading is None and self._from is not None:
            self._begin_reading()
        if self._reading is not None:
            await self._read(io, self._reading)
        elif self._before is None:
            now = self.counted
            if self.counted.devices is not None:
                now = await count(io, self.counted, self._log)
            self._before = now, succeeded
        # The guard looked before and after the counts: devices that ended between are allowed for.
        elif self._is_as_expected(*self._before, succeeded):
            self.is_done = True
        else:
            self._begin_reading()

    def _begin_reading(self) -> None:
        self._reading = DeviceReading(
            self._ids, self.counted.product_id, since=False, keep=self._why_not
        )

    def _is_as_expected(self, now: Counted, before: int, after: int) -> bool:
        if now.devices is None or now.devices != self.counted.devices:
            return False
        return self.counted.current + before <= now.current <= self.counted.current + after

    async def _read(self, io: CallsIO, reading: DeviceReading) -> None:
        await reading.step(io)
        if not reading.is_done:
            return
        errors = reading.errors
        for device_id, error in errors.items():
            if may_pass(error):
                self._reading = None
                raise error
            if not is_gone(error):
                self._log.warning("Device %s can't be looked at again: %s", device_id, error)
                break
        left_out: dict[str, list[str]] = {}
        for one in self._ids:
            if one in errors and is_gone(errors[one]):
                why = GONE
            else:
                why = reading.found.get(one, self._why_not(None))
            if why:
                left_out.setdefault(why, []).append(one)
        self.left_out = left_out
        if self.counted.devices is not None:
            away = [left_out.get(why, ()) for why in (GONE, MOVED)]
            # Any other difference is in other waves, which get a second look of their own.
            self.counted = replace(
                self.counted,
                devices=max(0, self.counted.devices - sum(map(len, away))),
                current=self.counted.current + len(left_out.get(CURRENT, ())),
            )
        self.is_done = True

    def _why_not(self, device: Device | None) -> str:
        """Why a device is left out; empty: it is not. None: what it is can't be read."""
        runs = getattr(device, self.counted.column, None)
        product_id, wanted = getattr(device, "product_id", None), self.counted.product_id
        if product_id != wanted and None not in (product_id, wanted):
            return MOVED
        if runs and runs == self.counted.version:
            return CURRENT
        if self._from in (None, runs):
            return ""
        return OTHER_VERSION if runs else UNREAD_VERSION
