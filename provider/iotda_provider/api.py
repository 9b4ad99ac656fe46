"""Every call of the IoTDA API, described once: a plain request, and a reader of its answer. No I/O.

Source: the IoTDA API reference (API version 5), and the request models of
``huaweicloudsdkiotda.v5``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.models import (
    BatchTask,
    Subtask,
    SubtaskStatus,
    TargetResult,
    TaskStatus,
    TaskType,
)

T = TypeVar("T")

#: Targets that one stop, retry or confirm may name.
MAX_TARGETS_PER_CALL = 100
#: Targets that one batch task may have.
MAX_TARGETS_PER_TASK = 30_000
#: Rows that one page may hold.
MAX_PAGE = 50

_BATCH_TASKS = "/v5/iot/{project_id}/batchtasks"
_TASK_ID = re.compile(r"[a-f0-9]{1,24}")
_DEVICE_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_TASK_NAME = re.compile(r"\w{1,128}")


class Repeat(Enum):
    """What asking a second time does, when the first answer was lost."""

    READ = "reads only, so it may be repeated"
    HARMLESS = "asks for a state, so a second time changes nothing"
    ONCE = "does something new each time, so it is never repeated blindly"


@dataclass(frozen=True)
class Outgoing:
    """A request ready to be signed and sent.

    ``path`` is percent-encoded as it travels, ``query`` is not encoded yet.
    """

    method: str
    host: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @cached_property
    def query_string(self) -> str:
        """The query, sorted and encoded as it is signed."""
        return "&".join(
            f"{quote(key, safe='~')}={quote(value, safe='~')}" for key, value in sorted(self.query)
        )

    @property
    def uri(self) -> str:
        """Path and query as they travel."""
        return f"{self.path}?{self.query_string}" if self.query else self.path


@dataclass(frozen=True)
class Call(Generic[T]):
    """One call of the API.

    :param action: what it does, in words that complete "Could not ..."
    :param path: its path, ``{project_id}`` left open
    :param read: makes the result from the answer's JSON (None for an empty body); a ValueError,
        KeyError, TypeError or AttributeError means that the answer makes no sense
    :param permission: the IAM action that it needs
    """

    action: str
    method: str
    path: str
    read: Callable[[Any], T]
    query: tuple[tuple[str, str], ...] = ()
    body: Any = None
    repeat: Repeat = Repeat.READ
    permission: str | None = None

    def outgoing(self, *, host: str, project_id: str, headers: Mapping[str, str]) -> Outgoing:
        """The request for one project at one host, not yet signed."""
        body = b"" if self.body is None else json.dumps(self.body, ensure_ascii=False).encode()
        path = self.path.replace("{project_id}", quote(project_id, safe="~"))
        return Outgoing(self.method, host, path, self.query, headers, body)


@dataclass(frozen=True)
class Page(Generic[T]):
    """A page of rows and the marker that leads to the next one.

    :param marker: None where the platform sent none
    :param total: how many rows the whole list has, where the platform says so
    :param full: whether the page holds as many rows as were asked for
    """

    rows: tuple[T, ...]
    marker: str | None
    total: int | None = None
    full: bool = False
    task: BatchTask | None = None


# --- what users pass in, checked before anything is sent ------------------------------------------


def check_task_id(value: object) -> str:
    """A batch task id that is safe to put into a path.

    :raises IoTDAConfigError: it is not 1 to 24 characters of a-f and 0-9
    """
    if not isinstance(value, str) or not _TASK_ID.fullmatch(value):
        raise IoTDAConfigError(
            f"batch_task_id must be 1 to 24 characters of a-f and 0-9, as the console shows it; "
            f"got {str(value)[:60]!r}. Where it comes from a template or an XCom, check that the "
            "task before has set it."
        )
    return value


def check_targets(targets: Iterable[object], name: str = "targets") -> list[str]:
    """Device ids, each once, in their first order.

    :raises IoTDAConfigError: one is not 1 to 128 letters, digits, ``_`` or ``-``
    """
    if isinstance(targets, (str, bytes, Mapping)):
        raise IoTDAConfigError(f"{name} must be a list of ids, got {str(targets)[:60]!r}.")
    seen: dict[str, None] = {}
    for position, target in enumerate(targets):
        if not isinstance(target, str) or not _DEVICE_ID.fullmatch(target):
            raise IoTDAConfigError(
                f"{name}[{position}] is not a device id (1 to 128 letters, digits, _ or -): "
                f"{str(target)[:60]!r}."
            )
        seen[target] = None
    return list(seen)


def _check_word(value: Any, kind: type[Enum], name: str) -> str:
    try:
        return str(kind(value))
    except ValueError:
        words = ", ".join(str(member) for member in kind)
        raise IoTDAConfigError(f"{name} must be one of {words}; got {str(value)[:60]!r}.") from None


# --- answers --------------------------------------------------------------------------------------


def _rows(data: Any, key: str, read: Callable[[Any], T]) -> tuple[T, ...]:
    return tuple(read(row) for row in (data.get(key) or ()))


def _results(data: Any) -> tuple[TargetResult, ...]:
    # Whether the rows come in the answer to a whole-task call is not documented.
    return _rows(data or {}, "targets", TargetResult.from_wire)


def _task(data: Any) -> BatchTask:
    return BatchTask.from_wire(data.get("batchtask") or data)


def _this_task(data: Any, task_id: str) -> BatchTask:
    task = _task(data)
    if task.task_id != task_id:
        # Whoever acts on it would act on the wrong devices.
        raise ValueError(f"it is about another task, {task.task_id}")
    return task


def _page(data: Any, rows: tuple[T, ...], limit: int, task: BatchTask | None = None) -> Page[T]:
    page = data.get("page") or {}
    marker, total = page.get("marker"), page.get("count")
    return Page(
        rows,
        marker=str(marker) if marker else None,
        total=total if isinstance(total, int) else None,
        full=len(rows) >= limit,
        task=task,
    )


def _page_query(limit: int, marker: str | None) -> tuple[tuple[str, str], ...]:
    return (("limit", str(limit)), *((("marker", marker),) if marker else ()))


# --- calls ----------------------------------------------------------------------------------------


def show_batch_task(batch_task_id: str) -> Call[BatchTask]:
    """One task with its counts, in one call whatever the fleet's size."""
    task_id = check_task_id(batch_task_id)
    return Call(
        action=f"read batch task {task_id}",
        method="GET",
        path=f"{_BATCH_TASKS}/{task_id}",
        query=(("limit", "1"),),
        read=lambda data: _this_task(data, task_id),
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
    query = list(_page_query(limit, marker))
    if status is not None:
        query.append(("task_detail_status", _check_word(status, SubtaskStatus, "status")))
    if target is not None:
        query.append(("target", check_targets([target], "target")[0]))

    def read(data: Any) -> Page[Subtask]:
        rows = _rows(data, "task_details", Subtask.from_wire)
        return _page(data, rows, limit, _this_task(data, task_id))

    return Call(
        action=f"list the subtasks of batch task {task_id}",
        method="GET",
        path=f"{_BATCH_TASKS}/{task_id}",
        query=tuple(query),
        read=read,
        permission="iotda:batchtasks:query",
    )


def list_batch_tasks(
    *,
    task_type: TaskType | str | None = None,
    status: TaskStatus | str | None = None,
    app_id: str | None = None,
    marker: str | None = None,
    limit: int = MAX_PAGE,
) -> Call[Page[BatchTask]]:
    """A page of batch tasks, newest first."""
    query = list(_page_query(limit, marker))
    if task_type is not None:
        query.append(("task_type", _check_word(task_type, TaskType, "task_type")))
    if status is not None:
        query.append(("status", _check_word(status, TaskStatus, "status")))
    if app_id is not None:
        query.append(("app_id", app_id))

    def read(data: Any) -> Page[BatchTask]:
        rows = _rows(data, "batchtasks", BatchTask.from_wire)
        return _page(data, rows, limit)

    return Call(
        action="list batch tasks",
        method="GET",
        path=_BATCH_TASKS,
        query=tuple(query),
        read=read,
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
    document_source: str | None = None,
) -> Call[BatchTask]:
    """Create a batch task; never repeated blindly, because a second call makes a second task.

    :param task_name: 1 to 128 letters, digits or ``_``
    :param task_type: such as ``firmwareUpgrade``
    :param targets: 1 to 30,000 device ids; wins over ``group_ids``, which win over
        ``document_source``
    :param group_ids: device groups whose devices are the targets
    :param document: for upgrades ``{"package_ids": [...]}``
    :param task_policy: ``schedule_time``, ``retry_count``, ``retry_interval``
    :param need_confirm: hold every target until it is confirmed
    :param app_id: resource space
    :param task_mode: ``GATEWAY`` for devices behind gateways
    :param task_ext_info: up to 512 characters that are sent to every device
    :param document_source: file with the targets, not for upgrades
    :raises IoTDAConfigError: a name, type or target is not valid, or there are no targets at all
    """
    if not isinstance(task_name, str) or not _TASK_NAME.fullmatch(task_name):
        raise IoTDAConfigError(
            f"task_name must be 1 to 128 letters, digits or _ (no hyphen, no space); got "
            f"{str(task_name)[:60]!r}."
        )
    body: dict[str, Any] = {
        "task_name": task_name,
        "task_type": _check_word(task_type, TaskType, "task_type"),
    }
    if targets is not None:
        body["targets"] = check_targets(targets)
        if not 1 <= len(body["targets"]) <= MAX_TARGETS_PER_TASK:
            raise IoTDAConfigError(
                f"A batch task takes 1 to {MAX_TARGETS_PER_TASK} targets, got "
                f"{len(body['targets'])}: split the "
                "rollout over several tasks."
            )
    if group_ids is not None:
        body["targets_filter"] = {"group_ids": check_targets(group_ids, "group_ids")}
        if not body["targets_filter"]["group_ids"]:
            raise IoTDAConfigError("group_ids is empty: the task would have no targets.")
    if targets is None and group_ids is None and document_source is None:
        raise IoTDAConfigError("A batch task needs targets, group_ids or document_source.")
    for name, value in (
        ("app_id", app_id),
        ("document", document),
        ("task_policy", task_policy),
        ("need_confirm", need_confirm),
        ("task_mode", task_mode),
        ("task_ext_info", task_ext_info),
        ("document_source", document_source),
    ):
        if value is not None:
            body[name] = value
    return Call(
        action=f"create batch task {task_name}",
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
    if targets is not None and not 1 <= len(targets) <= MAX_TARGETS_PER_CALL:
        # An empty list must not reach the platform: it might read it as "all".
        raise IoTDAConfigError(
            f"One {verb} takes 1 to {MAX_TARGETS_PER_CALL} targets, got {len(targets)}."
        )
    return Call(
        action=f"{verb} batch task {task_id}",
        method="POST",
        path=f"{_BATCH_TASKS}/{task_id}/{verb}",
        body={} if targets is None else {"targets": check_targets(targets)},
        read=_results,
        repeat=repeat,
        permission=f"iotda:batchtasks:{verb}",
    )


def stop_batch_task(
    batch_task_id: str, targets: Sequence[str] | None
) -> Call[tuple[TargetResult, ...]]:
    """Stop the whole task (``targets`` None) or 1 to 100 of its targets."""
    return _act_on_targets("stop", batch_task_id, targets, Repeat.HARMLESS)


def confirm_batch_task(
    batch_task_id: str, targets: Sequence[str] | None
) -> Call[tuple[TargetResult, ...]]:
    """Let all waiting targets (``targets`` None) or 1 to 100 of them start."""
    return _act_on_targets("confirm", batch_task_id, targets, Repeat.HARMLESS)


def retry_batch_task(
    batch_task_id: str, targets: Sequence[str] | None
) -> Call[tuple[TargetResult, ...]]:
    """Start all failed and stopped targets (``targets`` None) or 1 to 100 of them again."""
    return _act_on_targets("retry", batch_task_id, targets, Repeat.ONCE)


def delete_batch_task(batch_task_id: str) -> Call[None]:
    """Remove a task that has ended."""
    task_id = check_task_id(batch_task_id)
    return Call(
        action=f"delete batch task {task_id}",
        method="DELETE",
        path=f"{_BATCH_TASKS}/{task_id}",
        read=lambda data: None,
        repeat=Repeat.ONCE,
        permission="iotda:batchtasks:delete",
    )


def any_call(
    method: str,
    endpoint: object,
    *,
    query: Mapping[str, Any] | None = None,
    body: Any = None,
) -> Call[Any]:
    """A call to any other path of IoTDA; its result is the answer's JSON.

    :param endpoint: a path below the connection's host, ``{project_id}`` filled in; without a
        leading
        ``/v5`` it is taken below ``/v5/iot/{project_id}/``
    :raises IoTDAConfigError: the endpoint could lead to another host or out of its place
    """
    method = str(method).upper()
    if method not in ("GET", "POST", "PUT", "DELETE", "PATCH"):
        raise IoTDAConfigError(
            f"method must be GET, POST, PUT, PATCH or DELETE; got {method[:20]!r}."
        )
    path = endpoint if isinstance(endpoint, str) else ""
    segments = path.replace("{project_id}", "-").lstrip("/").split("/")
    if (
        not path.strip("/")
        or path.startswith("//")
        or not all(
            re.fullmatch(r"[\w.~:@,+=-]+", part, re.ASCII) and set(part) != {"."}
            for part in segments
        )
    ):
        raise IoTDAConfigError(
            "endpoint must be a plain path such as /v5/iot/{project_id}/devices, without a host, a "
            "query "
            f"(pass it as query), empty parts or '..'; got {str(endpoint)[:80]!r}."
        )
    path = "/" + path.lstrip("/")
    if not path.startswith("/v5/"):
        path = f"/v5/iot/{{project_id}}{path}"
    pairs: list[tuple[str, str]] = []
    for key, value in (query or {}).items():
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if item is not None:
                pairs.append((str(key), str(item).lower() if isinstance(item, bool) else str(item)))
    return Call(
        action=f"{method} {path}",
        method=method,
        path=path,
        query=tuple(pairs),
        body=body,
        read=lambda data: data,
        repeat=Repeat.READ if method == "GET" else Repeat.ONCE,
    )
