"""The device calls over HTTP: one device, lists of them, and the search."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from fastapi import Request, Response

from iotda_provider.emulator.common.paging import described
from iotda_provider.emulator.scenario.scenario import DEFAULT_APP_ID
from iotda_provider.emulator.service.device_queries import record_id
from iotda_provider.emulator.service.request_models import ListDevices, SearchDevices
from iotda_provider.emulator.service.search import chosen, parse
from iotda_provider.emulator.web.gateway import JsonResponse, instance_of, read_json, router

_FILTERS = ("product_id", "gateway_id", "node_id", "device_name", "app_id")


routes = router()


@routes.get("/devices")
async def list_devices(request: Request) -> Response:
    query = ListDevices.read(request.query_params)
    world = instance_of(request).present()
    devices = world.devices()
    wanted = _filters(query, world.origin)
    count, found = (0, ()) if wanted is None else devices.page(query.page, wanted)
    return JsonResponse(
        {
            "devices": [devices.brief(device) for device in found],
            "page": described(count, found, record_id),
        }
    )


@routes.get("/devices/{device_id}")
async def show_device(request: Request, device_id: str) -> Response:
    world = instance_of(request).present()
    device = world.groups.device(device_id)
    return JsonResponse(world.devices().full(device))


@routes.delete("/devices/{device_id}")
async def delete_device(request: Request, device_id: str) -> Response:
    instance_of(request).run("remove_device", device_id=device_id)
    return Response(status_code=204)


@routes.post("/devices/{device_id}/list-device-group")
async def list_device_groups_by_device(request: Request, device_id: str) -> Response:
    groups = instance_of(request).present().groups
    found = groups.groups_of(groups.device(device_id))
    return JsonResponse({"device_groups": [group.describe(brief=True) for group in found]})


@routes.post("/search/query-devices")
async def search_devices(request: Request) -> Response:
    query = parse(SearchDevices.read(await read_json(request)).sql)
    devices = instance_of(request).present().devices()
    found = devices.find(query)
    if query.counts:
        return JsonResponse({"count": sum(1 for _ in found)})
    rows = islice(found, query.offset, query.offset + query.rows)
    return JsonResponse(
        {"devices": [chosen(devices.found(device), query.fields) for device in rows]}
    )


def _filters(query: ListDevices, registered: float) -> Sequence[tuple[str, str]] | None:
    """What the devices of a list are to have; None where the list is to hold no device."""
    since, until = query.start_time, query.end_time
    if (since is not None and registered < since) or (until is not None and registered > until):
        return None
    wanted = [(name, getattr(query, name)) for name in _FILTERS]
    return [
        (name, value)
        for name, value in wanted
        if value is not None and (name, value) != ("app_id", DEFAULT_APP_ID)
    ]
