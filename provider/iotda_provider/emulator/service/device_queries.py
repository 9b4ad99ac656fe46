"""Devices as the API shows and searches them."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from iotda_provider.emulator.common.clock import MICRO, basic, millis
from iotda_provider.emulator.common.paging import Page
from iotda_provider.emulator.scenario.scenario import DEFAULT_APP_ID
from iotda_provider.emulator.service.fleet import Fleet, Membership
from iotda_provider.emulator.service.groups import Groups
from iotda_provider.emulator.service.search import AnyOf, Condition, Query, Values

DEFAULT_APP_NAME = "DefaultApp"
_MOST_LISTS = 16
#: What all devices that behave alike have in common.
_SAME_IN_A_SEGMENT = frozenset({"product_id", "app_id", "node_type", "create_time"})
#: What changes while a device is registered.
_CHANGE = frozenset({"fw_version", "sw_version", "status", "group_id"})


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
        #: What tells a device's value in a field that can be searched by.
        self._values: dict[str, Callable[[int], str]] = {
            **dict.fromkeys(("device_id", "node_id", "gateway_id", "device_name"), fleet.id_of),
            "fw_version": fleet.firmware,
            "sw_version": fleet.software,
            "product_id": lambda device: fleet.behaviour(device).product_id,
            "status": lambda device: fleet.status(device, now),
            "marker": record_id,
            "create_time": lambda device: millis(origin),
            "app_id": lambda device: DEFAULT_APP_ID,
            "node_type": lambda device: "GATEWAY",
        }

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
        changed = self._origin + self._fleet.connections.changed(device, self._now) / MICRO
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
        conditions = tuple(Condition(name, "=", (value,)) for name, value in wanted)
        found = self._kept(AnyOf((conditions,)))
        return len(found), page.newest(found, start)

    def find(self, query: Query) -> Iterator[int]:
        """The devices that a search wants, in its order."""
        fleet, test, values = self._fleet, query.test, self._values_for(query.test)
        first, last = (self._place(marker) for marker in test.markers)
        devices = fleet.oldest_first(first) if query.ascending else fleet.newest_first(last)
        return (device for device in devices if test(device, values))

    def _place(self, marker: str | None) -> int:
        """How many devices there are below a marker."""
        every = range(len(self._fleet))
        return len(every) if marker is None else bisect_left(every, marker, key=record_id)

    def matching(self, test: AnyOf) -> Sequence[int]:
        """The devices that pass a test, oldest first; found once for as long as nothing changes."""
        fleet = self._fleet
        if not test.fields & _CHANGE:
            return self._kept(test)
        waits = "status" in test.fields and fleet.changes_by_itself
        when = (fleet.changes, self._now if waits else None)
        if fleet.last_matching is None or fleet.last_matching[:2] != (test, when):
            fleet.last_matching = (test, when, self._all_of(test))
        return fleet.last_matching[2]

    def _kept(self, test: AnyOf) -> Sequence[int]:
        kept = self._fleet.kept_lists
        if test not in kept:
            if len(kept) >= _MOST_LISTS:
                kept.clear()
            kept[test] = Membership(self._all_of(test))
        return kept[test].devices

    def _all_of(self, test: AnyOf) -> Sequence[int]:
        fleet, values = self._fleet, self._values_for(test)
        if not test.fields <= _SAME_IN_A_SEGMENT:
            return array("I", (device for device in fleet if test(device, values)))
        segment, passes = fleet.segment, [True] * len(fleet.behaviours)
        for place, device in {segment(device): device for device in fleet}.items():
            passes[place] = test(device, values)
        return array("I", (device for device in fleet if passes[segment(device)]))

    def _values_for(self, test: AnyOf) -> Values:
        """What a test looks values up with: of groups those alone that it names."""
        named = [g for g in map(self._groups.by_id.get, test.texts_of("group_id")) if g]

        def values(device: int, field: str) -> Sequence[str]:
            if field == "group_id":
                return [group.group_id for group in named if device in group.members]
            value = self._values.get(field)
            return () if value is None else (value(device),)

        return values

    def found(self, device: int) -> dict[str, Any]:
        """What a search shows."""
        shown = self.brief(device)
        shown["groups"] = [g.group_id for g in self._groups.groups_of(device)]
        shown["marker"] = record_id(device)
        return shown
