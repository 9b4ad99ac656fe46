"""Device groups: what is in them, and how they may be changed."""

from __future__ import annotations

import uuid
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from iotda_provider.emulator.common.randomness import Draws
from iotda_provider.emulator.scenario.scenario import DEFAULT_APP_ID, Scenario, Segment
from iotda_provider.emulator.service.fleet import Fleet, Membership
from iotda_provider.emulator.service.search import AnyOf, parse_rule

MAX_GROUPS = 1000
MAX_GROUP_DEPTH = 5
MAX_GROUP_DEVICES = 20_000
MAX_GROUPS_OF_DEVICE = 10


@dataclass
class DeviceGroup:
    """A device group and its members."""

    record_id: str
    group_id: str
    name: str
    description: str | None = None
    super_group_id: str | None = None
    app_id: str = DEFAULT_APP_ID
    rule: str | None = None
    test: AnyOf | None = None
    modified: float = 0.0
    members: Membership = field(default_factory=Membership)

    def describe(self, brief: bool = False) -> dict[str, Any]:
        """The group as the API shows it; lists leave out its rule."""
        shown: dict[str, Any] = {"group_id": self.group_id, "name": self.name}
        if self.description is not None:
            shown["description"] = self.description
        if self.super_group_id is not None:
            shown["super_group_id"] = self.super_group_id
        shown["group_type"] = self.group_type
        if self.rule is not None and not brief:
            shown["dynamic_group_rule"] = self.rule
        return shown

    @property
    def group_type(self) -> str:
        """``STATIC``, or ``DYNAMIC`` if a rule chooses its devices."""
        return "STATIC" if self.rule is None else "DYNAMIC"


