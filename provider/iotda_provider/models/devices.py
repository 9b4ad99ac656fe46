"""Devices, device groups and upgrade packages.

Source: ``ShowDeviceResponse``, ``DeviceGroupResponseSummary`` and ``OtaPackageInfo`` of
``huaweicloudsdkiotda.v5``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from iotda_provider.models.json_text import plain_arguments
from iotda_provider.models.text import checked_id, short_text


def _id(data: Mapping[str, Any], name: str) -> str:
    return checked_id(data.get(name), "a row", name)


@dataclass(frozen=True)
class Device:
    """One device.

    :param status: ``ONLINE``, ``OFFLINE``, ``ABNORMAL``, ``INACTIVE`` or ``FROZEN``
    :param fw_version: firmware; None: the call does not return versions
    :param sw_version: software; likewise
    :param status_changed: when it last went online or offline, ``yyyy-MM-dd'T'HH:mm:ss.SSS'Z'`` in
        UTC; None: the call is a list, which does not return it
    :param gateway_id: the gateway that it is connected through; its own id: it is connected itself
    """

    device_id: str
    status: str | None = None
    fw_version: str | None = None
    sw_version: str | None = None
    product_id: str | None = None
    device_name: str | None = None
    status_changed: str | None = None
    gateway_id: str | None = None

    @property
    def is_direct(self) -> bool:
        """Whether it is connected itself, so that its state is its own and not its gateway's."""
        return self.gateway_id in (None, self.device_id)

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> Device:
        """Read one device.

        :raises ValueError: there is no id
        """
        names = (
            *("status", "fw_version", "sw_version"),
            *("product_id", "device_name", "gateway_id"),
        )
        return cls(
            device_id=_id(data, "device_id"),
            status_changed=short_text(data.get("connection_status_update_time")),
            **{name: short_text(data.get(name)) for name in names},
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
            short_text(data.get("name")) or "",
            short_text(data.get("description")),
            short_text(data.get("group_type")),
        )


@dataclass(frozen=True)
class OtaPackage:
    """A firmware or software image that devices can be upgraded to.

    :param source_versions: the versions from which devices can be upgraded; empty: from any
    :param module_name: of a ``modulePackage``
    :param create_time: as the platform writes times, ``yyyyMMdd'T'HHmmss'Z'``
    :param raw: what the platform sent. Lists leave out ``file_location``
    """

    package_id: str
    version: str
    package_type: str | None = None
    product_id: str | None = None
    source_versions: tuple[str, ...] = ()
    description: str | None = None
    app_id: str | None = None
    module_name: str | None = None
    create_time: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> OtaPackage:
        """Read one package.

        :raises ValueError: there is no id or version
        """
        names = ("package_type", "product_id", "description", "app_id", "module_name")
        return cls(
            package_id=_id(data, "package_id"),
            version=_id(data, "version"),
            source_versions=tuple(
                short_text(version) or "" for version in data.get("support_source_versions") or ()
            ),
            create_time=short_text(data.get("create_time")),
            raw=data,
            **{name: short_text(data.get(name)) for name in names},
        )

    def to_dict(self) -> dict[str, Any]:
        """The package as plain JSON, such as for an XCom."""
        return {name: one for name, one in plain_arguments(self).items() if name != "raw"}
