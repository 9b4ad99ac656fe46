"""The calls about files that list a batch task's targets, over HTTP."""

from __future__ import annotations

import re

from fastapi import APIRouter, Request, Response

from iotda_provider.emulator import errors
from iotda_provider.emulator.gateway import PREFIX, GatewayRoute, JsonResponse, instance_of
from iotda_provider.emulator.sheets import read_targets, uploaded_file

_FILES = PREFIX + "/batchtask-files"
_DEVICE_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


routes = APIRouter(route_class=GatewayRoute)


@routes.post(_FILES)
async def upload_batch_task_file(request: Request) -> Response:
    content_type = request.headers.get("content-type", "")
    name, content = uploaded_file(content_type, await request.body())
    if not name.lower().endswith(".xlsx"):
        raise errors.invalid("The file must be an xlsx spreadsheet.")
    targets = read_targets(content)
    for target in targets:
        if not _DEVICE_ID.fullmatch(target):
            raise errors.invalid(f"The file lists {target[:128]!r}, which is not a device id.")
    file = instance_of(request).run(
        "upload_file", file_name=name, targets=list(dict.fromkeys(targets))
    )
    return JsonResponse(file.describe(), 201)


@routes.get(_FILES)
async def list_batch_task_files(request: Request) -> Response:
    files = instance_of(request).present().library.uploaded()
    return JsonResponse({"files": [file.describe() for file in files]})


@routes.delete(_FILES + "/{file_id}")
async def delete_batch_task_file(request: Request, file_id: str) -> Response:
    instance_of(request).run("delete_file", file_id=file_id)
    return Response(status_code=204)
