"""Devices, device groups and upgrade packages.

Source: ``ShowDeviceResponse``, ``DeviceGroupResponseSummary`` and ``OtaPackageInfo`` of
``huaweicloudsdkiotda.v5``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from iotda_provider.models.text import checked_id, one_line

_LONGEST_TEXT = 500


def _id(data: Mapping[str, Any], name: str) -> str:
    return checked_id(data.get(name), "a row", name)


def _text(data: Mapping[str, Any], name: str) -> str | None:
    value = data.get(name)
    return None if value is None else one_line(value, _LONGEST_TEXT)


@dataclass(frozen=True)
class Device:
    """One device; its versions are None where the call leaves them out.

    ``status`` is ``ONLINE``, ``OFFLINE``, ``ABNORMAL``, ``INACTIVE`` or ``FROZEN``;
    ``status_changed`` the time of its last change between online and offline,
    ``yyyy-MM-dd'T'HH:mm:ss.SSS'Z'`` in UTC, which lists leave out.
    """

    device_id: str
    status: str | None = None
    fw_version: str | None = None
    sw_version: str | None = None
    product_id: str | None = None
    device_name: str | None = None
    status_changed: str | None = None

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> Device:
        """Read one device.

        :raises ValueError: there is no id
        """
        return cls(
            device_id=_id(data, "device_id"),
            status=_text(data, "status"),
            fw_version=_text(data, "fw_version"),
            sw_version=_text(data, "sw_version"),
            product_id=_text(data, "product_id"),
            device_name=_text(data, "device_name"),
            status_changed=_text(data, "connection_status_update_time"),
        )


@dataclass(frozen=True)
class DeviceGroup:
    """A named set of devices."""

    group_id: str
    name: str = ""
    description: str | None = None
    group_type: str | None = None

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> DeviceGroup:
        """Read one group.

        :raises ValueError: there is no id
        """
        return cls(
            _id(data, "group_id"),
            _text(data, "name") or "",
            _text(data, "description"),
            _text(data, "group_type"),
        )


@dataclass(frozen=True)
class OtaPackage:
    """A firmware or software image that devices can be upgraded to."""

    package_id: str
    version: str
    package_type: str | None = None
    product_id: str | None = None
    source_versions: tuple[str, ...] = ()
    description: str | None = None

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> OtaPackage:
        """Read one package.

        :raises ValueError: there is no id or version
        """
        return cls(
            package_id=_id(data, "package_id"),
            version=_id(data, "version"),
            package_type=_text(data, "package_type"),
            product_id=_text(data, "product_id"),
            source_versions=tuple(
                one_line(version, _LONGEST_TEXT)
                for version in data.get("support_source_versions") or ()
            ),
            description=_text(data, "description"),
        )
