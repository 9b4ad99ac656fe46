"""The batch-task calls over HTTP."""

from __future__ import annotations

import re
from typing import Any

from fastapi import APIRouter, Request, Response

from iotda_provider.emulator import errors
from iotda_provider.emulator.gateway import (
    PREFIX,
    GatewayRoute,
    JsonResponse,
    instance_of,
    read_json,
)
from iotda_provider.emulator.paging import Page, described
from iotda_provider.emulator.routes.devices import checked_device
from iotda_provider.models import SubtaskStatus, TaskStatus, TaskType

_APP_ID = re.compile(r"[A-Za-z0-9_-]{1,36}")
_TASK_ID = re.compile(r"[a-f0-9]{1,24}")
_TASKS = PREFIX + "/batchtasks"
_TASK = _TASKS + "/{task_id}"


routes = APIRouter(route_class=GatewayRoute)


@routes.post(_TASKS)
async def create_batch_task(request: Request) -> Response:
    instance = instance_of(request)
    body = await read_json(request)
    task = instance.run("create_task", body=body)
    return JsonResponse(instance.world.describe(task), 201)


@routes.get(_TASKS)
async def list_batch_tasks(request: Request) -> Response:
    instance = instance_of(request)
    query = request.query_params
    page = Page.read(query)
    task_type, status = query.get("task_type"), query.get("status")
    if task_type is None and instance.scenario.switches.list_requires_type:
        raise errors.invalid("task_type is required.")
    _check_word(TaskType, task_type, "task_type")
    _check_word(TaskStatus, status, "status")
    app_id = query.get("app_id")
    if app_id is not None and not _APP_ID.fullmatch(app_id):
        raise errors.invalid("app_id must be 1 to 36 letters, digits, underscores or hyphens.")
    world = instance.present()
    count, tasks = world.tasks(page, app_id, task_type, status)
    return JsonResponse(
        {
            "batchtasks": [world.describe(task) for task in tasks],
            "page": described(count, tasks, lambda task: task.task_id),
        }
    )


@routes.get(_TASK)
async def show_batch_task(request: Request, task_id: str) -> Response:
    query = request.query_params
    page = Page.read(query)
    status = _check_word(SubtaskStatus, query.get("task_detail_status"), "task_detail_status")
    world = instance_of(request).present()
    task = world.task(_checked(task_id))
    target = query.get("target")
    if target is not None:
        checked_device(target)
    count, rows = world.rows(task, page, status, target)
    return JsonResponse(
        {
            "batchtask": world.describe(task),
            "task_details": [world.describe_row(task, row) for row in rows],
            "page": world.page_of_rows(task, count, rows),
        }
    )


@routes.delete(_TASK)
async def delete_batch_task(request: Request, task_id: str) -> Response:
    instance_of(request).run("delete_task", task_id=_checked(task_id))
    return Response(status_code=204)


@routes.post(_TASK + "/stop")
async def stop_batch_task(request: Request, task_id: str) -> Response:
    return await _act("stop", request, task_id)


@routes.post(_TASK + "/retry")
async def retry_batch_task(request: Request, task_id: str) -> Response:
    return await _act("retry", request, task_id)


@routes.post(_TASK + "/confirm")
async def confirm_batch_task(request: Request, task_id: str) -> Response:
    return await _act("confirm", request, task_id)


async def _act(command: str, request: Request, task_id: str) -> Response:
    body = await read_json(request)
    if not isinstance(body, dict):
        raise errors.bad_format("The body must be a JSON object.")
    results = instance_of(request).run(
        command, task_id=_checked(task_id), targets=body.get("targets")
    )
    return JsonResponse({} if results is None else {"targets": results})


def _checked(task_id: str) -> str:
    if not _TASK_ID.fullmatch(task_id):
        raise errors.invalid("task_id must be at most 24 characters of a-f and 0-9.")
    return task_id


def _check_word(words: Any, value: str | None, name: str) -> Any:
    if value is None:
        return None
    try:
        return words(value)
    except ValueError:
        raise errors.invalid(f"{name} is not a known value.") from None
