"""The calls on batch tasks.

Source: "Batch Task" of the IoTDA API reference, and the request models of
``huaweicloudsdkiotda.v5``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
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
from iotda_provider.api.creation import (
    check_document,
    check_ext_info,
    check_policy,
    check_task_mode,
)
from iotda_provider.api.identifiers import (
    check_group_ids,
    check_id,
    check_targets,
    check_task_id,
    check_task_name,
    check_word,
    optional,
)
from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.models import (
    BatchTask,
    Subtask,
    SubtaskStatus,
    TargetResult,
    TaskStatus,
    TaskType,
)
from iotda_provider.models.text import what_is

#: The most targets that one stop, retry or confirm may name.
MAX_TARGETS_PER_CALL = 100
#: The most targets that one batch task may have.
MAX_TARGETS_PER_TASK = 30_000

_BATCH_TASKS = "/v5/iot/{project_id}/batchtasks"


def _results(data: Any, most: int) -> tuple[TargetResult, ...]:
    # The answer to a call for the whole task need not have rows: the API reference does not say.
    return rows_of({} if data is None else data, "targets", TargetResult.from_wire, most)


def _task(data: Any, task_id: str | None = None) -> BatchTask:
    task = BatchTask.from_wire(data.get("batchtask") or data)
    if task_id is not None and task.task_id != task_id:
        # A caller that acts on this answer would act on the wrong devices.
        raise ValueError(f"it is about another task, {task.task_id}")
    return task


def show_batch_task(batch_task_id: str) -> Call[BatchTask]:
    """One task with its counts: one call, however many targets it has."""
    task_id = check_task_id(batch_task_id)
    return Call(
        action=f"read batch task {task_id}",
        path=f"{_BATCH_TASKS}/{task_id}",
        query=(("limit", "1"),),
        read=lambda data: _task(data, task_id),
        permission="iotda:batchtasks:query",
    )


def list_subtasks(
    batch_task_id: str,
    *,
    status: SubtaskStatus | str | None = None,
    target: str | None = None,
    marker: str | None = None,
    limit: int = MAX_PAGE,
) -> Call[Page[Subtask]]:
    """A page of one task's subtasks, newest first."""
    task_id = check_task_id(batch_task_id)
    query = page_query(
        limit,
        marker,
        task_detail_status=optional(check_word, status, SubtaskStatus, "status"),
        target=None if target is None else check_targets([target], "target")[0],
    )
    return Call(
        action=f"list the subtasks of batch task {task_id}",
        path=f"{_BATCH_TASKS}/{task_id}",
        query=query,
        read=lambda data: page_of(
            data, "task_details", Subtask.from_wire, limit, marker, _task(data, task_id)
        ),
        permission="iotda:batchtasks:query",
    )


def list_batch_tasks(
    *,
    task_type: TaskType | str,
    status: TaskStatus | str | None = None,
    app_id: str | None = None,
    marker: str | None = None,
    limit: int = MAX_PAGE,
) -> Call[Page[BatchTask]]:
    """A page of batch tasks, newest first. The platform lists one type at a time."""
    query = page_query(
        limit,
        marker,
        task_type=check_word(task_type, TaskType, "task_type"),
        status=optional(check_word, status, TaskStatus, "status"),
        app_id=optional(check_id, app_id, "app_id"),
    )
    return Call(
        action="list batch tasks",
        path=_BATCH_TASKS,
        query=query,
        read=lambda data: page_of(data, "batchtasks", BatchTask.from_wire, limit, marker),
        permission="iotda:batchtasks:queryList",
    )


