"""Creating a batch task once, whatever gets lost and whoever else tries: by a name of its own."""

from __future__ import annotations

import hashlib
import re
from base64 import b32encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from iotda_provider import api
from iotda_provider.api import pagination
from iotda_provider.exceptions import (
    BatchTaskDiffersError,
    IoTDAError,
    IoTDAServerError,
    IoTDATransportError,
)
from iotda_provider.models import BatchTask, TaskStatus, TaskType
from iotda_provider.procedures import CallsIO
from iotda_provider.procedures.batch_tasks import stop_whole_tasks

# A task of the same moment is among the newest.
_PAGES_OF_THE_NEWEST = 2
# Seconds between looks at a batch task whose targets are still being made.
_MAKING = (0.5, 1.0, 2.0, 4.0)
_LONGEST_DIFFERENCE = 300
# What is compared, where it is not asked for.
_NOTHING = dict.fromkeys(
    ("document", "task_policy", "need_confirm", "group_ids", "task_mode", "task_ext_info")
)
_LONGEST_NAME = 128


# --- names ----------------------------------------------------------------------------------------

_STAMP = re.compile(r"_af(r?)([A-Z2-7]{26})\Z")


def stamp_of(
    installation: str, dag_id: str, run_id: str, task_id: str, map_index: int, part: int = 0
) -> str:
    """What marks a batch task as made by one task instance: the same at every try of it.

    :param installation: the Airflow installation, as two of them may have the same ids
    :param part: which of the batch tasks that the task instance makes
    """
    identity = "\0".join((installation, dag_id, run_id, task_id, str(map_index), str(part)))
    return b32encode(hashlib.sha256(identity.encode()).digest()).decode()[:26]


def stamped_name(task_name: str, stamp: str, *, of_release: bool = False) -> str:
    """The name at the platform: the user's, cut where it is too long, then the stamp."""
    suffix = f"_af{'r' if of_release else ''}{stamp}"
    return task_name[: _LONGEST_NAME - len(suffix)] + suffix


def created_by(task_name: str) -> str:
    """The stamp of the task instance that has created a batch task; empty: it was none."""
    match = _STAMP.search(task_name)
    return match[2] if match else ""


def is_of_release(task_name: str) -> bool:
    """Whether a batch task is a release's own, which the release guards."""
    match = _STAMP.search(task_name)
    return bool(match and match[1])


# --- creating -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Surplus:
    """A second task of the same name, which should not be.

    :param error: why it could not be stopped
    """

    batch_task_id: str
    error: str | None = None


@dataclass(frozen=True)
class Created:
    """The one task of a name.

    :param created: whether it was not there before
    :param surplus: what else was found by that name, and has been stopped where that went
    """

    task: BatchTask
    created: bool
    surplus: tuple[Surplus, ...] = ()


async def create_batch_task_once(
    io: CallsIO, *, not_before: str | None = None, **task: Any
) -> Created:
    """Create a batch task, unless there is one by its name, which must belong to one purpose only.

    It is looked for before it is created, and where the answer got lost, before it is created
    again. It is looked for once more afterwards, because somebody else may have done the same at
    the same time: the oldest is kept then, for both, and any other is stopped.

    A name alone is no identity: what is found is compared with what is asked for, its type,
    document, policy and targets. Where it differs nothing is created, kept or stopped.

    :param not_before: no task of this name can be older (in the platform's spelling of a time); the
        search ends there
    :param task: what ``create_batch_task`` takes
    :raises BatchTaskDiffersError: a task of this name is for something else
    """
    creation = api.create_batch_task(**task)  # refuses bad input before anything is sent
    found = await _find(io, task, not_before=not_before)
    if found:
        return await _keep_the_oldest(io, found, task, created=False)
    made: BatchTask | None = None
    for attempts_left in (1, 0):
        try:
            made = await io.perform(creation)
            break
        except (IoTDATransportError, IoTDAServerError):
            found = await _find(io, task, pages=_PAGES_OF_THE_NEWEST)
            if found:
                break
            if not attempts_left:
                raise
    try:
        found = await _find(io, task, pages=_PAGES_OF_THE_NEWEST)
    except IoTDAError:
        # One look was promised more than is needed: what was created must not be lost by it.
        if made is None and not found:
            raise
    others = [one for one in found if made is None or one.task_id != made.task_id]
    return await _keep_the_oldest(io, others, task, created=True, made=made)


async def _find(
    io: CallsIO, task: dict[str, Any], *, not_before: str | None = None, pages: int | None = None
) -> list[BatchTask]:
    """All tasks of that name, or of its stamp, whatever their type.

    :param pages: how many of the newest to look at, of the wanted type alone
    """
    kind = TaskType(task["task_type"])
    kinds = [each for each in TaskType if each.is_confirmable == kind.is_confirmable]
    found: dict[str, BatchTask] = {}
    for each in kinds if pages is None else [kind]:
        rows = pagination.list_batch_tasks(task_type=each, app_id=task.get("app_id"))
        left = pages
        while rows.next is not None:
            page = rows.take(await io.perform(rows.next))
            found |= {one.task_id: one for one in page if _is_ours(one, task["task_name"])}
            if left is not None and (left := left - 1) == 0:
                break
            last = page[-1].create_time if page else None
            if not_before and last and last < not_before:
                break
    return list(found.values())


def _is_ours(found: BatchTask, name: str) -> bool:
    stamp = created_by(name)
    return found.task_name == name or (stamp != "" and created_by(found.task_name) == stamp)


