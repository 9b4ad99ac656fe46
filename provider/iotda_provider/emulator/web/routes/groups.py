"""The device-group calls over HTTP."""

from __future__ import annotations

from fastapi import Request, Response

from iotda_provider.emulator.common.paging import described, listed
from iotda_provider.emulator.service.device_queries import below, record_id
from iotda_provider.emulator.service.request_models import (
    AddDeviceGroup,
    DeviceInGroup,
    ListDeviceGroups,
    ShowDevicesInGroup,
    UpdateDeviceGroup,
)
from iotda_provider.emulator.web.gateway import JsonResponse, instance_of, read_json, router

_ACTIONS = {"addDevice": "add_member", "removeDevice": "remove_member"}


routes = router("/device-group")


@routes.get("")
async def list_device_groups(request: Request) -> Response:
    query = ListDeviceGroups.read(request.query_params)
    since = query.last_modified_time
    groups = (
        group
        for group in instance_of(request).present().groups.by_id.values()
        if query.name in (None, group.name)
        and query.group_type in (None, group.group_type)
        and query.app_id in (None, group.app_id)
        and (since is None or group.modified >= since)
    )
    return JsonResponse(listed("device_groups", groups, query.page))


@routes.post("")
async def add_device_group(request: Request) -> Response:
    asked = AddDeviceGroup.read(await read_json(request))
    group = instance_of(request).run(
        "create_group",
        name=asked.name,
        description=asked.description,
        super_group_id=asked.super_group_id,
        app_id=asked.app_id,
        rule=asked.dynamic_group_rule,
    )
    return JsonResponse(group.describe(), 201)


@routes.get("/{group_id}")
async def show_device_group(request: Request, group_id: str) -> Response:
    group = instance_of(request).present().groups.group(group_id)
    return JsonResponse(group.describe())


@routes.put("/{group_id}")
async def update_device_group(request: Request, group_id: str) -> Response:
    asked = UpdateDeviceGroup.read(await read_json(request))
    group = instance_of(request).run(
        "update_group", group_id=group_id, name=asked.name, description=asked.description
    )
    return JsonResponse(group.describe())


@routes.delete("/{group_id}")
async def delete_device_group(request: Request, group_id: str) -> Response:
    instance_of(request).run("delete_group", group_id=group_id)
    return Response(status_code=204)


@routes.get("/{group_id}/devices")
async def show_devices_in_group(request: Request, group_id: str) -> Response:
    page = ShowDevicesInGroup.read(request.query_params).page
    world = instance_of(request).present()
    members = world.groups.members(world.groups.group(group_id))
    shown = page.newest(members, below(page.marker))
    devices = world.devices()
    return JsonResponse(
        {
            "devices": [devices.member(devices.brief(device)) for device in shown],
            "page": described(len(members), shown, record_id),
        }
    )


@routes.post("/{group_id}/action")
async def create_or_delete_device_in_group(request: Request, group_id: str) -> Response:
    asked = DeviceInGroup.read(request.query_params)
    instance_of(request).run(
        _ACTIONS[asked.action_id], group_id=group_id, device_id=asked.device_id
    )
    return Response(status_code=200)
