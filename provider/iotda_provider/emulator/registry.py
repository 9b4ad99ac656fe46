"""What the platform keeps beside batch tasks: device groups, OTA packages, and uploaded files."""

from __future__ import annotations

import uuid
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from iotda_provider.emulator import errors
from iotda_provider.emulator.clock import basic
from iotda_provider.emulator.draws import Draws
from iotda_provider.emulator.errors import ApiError
from iotda_provider.emulator.fleet import Fleet, Membership
from iotda_provider.emulator.scenario import Scenario, Segment
from iotda_provider.models import TaskType

MAX_GROUPS = 1000
MAX_GROUP_DEPTH = 5
MAX_GROUP_DEVICES = 20_000
MAX_GROUPS_OF_DEVICE = 10
MAX_FILES = 10
FILE_LIFETIME = 3600.0

_PACKAGE_TYPES = {
    TaskType.FIRMWARE_UPGRADE: "firmwarePackage",
    TaskType.SOFTWARE_UPGRADE: "softwarePackage",
    TaskType.MODULE_UPGRADE: "modulePackage",
}


@dataclass
class DeviceGroup:
    """A device group and its members."""

    record_id: str
    group_id: str
    name: str
    description: str | None = None
    super_group_id: str | None = None
    app_id: str | None = None
    members: Membership = field(default_factory=Membership)

    def describe(self) -> dict[str, Any]:
        """The group as the API shows it."""
        shown: dict[str, Any] = {"group_id": self.group_id, "name": self.name}
        if self.description is not None:
            shown["description"] = self.description
        if self.super_group_id is not None:
            shown["super_group_id"] = self.super_group_id
        shown["group_type"] = "STATIC"
        return shown


@dataclass
class OtaPackage:
    """An OTA package; ``fields`` is what the API shows of it besides its id and time."""

    record_id: str
    package_id: str
    fields: Mapping[str, Any]
    created: float

    def describe(self, brief: bool = False) -> dict[str, Any]:
        """The package as the API shows it; lists leave out where its file is."""
        shown: dict[str, Any] = {"package_id": self.package_id, **self.fields}
        if brief:
            shown.pop("file_location", None)
        shown["create_time"] = basic(self.created)
        return shown


@dataclass
class TaskFile:
    """An uploaded list of targets."""

    file_id: str
    file_name: str
    targets: tuple[str, ...]
    uploaded: float

    def describe(self) -> dict[str, Any]:
        """The file as the API shows it."""
        return {
            "file_id": self.file_id,
            "file_name": self.file_name,
            "upload_time": basic(self.uploaded),
        }


