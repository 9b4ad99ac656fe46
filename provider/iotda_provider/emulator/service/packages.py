"""OTA packages: what there is, and which versions they bring."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from iotda_provider.emulator.common import errors
from iotda_provider.emulator.common.clock import basic
from iotda_provider.emulator.scenario.scenario import DEFAULT_APP_ID, Scenario
from iotda_provider.emulator.service.fleet import Versions
from iotda_provider.models import TaskType

MADE_UP_PACKAGE = "32822e5744a45ede319d2c50"

_PACKAGE_TYPES = {
    TaskType.FIRMWARE_UPGRADE: "firmwarePackage",
    TaskType.SOFTWARE_UPGRADE: "softwarePackage",
    TaskType.MODULE_UPGRADE: "modulePackage",
}


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


class Library:
    """All packages, with their rules.

    :param versions: the fleet's versions, whose numbers tasks work with
    :param moment: tells the virtual present in seconds since 1970
    """

    def __init__(self, scenario: Scenario, versions: Versions, moment: Callable[[], float]) -> None:
        self._switches = scenario.switches
        self._refusal = scenario.switches.error_codes.refusal
        self._versions = versions
        self._moment = moment
        self._made = 0
        self.packages: dict[str, OtaPackage] = {}
        self.commands: Mapping[str, Callable[..., Any]] = {
            "create_package": self.create_package,
            "delete_package": self.delete_package,
        }
        for package in scenario.packages:
            fields: dict[str, Any] = {
                "app_id": DEFAULT_APP_ID,
                "package_type": package.package_type,
                "product_id": package.product_id or scenario.product_id,
                "version": package.version,
            }
            if package.support_source_versions:
                fields["support_source_versions"] = list(package.support_source_versions)
            if package.description is not None:
                fields["description"] = package.description
            self._add_package(fields, package.package_id)

    def _record_id(self) -> str:
        self._made += 1
        return f"{int(self._moment()):08x}{self._made:016x}"

    def _add_package(self, fields: Mapping[str, Any], package_id: str | None) -> OtaPackage:
        record_id = self._record_id()
        package = OtaPackage(record_id, package_id or record_id, fields, self._moment())
        self.packages[package.package_id] = package
        return package

    def package(self, package_id: str) -> OtaPackage:
        """A package by its id.

        :raises ApiError: no package has this id
        """
        package = self.packages.get(package_id)
        if package is None:
            raise self._refusal("package_not_found", f"The package {package_id} does not exist.")
        return package

    def target_versions(self, kind: TaskType, package_ids: Sequence[str]) -> dict[str, int]:
        """The versions that packages bring, by product; ``""`` is for devices of any other.

        :raises ApiError: a package is of another kind, or does not exist and that is refused
        """
        versions: dict[str, int] = {}
        number = self._versions.number
        for package_id in package_ids:
            if package_id not in self.packages and self._switches.unknown_package != "refuse":
                versions.setdefault("", number(f"package-{package_id[:12]}"))
                continue
            package = self.package(package_id)
            if package.fields["package_type"] != _PACKAGE_TYPES.get(kind):
                raise errors.invalid(f"The package {package_id} is not for {kind}.")
            version = number(package.fields["version"])
            versions.setdefault(package.fields["product_id"], version)
            versions.setdefault("", version)
        versions.setdefault("", 0)
        return versions

    def any_package(self, kind: TaskType) -> str:
        """The id of a package for this kind of task: the first one, or an invented one."""
        wanted = _PACKAGE_TYPES.get(kind)
        for package in self.packages.values():
            if package.fields["package_type"] == wanted:
                return package.package_id
        return MADE_UP_PACKAGE

    def create_package(self, fields: Mapping[str, Any]) -> OtaPackage:
        """Create a package from its checked fields.

        :raises ApiError: the product has this version already
        """
        same = ("package_type", "product_id", "version", "module_name")
        for other in self.packages.values():
            if all(other.fields.get(name) == fields.get(name) for name in same):
                raise self._refusal("package_refused", "The package exists already.")
        return self._add_package(fields, None)

    def delete_package(self, package_id: str) -> None:
        """Delete a package."""
        del self.packages[self.package(package_id).package_id]