class Groups:
    """All device groups, with their rules.

    :param moment: tells the virtual present in seconds since 1970
    """

    def __init__(
        self, scenario: Scenario, draws: Draws, fleet: Fleet, moment: Callable[[], float]
    ) -> None:
        self._refusal = scenario.switches.error_codes.refusal
        self._draws = draws
        self._fleet = fleet
        self._moment = moment
        self._made = 0
        self.by_id: dict[str, DeviceGroup] = {}
        # The devices that pass a dynamic group's test; set by the world, which knows the present.
        self.matching: Callable[[AnyOf], Sequence[int]] = lambda test: ()
        self.commands: Mapping[str, Callable[..., Any]] = {
            "create_group": self.create_group,
            "update_group": self.update_group,
            "delete_group": self.delete_group,
            "add_member": self.add_member,
            "remove_member": self.remove_member,
        }
        self._populate(scenario)

    def _populate(self, scenario: Scenario) -> None:
        order = self._order(scenario)
        members: dict[str, Sequence[int]] = {}
        taken = 0
        for group in scenario.groups:
            if group.devices is not None:
                found = [self._fleet.find(device_id) for device_id in group.devices]
                members[group.name] = [device for device in found if device is not None]
            elif group.segment is None:
                count = group.count
                if count is None:
                    count = round((group.share or 0.0) * scenario.devices)
                members[group.name] = order[taken : taken + count]
                taken += count
        segments = self._assign(scenario.segments, order, members)
        for group in scenario.groups:
            if group.segment is not None:
                members[group.name] = segments[group.segment]
            self._add_group(
                group.group_id or str(uuid.UUID(self._draws.hex(32, "group", group.name))),
                group.name,
                group.description,
            ).members = Membership(members[group.name])

    def _order(self, scenario: Scenario) -> list[int]:
        """The devices in the order in which segments and groups take them."""
        devices = list(range(scenario.devices))
        if scenario.layout == "mixed":
            place = self._draws.stream("layout")
            devices.sort(key=lambda device: place(self._fleet.id_of(device))[0])
        return devices

    def _assign(
        self, segments: Sequence[Segment], order: Sequence[int], groups: dict[str, Sequence[int]]
    ) -> dict[str, Sequence[int]]:
        taken = 0
        result: dict[str, Sequence[int]] = {}
        for place, segment in enumerate(segments):
            if segment.group is not None:
                devices = groups.get(segment.group, ())
            else:
                count = segment.count
                if count is None:
                    count = round((segment.share or 0.0) * len(order))
                devices = order[taken : taken + count]
                taken += count
            self._fleet.assign(place, devices)
            result[segment.name] = devices
        return result

    def _record_id(self) -> str:
        self._made += 1
        return f"{int(self._moment()):08x}{self._made:016x}"

    # Devices

    def device(self, device_id: str) -> int:
        """A registered device by its id.

        :raises ApiError: no registered device has this id
        """
        device = self._fleet.find(device_id)
        if device is None or not self._fleet.is_registered(device):
            raise self._refusal("device_not_found", f"The device {device_id} does not exist.")
        return device

    def forget(self, device: int) -> None:
        """Remove a device from the platform and from all groups."""
        self._fleet.remove(device)
        for group in self.by_id.values():
            group.members.discard(device)

    def groups_of(self, device: int) -> list[DeviceGroup]:
        """The static groups that a device is in."""
        return [group for group in self.by_id.values() if device in group.members]

    # Groups

    def _add_group(self, group_id: str, name: str, description: str | None) -> DeviceGroup:
        record_id = self._record_id()
        group = DeviceGroup(record_id, group_id, name, description, modified=self._moment())
        self.by_id[group_id] = group
        return group

    def group(self, group_id: str) -> DeviceGroup:
        """A group by its id.

        :raises ApiError: there is none
        """
        group = self.by_id.get(group_id)
        if group is None:
            raise self._refusal("group_not_found", f"The device group {group_id} does not exist.")
        return group

    def devices_of(self, group_ids: Iterable[str]) -> Sequence[int]:
        """The devices of these groups, each once, oldest first.

        :raises ApiError: a group does not exist
        """
        groups = [self.group(group_id) for group_id in group_ids]
        if len(groups) == 1:
            return array("I", self.members(groups[0]))
        return array("I", sorted({device for group in groups for device in self.members(group)}))

    def members(self, group: DeviceGroup) -> Sequence[int]:
        """The devices of a group, oldest first."""
        return group.members.devices if group.test is None else self.matching(group.test)

    def create_group(
        self,
        name: str,
        description: str | None = None,
        super_group_id: str | None = None,
        app_id: str | None = None,
        rule: str | None = None,
    ) -> DeviceGroup:
        """Create a device group; a rule makes it a dynamic one.

        :raises ApiError: a limit is reached, the name is taken, or there is no such parent
        """
        if len(self.by_id) >= MAX_GROUPS:
            raise self._refusal("group_refused", f"There are {MAX_GROUPS} device groups already.")
        self._check_group_name(name)
        test = None if rule is None else parse_rule(rule)
        if super_group_id is not None and self._depth(super_group_id) >= MAX_GROUP_DEPTH:
            raise self._refusal("group_refused", f"Groups nest {MAX_GROUP_DEPTH} deep at most.")
        group_id = str(uuid.UUID(self._draws.hex(32, "new group", self._made)))
        group = self._add_group(group_id, name, description)
        group.super_group_id, group.app_id = super_group_id, app_id or DEFAULT_APP_ID
        group.rule, group.test = rule, test
        return group

    def _check_group_name(self, name: str) -> None:
        if any(group.name == name for group in self.by_id.values()):
            raise self._refusal("group_refused", f"The device group name {name} is taken.")

    def _depth(self, group_id: str) -> int:
        depth = 0
        parent: str | None = group_id
        while parent is not None:
            parent = self.group(parent).super_group_id
            depth += 1
        return depth

    def update_group(
        self, group_id: str, name: str | None = None, description: str | None = None
    ) -> DeviceGroup:
        """Change a group's name or description."""
        group = self.group(group_id)
        if name is not None and name != group.name:
            self._check_group_name(name)
            group.name = name
        if description is not None:
            group.description = description
        group.modified = self._moment()
        return group

    def delete_group(self, group_id: str) -> None:
        """Delete a group that has neither devices nor groups in it."""
        group = self.group(group_id)
        if group.members or any(g.super_group_id == group_id for g in self.by_id.values()):
            raise self._refusal("group_refused", "The device group is not empty.")
        del self.by_id[group_id]

    def add_member(self, group_id: str, device_id: str) -> None:
        """Add a device to a group."""
        group, device = self._static(group_id), self.device(device_id)
        if device in group.members:
            return
        if len(group.members) >= MAX_GROUP_DEVICES:
            raise self._refusal(
                "group_refused", f"A device group holds {MAX_GROUP_DEVICES} devices at most."
            )
        if len(self.groups_of(device)) >= MAX_GROUPS_OF_DEVICE:
            raise self._refusal(
                "group_refused", f"A device is in {MAX_GROUPS_OF_DEVICE} groups at most."
            )
        group.members.add(device)
        self._fleet.changes += 1

    def remove_member(self, group_id: str, device_id: str) -> None:
        """Take a device out of a group."""
        group, device = self._static(group_id), self.device(device_id)
        if device not in group.members:
            raise self._refusal("group_refused", "The device is not in the device group.")
        group.members.discard(device)
        self._fleet.changes += 1

    def _static(self, group_id: str) -> DeviceGroup:
        group = self.group(group_id)
        if group.test is not None:
            raise self._refusal("group_refused", "A rule says who is in this device group.")
        return group
