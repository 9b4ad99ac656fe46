"""The device calls over HTTP: one device, lists of them, and the search."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice

from fastapi import APIRouter, Request, Response

from iotda_provider.emulator import errors
from iotda_provider.emulator.clock import parse_basic
from iotda_provider.emulator.devices import DEFAULT_APP_ID, record_id
from iotda_provider.emulator.errors import ApiError
from iotda_provider.emulator.gateway import (
    PREFIX,
    GatewayRoute,
    JsonResponse,
    instance_of,
    read_json,
)
from iotda_provider.emulator.paging import Page, described
from iotda_provider.emulator.search import chosen, parse

_DEVICES = PREFIX + "/devices"
_DEVICE = _DEVICES + "/{device_id}"
_DEVICE_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_FILTERS = ("product_id", "gateway_id", "node_id", "device_name", "app_id")


routes = APIRouter(route_class=GatewayRoute)


@routes.get(_DEVICES)
async def list_devices(request: Request) -> Response:
    page = Page.read(request.query_params)
    world = instance_of(request).present()
    devices = world.devices()
    wanted = _filters(request, world.origin)
    count, found = (0, ()) if wanted is None else devices.page(page, wanted)
    return JsonResponse(
        {
            "devices": [devices.brief(device) for device in found],
            "page": described(count, found, record_id),
        }
    )


@routes.get(_DEVICE)
async def show_device(request: Request, device_id: str) -> Response:
    world = instance_of(request).present()
    device = world.groups.device(checked_device(device_id))
    return JsonResponse(world.devices().full(device))


@routes.delete(_DEVICE)
async def delete_device(request: Request, device_id: str) -> Response:
    instance_of(request).run("remove_device", device_id=checked_device(device_id))
    return Response(status_code=204)


@routes.post(_DEVICE + "/list-device-group")
async def list_device_groups_by_device(request: Request, device_id: str) -> Response:
    groups = instance_of(request).present().groups
    found = groups.groups_of(groups.device(checked_device(device_id)))
    return JsonResponse({"device_groups": [group.describe(brief=True) for group in found]})


@routes.post(PREFIX + "/search/query-devices")
async def search_devices(request: Request) -> Response:
    body = await read_json(request)
    query = parse(body.get("sql") if isinstance(body, dict) else None)
    devices = instance_of(request).present().devices()
    found = devices.find(query)
    if query.counts:
        return JsonResponse({"count": sum(1 for _ in found)})
    rows = islice(found, query.offset, query.offset + query.rows)
    return JsonResponse(
        {"devices": [chosen(devices.found(device), query.fields) for device in rows]}
    )


def checked_device(device_id: object) -> str:
    """A device id of the documented form.

    :raises ApiError: it is something else
    """
    if not isinstance(device_id, str) or not _DEVICE_ID.fullmatch(device_id):
        raise errors.invalid("device_id must be 1 to 128 letters, digits, underscores or hyphens.")
    return device_id


def _filters(request: Request, registered: float) -> Sequence[tuple[str, str]] | None:
    """What the devices of a list are to have; None where the list is to hold no device."""
    query = request.query_params
    wanted = [(name, query[name]) for name in _FILTERS if name in query]
    since, until = _time(query.get("start_time")), _time(query.get("end_time"))
    if (since is not None and registered < since) or (until is not None and registered > until):
        return None
    return [pair for pair in wanted if pair != ("app_id", DEFAULT_APP_ID)]


def _time(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return parse_basic(text)
    except ValueError:
        raise ApiError(400, "IOTDA.000009", "Invalid input. Invalid time format.") from None
