"""The device-group calls over HTTP."""

from __future__ import annotations

import re
from typing import Any

from fastapi import APIRouter, Request, Response

from iotda_provider.emulator import errors
from iotda_provider.emulator.devices import below, record_id
from iotda_provider.emulator.gateway import (
    PREFIX,
    GatewayRoute,
    JsonResponse,
    instance_of,
    read_json,
)
from iotda_provider.emulator.paging import Page, described
from iotda_provider.emulator.routes.devices import checked_device

_GROUPS = PREFIX + "/device-group"
_GROUP = _GROUPS + "/{group_id}"
_GROUP_ID = re.compile(r"[0-9a-fA-F-]{1,36}")
_NAME = re.compile(r"[\w\u4e00-\u9fff? '#().,&%@!-]{1,64}", re.ASCII)


routes = APIRouter(route_class=GatewayRoute)


@routes.get(_GROUPS)
async def list_device_groups(request: Request) -> Response:
    query = request.query_params
    page = Page.read(query)
    groups = sorted(
        (
            group
            for group in instance_of(request).present().groups.by_id.values()
            if query.get("name") in (None, group.name)
            and query.get("group_type") in (None, group.group_type)
            and query.get("app_id") in (None, group.app_id)
        ),
        key=lambda group: group.record_id,
        reverse=True,
    )
    shown = page.cut(group for group in groups if group.record_id < page.marker)
    return JsonResponse(
        {
            "device_groups": [group.describe(brief=True) for group in shown],
            "page": described(len(groups), shown, lambda group: group.record_id),
        }
    )


@routes.post(_GROUPS)
async def add_device_group(request: Request) -> Response:
    body = _object(await read_json(request))
    kind = body.get("group_type", "STATIC")
    if kind not in ("STATIC", "DYNAMIC"):
        raise errors.invalid("group_type must be STATIC or DYNAMIC.")
    rule = body.get("dynamic_group_rule") if kind == "DYNAMIC" else None
    if kind == "DYNAMIC" and not isinstance(rule, str):
        raise errors.invalid("dynamic_group_rule is required.")
    parent = body.get("super_group_id")
    if parent is not None and rule is not None:
        raise errors.invalid("super_group_id is not supported for dynamic groups.")
    group = instance_of(request).run(
        "create_group",
        name=_name(body, "name", required=True),
        description=_name(body, "description", required=False),
        super_group_id=None if parent is None else _checked(parent),
        app_id=body.get("app_id"),
        rule=rule,
    )
    return JsonResponse(group.describe(), 201)


@routes.get(_GROUP)
async def show_device_group(request: Request, group_id: str) -> Response:
    group = instance_of(request).present().groups.group(_checked(group_id))
    return JsonResponse(group.describe())


@routes.put(_GROUP)
async def update_device_group(request: Request, group_id: str) -> Response:
    body = _object(await read_json(request))
    group = instance_of(request).run(
        "update_group",
        group_id=_checked(group_id),
        name=_name(body, "name", required=False),
        description=_name(body, "description", required=False),
    )
    return JsonResponse(group.describe())


@routes.delete(_GROUP)
async def delete_device_group(request: Request, group_id: str) -> Response:
    instance_of(request).run("delete_group", group_id=_checked(group_id))
    return Response(status_code=204)


@routes.get(_GROUP + "/devices")
async def show_devices_in_group(request: Request, group_id: str) -> Response:
    page = Page.read(request.query_params)
    world = instance_of(request).present()
    members = world.groups.members(world.groups.group(_checked(group_id)))
    start = below(page.marker)
    shown = page.cut(device for device in reversed(members) if device < start)
    devices = world.devices()
    return JsonResponse(
        {
            "devices": [devices.member(devices.brief(device)) for device in shown],
            "page": described(len(members), shown, record_id),
        }
    )


@routes.post(_GROUP + "/action")
async def create_or_delete_device_in_group(request: Request, group_id: str) -> Response:
    query = request.query_params
    commands = {"addDevice": "add_member", "removeDevice": "remove_member"}
    command = commands.get(query.get("action_id", ""))
    if command is None:
        raise errors.invalid("action_id must be addDevice or removeDevice.")
    device_id = checked_device(query.get("device_id"))
    instance_of(request).run(command, group_id=_checked(group_id), device_id=device_id)
    return Response(status_code=200)


def _object(body: object) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise errors.bad_format("The body must be a JSON object.")
    return body


def _name(body: dict[str, Any], name: str, *, required: bool) -> str | None:
    value = body.get(name)
    if value is None and not required:
        return None
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise errors.invalid(f"{name} must be 1 to 64 characters of those that names may have.")
    return value


def _checked(group_id: object) -> str:
    if not isinstance(group_id, str) or not _GROUP_ID.fullmatch(group_id):
        raise errors.invalid("group_id must be 1 to 36 hexadecimal digits or hyphens.")
    return group_id
