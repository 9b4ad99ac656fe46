"""Checks the body of a create call and turns it into a task request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from iotda_provider.emulator.common import errors
from iotda_provider.emulator.service.request_models import CreateBatchTask
from iotda_provider.models import TaskType

MAX_SCHEDULE_SECONDS = 7 * 24 * 3600

# Their targets are in files, which are not emulated.
_BY_FILE_ONLY = frozenset({TaskType.CREATE_DEVICES, TaskType.UPDATE_DEVICES})
_WITH_DOCUMENT = frozenset(
    {
        TaskType.CREATE_COMMANDS,
        TaskType.CREATE_ASYNC_COMMANDS,
        TaskType.CREATE_MESSAGES,
        TaskType.UPDATE_DEVICE_SHADOWS,
    }
)


@dataclass(frozen=True)
class TaskRequest:
    """The checked body of a create call.

    At most one of ``targets`` and ``group_ids`` is set. ``fields`` is what answers show of
    the task; ``start_at`` is in seconds since 1970, None for at once.
    """

    task_type: TaskType
    app_id: str | None
    need_confirm: bool
    targets: tuple[str, ...] | None
    group_ids: tuple[str, ...] | None
    package_ids: tuple[str, ...]
    start_at: float | None
    retry_count: int
    retry_interval: int
    fields: Mapping[str, Any] = field(default_factory=dict)


def read_task_request(body: object, now: float, *, targets_known: bool = False) -> TaskRequest:
    """Check the body of a create call.

    :param now: virtual time in seconds since 1970, against which ``schedule_time`` is judged
    :param targets_known: the caller knows the targets and the body need not name them
    :raises ApiError: what is wrong with it
    """
    asked = CreateBatchTask.read(body)
    kind = asked.task_type
    start_at = None if asked.task_policy is None else asked.task_policy.schedule_time
    if start_at is not None and start_at > now + MAX_SCHEDULE_SECONDS:
        raise errors.invalid("task_policy.schedule_time must be within 7 days.")
    targets, group_ids = (None, None) if targets_known else _targets(asked)
    upgrade = kind.is_confirmable
    document = asked.document or {}
    shown: dict[str, Any] = {
        "task_name": asked.task_name,
        "task_type": str(kind),
        "task_mode": asked.task_mode if kind.is_stoppable else None,
        "task_ext_info": asked.task_ext_info if kind.is_stoppable else None,
        "need_confirm": asked.need_confirm if upgrade else None,
        "targets": None if targets is None else list(targets),
        "targets_filter": None if group_ids is None else {"group_ids": list(group_ids)},
        "document": document if upgrade or kind in _WITH_DOCUMENT else None,
        # The original, because the model has converted its time.
        "task_policy": (isinstance(body, Mapping) and body.get("task_policy")) or None,
    }
    policy = asked.task_policy
    return TaskRequest(
        task_type=kind,
        app_id=asked.app_id,
        need_confirm=bool(asked.need_confirm) and upgrade,
        targets=targets,
        group_ids=group_ids,
        package_ids=tuple(document["package_ids"]) if upgrade else (),
        start_at=start_at,
        retry_count=(policy and policy.retry_count) or 0,
        retry_interval=(policy and policy.retry_interval) or 0,
        fields={name: value for name, value in shown.items() if value is not None},
    )


def _targets(
    asked: CreateBatchTask,
) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """The targets as they count: ``targets``, or else the filter."""
    if asked.task_type in _BY_FILE_ONLY:
        raise errors.invalid(
            f"document_source is required for {asked.task_type}, and files are not emulated."
        )
    if asked.targets:
        return tuple(dict.fromkeys(asked.targets)), None
    if asked.targets_filter is not None:
        return None, tuple(asked.targets_filter.group_ids)
    raise errors.invalid("targets or targets_filter is required.")
