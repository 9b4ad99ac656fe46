"""Devices, device groups and upgrade packages.

Source: ``ShowDeviceResponse``, ``DeviceGroupResponseSummary`` and ``OtaPackageInfo`` of
``huaweicloudsdkiotda.v5``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"no {name}")
    return value


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
            device_id=_text(data, "device_id"),
            status=data.get("status"),
            fw_version=data.get("fw_version"),
            sw_version=data.get("sw_version"),
            product_id=data.get("product_id"),
            device_name=data.get("device_name"),
            status_changed=data.get("connection_status_update_time"),
        )


@dataclass(frozen=True)
class DeviceGroup:
    """A named set of devices."""

    group_id: str
    name: str = ""
    description: str | None = None

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> DeviceGroup:
        """Read one group.

        :raises ValueError: there is no id
        """
        return cls(_text(data, "group_id"), data.get("name") or "", data.get("description"))


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
            package_id=_text(data, "package_id"),
            version=_text(data, "version"),
            package_type=data.get("package_type"),
            product_id=data.get("product_id"),
            source_versions=tuple(data.get("support_source_versions") or ()),
            description=data.get("description"),
        )
