"""Reads the body of a call that creates a batch task: every field, limit and precedence."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from iotda_provider.emulator import errors
from iotda_provider.emulator.clock import parse_basic
from iotda_provider.emulator.errors import ApiError
from iotda_provider.models import TaskType

MAX_TARGETS = 30_000
MAX_RETRY_COUNT = 5
MAX_RETRY_INTERVAL = 1440
MAX_SCHEDULE_SECONDS = 7 * 24 * 3600
MAX_EXT_INFO = 512

_NAME = re.compile(r"[A-Za-z0-9_\u4e00-\u9fff]{1,128}")
_APP_ID = re.compile(r"[A-Za-z0-9_-]{1,36}")
_DEVICE_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_PACKAGE_ID = re.compile(r"[A-Za-z0-9-]{1,36}")
_GROUP_ID = re.compile(r"[0-9a-fA-F-]{1,36}")

_BY_FILE = frozenset(
    {
        TaskType.CREATE_DEVICES,
        TaskType.UPDATE_DEVICES,
        TaskType.DELETE_DEVICES,
        TaskType.FREEZE_DEVICES,
        TaskType.UNFREEZE_DEVICES,
    }
)
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
class Wish:
    """A batch task that somebody may have: the body, read and checked.

    At most one of ``targets``, ``group_ids`` and ``file_id`` is set. ``fields`` is what the task
    will say of itself; ``start_at`` is in seconds since 1970, None for at once.
    """

    task_type: TaskType
    app_id: str | None
    need_confirm: bool
    targets: tuple[str, ...] | None
    group_ids: tuple[str, ...] | None
    file_id: str | None
    package_ids: tuple[str, ...]
    start_at: float | None
    retry_count: int
    retry_interval: int
    fields: Mapping[str, Any] = field(default_factory=dict)


def read_wish(body: object, now: float, *, targets_known: bool = False) -> Wish:
    """Check the body of a create call.

    :param now: virtual time in seconds since 1970, against which ``schedule_time`` is judged
    :param targets_known: the caller knows the targets and the body need not name them
    :raises ApiError: what is wrong with it
    """
    if not isinstance(body, Mapping):
        raise errors.bad_format("The body must be a JSON object.")
    name = body.get("task_name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise errors.invalid(
            "task_name must be 1 to 128 Chinese characters, letters, digits or underscores."
        )
    try:
        task_type = TaskType(body.get("task_type"))
    except ValueError:
        raise errors.invalid("task_type is not a known type.") from None
    upgrade = task_type.is_confirmable
    fields: dict[str, Any] = {"task_name": name, "task_type": str(task_type)}
    if task_type.is_stoppable:
        fields.update(_upgrade_options(body))
    need_confirm = body.get("need_confirm")
    if need_confirm is not None and not isinstance(need_confirm, bool):
        raise errors.invalid("need_confirm must be true or false.")
    if upgrade and need_confirm is not None:
        fields["need_confirm"] = need_confirm
    targets, group_ids, file_id = (None, None, None) if targets_known else _targets(body, task_type)
    if targets is not None:
        fields["targets"] = list(targets)
    elif group_ids is not None:
        fields["targets_filter"] = dict(body["targets_filter"])
    package_ids: tuple[str, ...] = ()
    if upgrade:
        package_ids = _package_ids(body.get("document"))
        fields["document"] = body["document"]
    elif task_type in _WITH_DOCUMENT:
        document = body.get("document")
        if not isinstance(document, Mapping) or not document:
            raise errors.invalid(f"document is required for {task_type}.")
        fields["document"] = dict(document)
    start_at, retry_count, retry_interval = _policy(body.get("task_policy"), now)
    if body.get("task_policy"):
        fields["task_policy"] = dict(body["task_policy"])
    return Wish(
        task_type=task_type,
        app_id=_app_id(body.get("app_id")),
        need_confirm=bool(need_confirm) and upgrade,
        targets=targets,
        group_ids=group_ids,
        file_id=file_id,
        package_ids=package_ids,
        start_at=start_at,
        retry_count=retry_count,
        retry_interval=retry_interval,
        fields=fields,
    )


def _app_id(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not _APP_ID.fullmatch(value):
        raise errors.invalid("app_id must be 1 to 36 letters, digits, underscores or hyphens.")
    return value


def _upgrade_options(body: Mapping[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    mode = body.get("task_mode")
    if mode is not None:
        if mode != "GATEWAY":
            raise errors.invalid("task_mode must be GATEWAY.")
        options["task_mode"] = mode
    extra = body.get("task_ext_info")
    if extra is not None:
        text = extra if isinstance(extra, str) else json.dumps(extra, separators=(",", ":"))
        if len(text) > MAX_EXT_INFO:
            raise errors.invalid(f"task_ext_info must not exceed {MAX_EXT_INFO} characters.")
        options["task_ext_info"] = extra
    return options


def _targets(
    body: Mapping[str, Any], task_type: TaskType
) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None, str | None]:
    """The one way of naming targets that counts: targets, then the filter, then a file."""
    targets = body.get("targets")
    if targets is not None:
        ids = device_ids(targets, MAX_TARGETS)
        if ids and task_type not in _BY_FILE_ONLY:
            return ids, None, None
    targets_filter = body.get("targets_filter")
    if targets_filter is not None:
        if not isinstance(targets_filter, Mapping):
            raise errors.invalid("targets_filter must be an object.")
        group_ids = targets_filter.get("group_ids")
        if (
            not isinstance(group_ids, list)
            or not group_ids
            or not all(isinstance(g, str) and _GROUP_ID.fullmatch(g) for g in group_ids)
        ):
            raise errors.invalid("targets_filter must have group_ids, a list of group ids.")
        if task_type not in _BY_FILE_ONLY:
            return None, tuple(group_ids), None
    file_id = body.get("document_source")
    if file_id is not None:
        if not isinstance(file_id, str):
            raise errors.invalid("document_source must be a file id.")
        if task_type in _BY_FILE:
            return None, None, file_id
        raise errors.invalid(f"document_source is not supported for {task_type}.")
    if task_type in _BY_FILE_ONLY:
        raise errors.invalid(f"document_source is required for {task_type}.")
    raise errors.invalid("targets, targets_filter or document_source is required.")


def device_ids(value: object, most: int) -> tuple[str, ...]:
    """A list of device ids, each once, in their order.

    :raises ApiError: it is something else or too long
    """
    if not isinstance(value, list):
        raise errors.invalid("targets must be a list of device ids.")
    if len(value) > most:
        raise errors.invalid(f"targets must not hold more than {most} device ids.")
    matches = _DEVICE_ID.fullmatch
    for item in value:
        if not isinstance(item, str) or not matches(item):
            raise errors.invalid(
                "targets must be device ids: 1 to 128 letters, digits, underscores or hyphens."
            )
    return tuple(dict.fromkeys(value))


def _package_ids(document: object) -> tuple[str, ...]:
    ids = document.get("package_ids") if isinstance(document, Mapping) else None
    if (
        not isinstance(ids, list)
        or not ids
        or not all(isinstance(i, str) and _PACKAGE_ID.fullmatch(i) for i in ids)
    ):
        raise errors.invalid("document must have package_ids, a list of package ids.")
    return tuple(ids)


def _policy(policy: object, now: float) -> tuple[float | None, int, int]:
    if policy is None:
        return None, 0, 0
    if not isinstance(policy, Mapping):
        raise errors.invalid("task_policy must be an object.")
    start_at = None
    schedule = policy.get("schedule_time")
    if schedule is not None:
        start_at = _schedule(schedule, now)
    count, interval = policy.get("retry_count"), policy.get("retry_interval")
    if (count is None) != (interval is None):
        raise errors.invalid("retry_count and retry_interval require one another.")
    if count is None:
        return start_at, 0, 0
    return (
        start_at,
        _whole(count, "retry_count", MAX_RETRY_COUNT),
        _whole(interval, "retry_interval", MAX_RETRY_INTERVAL),
    )


def _schedule(value: object, now: float) -> float:
    try:
        start_at = parse_basic(str(value))
    except ValueError:
        raise ApiError(400, "IOTDA.000009", "Invalid input. Invalid time format.") from None
    if start_at > now + MAX_SCHEDULE_SECONDS:
        raise errors.invalid("schedule_time must be within 7 days.")
    return start_at


def _whole(value: object, name: str, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise errors.invalid(f"{name} must be a whole number from 0 to {most}.")
    return value
