"""Devices as the API shows and searches them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import islice
from operator import neg
from typing import Any

from iotda_provider.emulator.common.clock import MICRO, basic, millis
from iotda_provider.emulator.common.paging import Page
from iotda_provider.emulator.scenario.scenario import DEFAULT_APP_ID
from iotda_provider.emulator.service.fleet import Fleet
from iotda_provider.emulator.service.groups import Groups
from iotda_provider.emulator.service.search import Query, Test

DEFAULT_APP_NAME = "DefaultApp"
_MOST_LISTS = 16


def record_id(device: int) -> str:
    """The record id of a device; later devices have higher ids."""
    return f"{device + 1:024x}"


def below(marker: str) -> int:
    """The device number that all records below this marker are below."""
    return max(0, int(marker, 16) - 1)


class Devices:
    """The devices of a fleet, in the API's words.

    :param origin: the time at virtual 0, in seconds since 1970
    :param now: the virtual present, in microseconds
    """

    def __init__(self, fleet: Fleet, groups: Groups, origin: float, now: int) -> None:
        self._fleet = fleet
        self._groups = groups
        self._origin = origin
        self._now = now
        self._ids_by_device: dict[int, list[str]] | None = None

    def brief(self, device: int) -> dict[str, Any]:
        """What lists of devices show."""
        fleet = self._fleet
        device_id, product_id = fleet.id_of(device), fleet.behaviour(device).product_id
        return {
            "app_id": DEFAULT_APP_ID,
            "app_name": DEFAULT_APP_NAME,
            "device_id": device_id,
            "node_id": device_id,
            "gateway_id": device_id,
            "device_name": device_id,
            "node_type": "GATEWAY",
            "fw_version": fleet.firmware(device),
            "sw_version": fleet.software(device),
            "product_id": product_id,
            "product_name": f"product-{product_id[:8]}",
            "status": fleet.status(device, self._now),
            "tags": [],
        }

    def full(self, device: int) -> dict[str, Any]:
        """What showing one device shows."""
        shown = self.brief(device)
        shown["auth_info"] = {"auth_type": "SECRET", "secure_access": True, "timeout": 0}
        shown["create_time"] = basic(self._origin)
        changed = self._origin + self._fleet.connection_changed(device, self._now) / MICRO
        # Lists leave this out.
        shown["connection_status_update_time"] = millis(changed)
        shown["active_time"] = millis(min(self._origin, changed))
        return shown

    @staticmethod
    def member(shown: dict[str, Any]) -> dict[str, Any]:
        """What the list of a group's devices shows: no versions."""
        return {name: shown[name] for name in ("device_id", "node_id", "device_name", "product_id")}

    def page(self, page: Page, wanted: Sequence[tuple[str, str]] = ()) -> tuple[int, Sequence[int]]:
        """How many devices there are of this kind, and one page of them.

        :param wanted: fields that never change while a device is registered, and their values
        """
        fleet = self._fleet
        start = below(page.marker)
        if not wanted:
            return fleet.registered, page.cut(fleet.newest_first(start))
        found = self._newest_of(tuple(wanted))
        first = bisect_right(found, -start, key=neg)
        return len(found), page.cut(islice(found, first, None))

    def _newest_of(self, wanted: tuple[tuple[str, str], ...]) -> list[int]:
        kept = self._fleet.kept_lists
        if wanted not in kept:
            if len(kept) >= _MOST_LISTS:
                kept.clear()
            kept[wanted] = [
                device
                for device in self._fleet.newest_first(len(self._fleet))
                if all(value in self.values(device, name) for name, value in wanted)
            ]
        return kept[wanted]

    def find(self, query: Query) -> Iterator[int]:
        """The devices that a search wants, in its order."""
        fleet = self._fleet
        devices = iter(fleet) if query.ascending else fleet.newest_first(len(fleet))
        return (device for device in devices if query.test(device, self.values))

    def matching(self, test: Test) -> list[int]:
        """The devices that pass a test, oldest first."""
        return [device for device in self._fleet if test(device, self.values)]

    def _group_ids(self) -> dict[int, list[str]]:
        """The static groups of each device that is in one."""
        if self._ids_by_device is None:
            self._ids_by_device = {}
            for group in self._groups.by_id.values():
                for device in group.members.devices:
                    self._ids_by_device.setdefault(device, []).append(group.group_id)
        return self._ids_by_device

    def found(self, device: int) -> dict[str, Any]:
        """What a search shows."""
        shown = self.brief(device)
        shown["groups"] = [g.group_id for g in self._groups.groups_of(device)]
        shown["marker"] = record_id(device)
        return shown

    def values(self, device: int, field: str) -> Sequence[str]:
        """The values that a device has in a field that can be searched by."""
        fleet = self._fleet
        if field == "fw_version":
            return (fleet.firmware(device),)
        if field == "sw_version":
            return (fleet.software(device),)
        if field == "group_id":
            return self._group_ids().get(device, ())
        if field in ("device_id", "node_id", "gateway_id", "device_name"):
            return (fleet.id_of(device),)
        if field == "product_id":
            return (fleet.behaviour(device).product_id,)
        if field == "status":
            return (fleet.status(device, self._now),)
        if field == "marker":
            return (record_id(device),)
        if field == "create_time":
            return (millis(self._origin),)
        if field == "app_id":
            return (DEFAULT_APP_ID,)
        return ("GATEWAY",) if field == "node_type" else ()
