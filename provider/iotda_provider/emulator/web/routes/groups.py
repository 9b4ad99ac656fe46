"""The device-group calls over HTTP."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from iotda_provider.emulator.common.paging import described
from iotda_provider.emulator.service.device_queries import below, record_id
from iotda_provider.emulator.service.request_models import (
    AddDeviceGroup,
    DeviceInGroup,
    ListDeviceGroups,
    ShowDevicesInGroup,
    UpdateDeviceGroup,
)
from iotda_provider.emulator.web.gateway import (
    PREFIX,
    GatewayRoute,
    JsonResponse,
    instance_of,
    read_json,
)

_GROUPS = PREFIX + "/device-group"
_GROUP = _GROUPS + "/{group_id}"
_ACTIONS = {"addDevice": "add_member", "removeDevice": "remove_member"}


routes = APIRouter(route_class=GatewayRoute)


@routes.get(_GROUPS)
async def list_device_groups(request: Request) -> Response:
    query = ListDeviceGroups.read(request.query_params)
    since = query.last_modified_time
    groups = sorted(
        (
            group
            for group in instance_of(request).present().groups.by_id.values()
            if query.name in (None, group.name)
            and query.group_type in (None, group.group_type)
            and query.app_id in (None, group.app_id)
            and (since is None or group.modified >= since)
        ),
        key=lambda group: group.record_id,
        reverse=True,
    )
    shown = query.page.cut(group for group in groups if group.record_id < query.page.marker)
    return JsonResponse(
        {
            "device_groups": [group.describe(brief=True) for group in shown],
            "page": described(len(groups), shown, lambda group: group.record_id),
        }
    )


@routes.post(_GROUPS)
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


@routes.get(_GROUP)
async def show_device_group(request: Request, group_id: str) -> Response:
    group = instance_of(request).present().groups.group(group_id)
    return JsonResponse(group.describe())


@routes.put(_GROUP)
async def update_device_group(request: Request, group_id: str) -> Response:
    asked = UpdateDeviceGroup.read(await read_json(request))
    group = instance_of(request).run(
        "update_group", group_id=group_id, name=asked.name, description=asked.description
    )
    return JsonResponse(group.describe())


@routes.delete(_GROUP)
async def delete_device_group(request: Request, group_id: str) -> Response:
    instance_of(request).run("delete_group", group_id=group_id)
    return Response(status_code=204)


@routes.get(_GROUP + "/devices")
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


@routes.post(_GROUP + "/action")
async def create_or_delete_device_in_group(request: Request, group_id: str) -> Response:
    asked = DeviceInGroup.read(request.query_params)
    instance_of(request).run(
        _ACTIONS[asked.action_id], group_id=group_id, device_id=asked.device_id
    )
    return Response(status_code=200)
