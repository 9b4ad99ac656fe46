"""The batch-task calls over HTTP."""

from __future__ import annotations

from fastapi import Request, Response

from iotda_provider.emulator.common import errors
from iotda_provider.emulator.common.paging import described
from iotda_provider.emulator.service.request_models import (
    BatchTargets,
    ListBatchTasks,
    ShowBatchTask,
)
from iotda_provider.emulator.web.gateway import JsonResponse, instance_of, read_json, router

routes = router("/batchtasks")


@routes.post("")
async def create_batch_task(request: Request) -> Response:
    instance = instance_of(request)
    body = await read_json(request)
    task = instance.run("create_task", body=body)
    return JsonResponse(instance.world.describe(task), 201)


@routes.get("")
async def list_batch_tasks(request: Request) -> Response:
    instance = instance_of(request)
    query = ListBatchTasks.read(request.query_params)
    if query.task_type is None and instance.scenario.switches.list_requires_type:
        raise errors.invalid("task_type is required.")
    world = instance.present()
    count, tasks = world.tasks(query.page, query.app_id, query.task_type, query.status)
    return JsonResponse(
        {
            "batchtasks": [world.describe(task) for task in tasks],
            "page": described(count, tasks, lambda task: task.task_id),
        }
    )


@routes.get("/{task_id}")
async def show_batch_task(request: Request, task_id: str) -> Response:
    query = ShowBatchTask.read(request.query_params)
    world = instance_of(request).present()
    task = world.task(task_id)
    count, rows = world.rows(task, query.page, query.task_detail_status, query.target)
    return JsonResponse(
        {
            "batchtask": world.describe(task),
            "task_details": [world.describe_row(task, row) for row in rows],
            "page": world.page_of_rows(task, count, rows),
        }
    )


@routes.delete("/{task_id}")
async def delete_batch_task(request: Request, task_id: str) -> Response:
    instance_of(request).run("delete_task", task_id=task_id)
    return Response(status_code=204)


@routes.post("/{task_id}/stop")
async def stop_batch_task(request: Request, task_id: str) -> Response:
    return await _act("stop", request, task_id)


@routes.post("/{task_id}/retry")
async def retry_batch_task(request: Request, task_id: str) -> Response:
    return await _act("retry", request, task_id)


@routes.post("/{task_id}/confirm")
async def confirm_batch_task(request: Request, task_id: str) -> Response:
    return await _act("confirm", request, task_id)


async def _act(command: str, request: Request, task_id: str) -> Response:
    # A call without a body is for all targets, as with {}.
    asked = BatchTargets.read(await read_json(request, without_body={}))
    results = instance_of(request).run(command, task_id=task_id, targets=asked.targets)
    return JsonResponse({} if results is None else {"targets": results})
