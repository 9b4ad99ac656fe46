"""The calls on devices and device groups.

Source: "Device Management" and "Device Group Management" of the IoTDA API reference, and the
request models of ``huaweicloudsdkiotda.v5``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from iotda_provider.api.call import (
    MAX_PAGE,
    Call,
    Page,
    Repeat,
    nothing,
    page_of,
    page_query,
    rows_of,
)
from iotda_provider.api.identifiers import (
    check_device_id,
    check_group_id,
    check_group_text,
    check_id,
    check_sql,
    optional,
)
from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.models import Device, DeviceGroup
from iotda_provider.models.text import one_line

_DEVICES = "/v5/iot/{project_id}/devices"
_GROUPS = "/v5/iot/{project_id}/device-group"
#: A text of a search that needs no quoting.
_SEARCHABLE = re.compile(r"[^\W_][\w .:+-]{0,127}", re.ASCII)


def show_device(device_id: str) -> Call[Device]:
    """One device with its versions."""
    device = check_device_id(device_id)
    return Call(
        action=f"read device {device}",
        path=f"{_DEVICES}/{device}",
        read=Device.from_wire,
        permission="iotda:devices:query",
    )


def list_devices(
    *,
    product_id: str | None = None,
    app_id: str | None = None,
    marker: str | None = None,
    limit: int = MAX_PAGE,
) -> Call[Page[Device]]:
    """A page of devices with their versions."""
    query = page_query(
        limit,
        marker,
        product_id=optional(check_id, product_id, "product_id"),
        app_id=optional(check_id, app_id, "app_id"),
    )
    return Call(
        action="list devices",
        path=_DEVICES,
        query=query,
        read=lambda data: page_of(data, "devices", Device.from_wire, limit, marker),
        permission="iotda:devices:queryList",
    )


def search_devices(sql: object) -> Call[tuple[Device, ...]]:
    """At most 50 devices that match a search, such as ``select * from device where ...``.

    The platform takes about one search a second, of at most 400 characters.
    """
    return Call(
        action="search devices",
        method="POST",
        path="/v5/iot/{project_id}/search/query-devices",
        body={"sql": check_sql(sql)},
        read=lambda data: rows_of(data, "devices", Device.from_wire, MAX_PAGE),
        permission="iotda:devices:search",
    )


def count_devices(wanted: Mapping[str, str]) -> Call[int]:
    """How many devices have these values of a search's fields; none: how many devices there are.

    A search, with its limits: see :func:`search_devices`. It is not repeated.

    :param wanted: the values by field, such as ``product_id`` and ``fw_version``
    :raises IoTDAConfigError: they can't be searched for
    """
    for field, value in wanted.items():
        if not _SEARCHABLE.fullmatch(value):
            raise IoTDAConfigError(f"{field} can't be searched for: {one_line(value, 100)!r}.")
    tests = " and ".join(f"{field} = '{value}'" for field, value in wanted.items())
    sql = f"select count(*) from device{' where ' if tests else ''}{tests}"  # noqa: S608 - checked
    return Call(
        action="count devices",
        method="POST",
        path="/v5/iot/{project_id}/search/query-devices",
        body={"sql": check_sql(sql)},
        read=_count,
        repeat=Repeat.NOT_NEEDED,
        permission="iotda:devices:search",
    )


def _count(data: Any) -> int:
    count = data["count"]
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise ValueError("count is no number of devices")
    return count


def list_groups(
    *, name: str | None = None, marker: str | None = None, limit: int = MAX_PAGE
) -> Call[Page[DeviceGroup]]:
    """A page of device groups."""
    return Call(
        action="list device groups",
        path=_GROUPS,
        query=page_query(limit, marker, name=optional(check_group_text, name, "name")),
        read=lambda data: page_of(data, "device_groups", DeviceGroup.from_wire, limit, marker),
        permission="iotda:group:queryList",
    )


def create_group(*, name: object, description: str = "") -> Call[DeviceGroup]:
    """Create a static device group.

    :param name: 1 to 64 letters, digits, spaces, Chinese or characters of ``_?'#().,&%@!-``
    :param description: as ``name``; empty: no description
    """
    body: dict[str, Any] = {"name": check_group_text(name, "name")}
    if description != "":
        body["description"] = check_group_text(description, "description")
    return Call(
        action=f"create device group {body['name']}",
        method="POST",
        path=_GROUPS,
        body=body,
        read=DeviceGroup.from_wire,
        repeat=Repeat.ONCE,
        permission="iotda:group:create",
    )


def list_devices_in_group(
    group_id: str, *, marker: str | None = None, limit: int = MAX_PAGE
) -> Call[Page[Device]]:
    """A page of one group's devices; the platform does not send their versions."""
    group = check_group_id(group_id)
    return Call(
        action=f"list the devices of group {group}",
        path=f"{_GROUPS}/{group}/devices",
        query=page_query(limit, marker),
        read=lambda data: page_of(data, "devices", Device.from_wire, limit, marker),
        permission="iotda:group:query",
    )


def change_group(group_id: str, device_id: str, *, add: bool) -> Call[None]:
    """Add a device to a group, or remove it. A second call changes nothing."""
    group, device = check_group_id(group_id), check_device_id(device_id)
    return Call(
        action=f"add device {device} to group {group}"
        if add
        else f"remove device {device} from group {group}",
        method="POST",
        path=f"{_GROUPS}/{group}/action",
        query=(("action_id", "addDevice" if add else "removeDevice"), ("device_id", device)),
        read=nothing,
        repeat=Repeat.HARMLESS,
        permission="iotda:group:update",
    )