class Registry:
    """Groups, packages and files, with their rules.

    :param moment: tells the virtual present in seconds since 1970
    """

    def __init__(
        self, scenario: Scenario, draws: Draws, fleet: Fleet, moment: Callable[[], float]
    ) -> None:
        self._switches = scenario.switches
        self._draws = draws
        self._fleet = fleet
        self._moment = moment
        self._made = 0
        self.groups: dict[str, DeviceGroup] = {}
        self.packages: dict[str, OtaPackage] = {}
        self.files: dict[str, TaskFile] = {}
        self.commands: Mapping[str, Callable[..., Any]] = {}
        self._populate(scenario)

    def _populate(self, scenario: Scenario) -> None:
        order = self._order(scenario)
        members: dict[str, Sequence[int]] = {}
        for group in scenario.groups:
            if group.devices is not None:
                found = [self._fleet.find(device_id) for device_id in group.devices]
                members[group.name] = [device for device in found if device is not None]
            elif group.segment is None:
                count = group.count
                if count is None:
                    count = round((group.share or 0.0) * scenario.devices)
                members[group.name] = order[:count]
        segments = self._assign(scenario.segments, order, members)
        for group in scenario.groups:
            if group.segment is not None:
                members[group.name] = segments[group.segment]
            self._add_group(
                group.group_id or str(uuid.UUID(self._draws.hex(32, "group", group.name))),
                group.name,
                group.description,
            ).members = Membership(members[group.name])
        current: dict[str, str] = {}
        for package in scenario.packages:
            fields = {
                "package_type": package.package_type,
                "product_id": package.product_id or scenario.behaviour.product_id,
                "version": package.version,
            }
            if package.description is not None:
                fields["description"] = package.description
            self._add_package(fields, package.package_id)
            if package.package_type == "firmwarePackage":
                current.setdefault(package.product_id or "", package.version)
        self._fleet.settle_versions(current)

    def _order(self, scenario: Scenario) -> list[int]:
        """The devices in the order in which segments and groups take them."""
        devices = list(range(scenario.devices))
        if scenario.mixed:
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

    def _refusal(self, name: str, message: str) -> ApiError:
        status, code = self._switches.error_codes[name]
        return ApiError(status, code, message)

    # Devices

    def device(self, device_id: str) -> int:
        """A registered device by its id.

        :raises ApiError: there is none
        """
        device = self._fleet.find(device_id)
        if device is None or not self._fleet.is_registered(device):
            raise self._refusal("device_not_found", f"The device {device_id} does not exist.")
        return device

    def forget(self, device: int) -> None:
        """Take a device out of the platform and of all groups."""
        self._fleet.remove(device)
        for group in self.groups.values():
            group.members.discard(device)

    def groups_of(self, device: int) -> list[DeviceGroup]:
        """The groups that a device is in."""
        return [group for group in self.groups.values() if device in group.members]

    # Groups

    def _add_group(self, group_id: str, name: str, description: str | None) -> DeviceGroup:
        group = DeviceGroup(self._record_id(), group_id, name, description)
        self.groups[group_id] = group
        return group

    def group(self, group_id: str) -> DeviceGroup:
        """A group by its id.

        :raises ApiError: there is none
        """
        group = self.groups.get(group_id)
        if group is None:
            raise self._refusal("group_not_found", f"The device group {group_id} does not exist.")
        return group

    def devices_of(self, group_ids: Iterable[str]) -> Sequence[int]:
        """The devices of these groups, each once, oldest first.

        :raises ApiError: a group does not exist
        """
        groups = [self.group(group_id) for group_id in group_ids]
        if len(groups) == 1:
            return array("I", groups[0].members.devices)
        return array("I", sorted({device for group in groups for device in group.members.devices}))

    # Packages

    def _add_package(self, fields: Mapping[str, Any], package_id: str | None) -> OtaPackage:
        record_id = self._record_id()
        package = OtaPackage(record_id, package_id or record_id, fields, self._moment())
        self.packages[package.package_id] = package
        return package

    def package(self, package_id: str) -> OtaPackage:
        """A package by its id.

        :raises ApiError: there is none
        """
        package = self.packages.get(package_id)
        if package is None:
            raise self._refusal("package_not_found", f"The package {package_id} does not exist.")
        return package

    def target_versions(self, kind: TaskType, package_ids: Sequence[str]) -> dict[str, int]:
        """The versions that packages bring, by product; ``""`` is for devices of any other.

        :raises ApiError: a package does not exist, where that matters, or is of another kind
        """
        versions: dict[str, int] = {}
        number = self._fleet.versions.number
        for package_id in package_ids:
            package = self.packages.get(package_id)
            if package is None:
                if self._switches.unknown_package == "refuse":
                    raise self._refusal(
                        "package_not_found", f"The package {package_id} does not exist."
                    )
                versions.setdefault("", number(f"package-{package_id[:12]}"))
                continue
            if package.fields["package_type"] != _PACKAGE_TYPES.get(kind):
                raise errors.invalid(f"The package {package_id} is not for {kind}.")
            version = number(package.fields["version"])
            versions.setdefault(package.fields["product_id"], version)
            versions.setdefault("", version)
        versions.setdefault("", 0)
        return versions

    # Files

    def file_targets(self, file_id: str) -> tuple[str, ...]:
        """The targets that an uploaded file lists.

        :raises ApiError: there is no such file
        """
        self._expire_files()
        file = self.files.get(file_id)
        if file is None:
            raise self._refusal("file_not_found", f"The file {file_id} does not exist.")
        return file.targets

    def _expire_files(self) -> None:
        oldest = self._moment() - FILE_LIFETIME
        for file in [file for file in self.files.values() if file.uploaded < oldest]:
            del self.files[file.file_id]