def create_batch_task(
    *,
    task_name: object,
    task_type: TaskType | str,
    targets: Sequence[str] | None = None,
    group_ids: Sequence[str] | None = None,
    document: Mapping[str, Any] | None = None,
    task_policy: Mapping[str, Any] | None = None,
    need_confirm: bool | None = None,
    app_id: str | None = None,
    task_mode: str | None = None,
    task_ext_info: Mapping[str, Any] | None = None,
) -> Call[BatchTask]:
    """Create a batch task. Never repeated blindly: a second call creates a second task.

    :param task_name: 1 to 128 letters (a-z, A-Z, Chinese), digits or ``_``
    :param task_type: such as ``firmwareUpgrade``
    :param targets: 1 to 30,000 device ids; if given, the platform ignores ``group_ids``
    :param group_ids: ids of the device groups (a-f, 0-9 and ``-``) whose devices are the targets
    :param document: for upgrades ``{"package_ids": [...]}``
    :param task_policy: ``schedule_time`` (``yyyyMMdd'T'HHmmss'Z'``, at most 7 days ahead),
        ``retry_count`` (1 to 5) with ``retry_interval`` (0 to 1440 minutes)
    :param need_confirm: hold every target until it is confirmed
    :param app_id: resource space
    :param task_mode: ``GATEWAY`` for devices behind gateways
    :param task_ext_info: an object of up to 512 characters that is sent to every device
    :raises IoTDAConfigError: the platform would refuse a parameter, or there are no targets
    """
    name, kind = check_task_name(task_name), check_word(task_type, TaskType, "task_type")
    body: dict[str, Any] = {"task_name": name, "task_type": kind}
    if targets is not None:
        body["targets"] = check_targets(targets)
        if not 1 <= len(body["targets"]) <= MAX_TARGETS_PER_TASK:
            raise IoTDAConfigError(
                f"A batch task takes 1 to {MAX_TARGETS_PER_TASK} targets, got "
                f"{len(body['targets'])}: split the rollout over several tasks."
            )
    if group_ids is not None:
        body["targets_filter"] = {"group_ids": check_group_ids(group_ids)}
        if not body["targets_filter"]["group_ids"]:
            raise IoTDAConfigError("group_ids is empty: the task would have no targets.")
    if targets is None and group_ids is None:
        raise IoTDAConfigError("A batch task needs targets or group_ids.")
    if need_confirm is not None and not isinstance(need_confirm, bool):
        # The platform might read the text "true" as False, and start every target at once.
        raise IoTDAConfigError(
            "need_confirm must be True, False or None; got "
            f"{what_is(need_confirm, instead_of='True or False')}."
        )
    checked: dict[str, Any] = {
        "app_id": optional(check_id, app_id, "app_id"),
        "document": optional(check_document, document, kind),
        "task_policy": optional(check_policy, task_policy),
        "need_confirm": need_confirm,
        "task_mode": optional(check_task_mode, task_mode),
        "task_ext_info": optional(check_ext_info, task_ext_info),
    }
    body |= {name: value for name, value in checked.items() if value is not None}
    return Call(
        action=f"create batch task {name}",
        method="POST",
        path=_BATCH_TASKS,
        body=body,
        read=_task,
        repeat=Repeat.ONCE,
        permission="iotda:batchtasks:create",
    )


def _act_on_targets(
    verb: str, batch_task_id: str, targets: Sequence[str] | None, repeat: Repeat
) -> Call[Any]:
    task_id = check_task_id(batch_task_id)
    some = None if targets is None else check_targets(targets)
    if some is not None and not 1 <= len(some) <= MAX_TARGETS_PER_CALL:
        # An empty list must not reach the platform, which might read it as "all targets".
        raise IoTDAConfigError(
            f"One {verb} takes 1 to {MAX_TARGETS_PER_CALL} targets, got {len(some)}."
        )
    most = MAX_TARGETS_PER_TASK if some is None else len(some)
    return Call(
        action=f"{verb} batch task {task_id}",
        method="POST",
        path=f"{_BATCH_TASKS}/{task_id}/{verb}",
        body={} if some is None else {"targets": some},
        read=lambda data: _results(data, most),
        repeat=repeat,
        permission=f"iotda:batchtasks:{verb}",
    )


def stop_batch_task(
    batch_task_id: str, targets: Sequence[str] | None
) -> Call[tuple[TargetResult, ...]]:
    """Stop the whole task (``targets`` None) or 1 to 100 of its targets."""
    call = _act_on_targets("stop", batch_task_id, targets, Repeat.HARMLESS)
    return replace(call, goes_first=targets is None)


def confirm_batch_task(
    batch_task_id: str, targets: Sequence[str] | None
) -> Call[tuple[TargetResult, ...]]:
    """Let all waiting targets (``targets`` None) or 1 to 100 of them start the upgrade."""
    return _act_on_targets("confirm", batch_task_id, targets, Repeat.HARMLESS)


def retry_batch_task(
    batch_task_id: str, targets: Sequence[str] | None
) -> Call[tuple[TargetResult, ...]]:
    """Start all failed and stopped targets (``targets`` None) or 1 to 100 of them again."""
    return _act_on_targets("retry", batch_task_id, targets, Repeat.ONCE)


def delete_batch_task(batch_task_id: str) -> Call[None]:
    """Delete a task that has ended."""
    task_id = check_task_id(batch_task_id)
    return Call(
        action=f"delete batch task {task_id}",
        method="DELETE",
        path=f"{_BATCH_TASKS}/{task_id}",
        read=nothing,
        repeat=Repeat.ONCE,
        permission="iotda:batchtasks:delete",
    )