async def _keep_the_oldest(
    io: CallsIO,
    found: Sequence[BatchTask],
    wanted: Mapping[str, Any],
    *,
    created: bool,
    made: BatchTask | None = None,
) -> Created:
    """
    :param found: tasks of the wanted name, which are compared first
    :param made: the one that was made here, for sure
    :raises BatchTaskDiffersError: one that was found is for something else
    """
    for one in found:
        different = await _compare(io, one, wanted)
        if different:
            ours = f" Batch task {made.task_id} was created beside it." if made else ""
            raise BatchTaskDiffersError(
                f"Batch task {one.task_id} ({one.task_name}) bears the stamp that only this task "
                f"instance gives, and is for something else: {'; '.join(different)}. It stays as "
                f"it is ({one.status}).{ours} Start a new DAG run for what this one asks for now."
            )
    every = [*found, *((made,) if made else ())]
    oldest, *others = sorted(every, key=lambda one: (one.create_time or "", one.task_id))
    came = await stop_whole_tasks(
        io, [other.task_id for other in others if not other.status.is_terminal]
    )
    surplus = [
        Surplus(other.task_id, None if (error := came.get(other.task_id)) is None else str(error))
        for other in others
    ]
    return Created(oldest, created, tuple(surplus))


# --- what a batch task is for ---------------------------------------------------------------------


def differences(task: BatchTask, wanted: Mapping[str, Any]) -> list[str]:
    """In what a batch task, as the platform describes it, differs from what is wanted, in words.

    Its targets are not compared here: the description need not name them all.

    :param wanted: what ``create_batch_task`` takes, or a part of it, which is all that is compared
    """
    raw, found = task.raw, []
    readings: dict[str, Any] = {
        "task_name": lambda: task.task_name,
        "task_type": lambda: str(task.task_type),
        "document": lambda: _in_any_order(raw.get("document")),
        "task_policy": lambda: _policy(raw.get("task_policy")),
        "need_confirm": lambda: bool(raw.get("need_confirm")),
        "group_ids": lambda: sorted((raw.get("targets_filter") or {}).get("group_ids") or ()),
        "task_mode": lambda: raw.get("task_mode") or None,
        "task_ext_info": lambda: raw.get("task_ext_info") or None,
    }
    asked: dict[str, Any] = {
        "task_name": str,
        "task_type": str,
        "document": _in_any_order,
        "task_policy": _policy,
        "need_confirm": bool,
        "group_ids": lambda ids: sorted(ids or ()),
        "task_mode": lambda mode: mode or None,
        "task_ext_info": lambda info: info or None,
    }
    if wanted.get("targets") is not None:
        asked.pop("group_ids")  # targets win, for us and for the platform
    for name in asked.keys() & wanted.keys():
        has, wants = readings[name](), asked[name](wanted[name])
        if has != wants:
            found.append(f"{name} is {_short(has)}, and {_short(wants)} is asked for")
    app_id = wanted.get("app_id")
    if app_id and task.app_id and task.app_id != app_id:
        found.append(f"app_id is {task.app_id}, and {app_id} is asked for")
    return sorted(found)


async def _compare(io: CallsIO, task: BatchTask, wanted: Mapping[str, Any]) -> list[str]:
    """What of a batch task differs, read from the platform: its description, and its targets."""
    task = await io.perform(api.show_batch_task(task.task_id))
    different = differences(task, {**_NOTHING, **wanted})
    if different or wanted.get("targets") is None:
        return different
    asked = set(wanted["targets"])
    for pause in (*_MAKING, None):
        has = await _targets_of(io, task)
        if has == asked:
            return []
        # The platform may have only begun to make them.
        if task.status is not TaskStatus.INITIALIZING or not has <= asked:
            return [_of_targets(has, asked)]
        if pause is not None:
            await io.pause(pause)
            task = await io.perform(api.show_batch_task(task.task_id))
    raise IoTDATransportError(
        f"Batch task {task.task_id} ({task.task_name}) is still {task.status}: what its targets "
        "are can't be told yet. Try again in a minute."
    )


async def _targets_of(io: CallsIO, task: BatchTask) -> set[str]:
    """The targets of a batch task: as its description names them, else as its subtasks do."""
    named = task.raw.get("targets")
    if isinstance(named, list) and len(named) == task.progress.total > 0:
        return {str(target) for target in named}
    rows = pagination.iter_subtasks(task.task_id)
    found: set[str] = set()
    while rows.next is not None:
        found |= {row.target for row in rows.take(await io.perform(rows.next))}
    return found


def _of_targets(has: set[str], asked: set[str]) -> str:
    extra, missing = sorted(has - asked), sorted(asked - has)
    parts = [f"it has {len(has)} target(s), and {len(asked)} are asked for"]
    if extra:
        parts.append(f"{len(extra)} of its own are not among these, first {extra[0]}")
    if missing:
        parts.append(f"{len(missing)} are missing, first {missing[0]}")
    return ", ".join(parts)


def _in_any_order(document: Any) -> Any:
    """A document in which the order of packages does not count, nor what is left empty."""
    if not isinstance(document, Mapping):
        return document or None
    filled = _filled(document)
    ids = filled.get("package_ids")
    if isinstance(ids, (list, tuple)):
        filled["package_ids"] = sorted(map(str, ids))
    return filled


def _policy(policy: Any) -> dict[str, str]:
    """A policy in which 3 is as good as "3"."""
    return {name: str(value) for name, value in _filled(policy or {}).items()}


def _filled(value: Mapping[str, Any]) -> dict[str, Any]:
    """An object without what is left empty."""
    return {name: item for name, item in value.items() if item not in (None, "", [], {})}


def _short(value: Any) -> str:
    return repr(value)[:_LONGEST_DIFFERENCE]
