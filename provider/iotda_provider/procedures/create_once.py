"""Creates a batch task once, even if answers are lost: by a name that has one purpose only."""

from __future__ import annotations

import hashlib
import re
from base64 import b32encode
from collections.abc import Callable, Mapping, Sequence
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

# A task that was created a moment ago is on one of these pages.
_PAGES_OF_THE_NEWEST = 2
# Seconds between looks at a batch task whose subtasks are still being created.
_INITIALIZING_PAUSES = (0.5, 1.0, 2.0, 4.0)
_LONGEST_DIFFERENCE = 300
# These are compared even if the caller does not ask for them.
_DEFAULTS = dict.fromkeys(
    ("document", "task_policy", "need_confirm", "group_ids", "task_mode", "task_ext_info")
)
_LONGEST_NAME = 128


# --- names ----------------------------------------------------------------------------------------

_STAMP = re.compile(r"_af(r?)([A-Z2-7]{26})\Z")


def stamp_of(
    installation: str, dag_id: str, run_id: str, task_id: str, map_index: int, part: int = 0
) -> str:
    """The mark of the batch task that one task instance creates; the same at each of its tries.

    :param installation: names the Airflow installation: two of them may have the same DAG ids
    :param part: numbers the batch tasks of a task instance that creates several
    :return: 26 characters of A-Z and 2-7
    """
    identity = "\0".join((installation, dag_id, run_id, task_id, str(map_index), str(part)))
    return b32encode(hashlib.sha256(identity.encode()).digest()).decode()[:26]


def stamped_name(task_name: str, stamp: str, *, of_release: bool = False) -> str:
    """The name at the platform: the user's name, cut if it is too long, and the stamp."""
    suffix = f"_af{'r' if of_release else ''}{stamp}"
    return task_name[: _LONGEST_NAME - len(suffix)] + suffix


def stamp_in(task_name: str) -> str:
    """The stamp in the name of a batch task; empty if no task instance created it."""
    match = _STAMP.search(task_name)
    return match[2] if match else ""


def is_of_release(task_name: str) -> bool:
    """Whether a release created a batch task, by its name; the release then guards it."""
    match = _STAMP.search(task_name)
    return bool(match and match[1])


# --- creating -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Surplus:
    """One batch task too many with the same name.

    :param error: why it could not be stopped; None: it is stopped, or had ended
    """

    batch_task_id: str
    error: str | None = None


@dataclass(frozen=True)
class Created:
    """The one batch task of a name.

    :param created: whether it was created now; False: it existed before
    :param surplus: other tasks of that name, which were stopped
    """

    task: BatchTask
    created: bool
    surplus: tuple[Surplus, ...] = ()

    def said_of_surplus(self, name: str) -> list[str]:
        """What became of the other tasks of a name, each as a sentence."""
        return [
            f"Batch task {name} was created a second time, as {other.batch_task_id} (by a worker "
            f"that was thought dead?): kept {self.task.task_id}, the oldest, and "
            + (f"could NOT stop the other: {other.error}." if other.error else "stopped it.")
            for other in self.surplus
        ]


async def create_batch_task_once(
    io: CallsIO, *, not_before: str | None = None, **task: Any
) -> Created:
    """Create a batch task, unless a task of its name exists. The name must have one purpose only.

    It looks for the task before it creates it, and again before each further attempt if an answer
    was lost. It looks once more afterwards: another process may have created the same task at the
    same time. Then both keep the oldest task and stop the others.

    A name alone proves nothing: a task that is found is compared with the task that is asked for
    (type, document, policy, targets). If it differs, nothing is created, kept or stopped.

    :param not_before: a task of this name cannot be older (a time in the platform's spelling); the
        search ends there
    :param task: the arguments of ``create_batch_task``
    :raises BatchTaskDiffersError: a task of this name is for something else
    """
    creation = api.create_batch_task(**task)  # refuses bad input before anything is sent
    found = await find_by_name(io, task, not_before=not_before)
    if found:
        return await _keep_the_oldest(io, found, task, created=False)
    made: BatchTask | None = None
    for attempts_left in (1, 0):
        try:
            made = await io.perform(creation)
            break
        except (IoTDATransportError, IoTDAServerError):
            found = await find_by_name(io, task, pages=_PAGES_OF_THE_NEWEST)
            if found:
                break
            if not attempts_left:
                raise
    try:
        found = await find_by_name(io, task, pages=_PAGES_OF_THE_NEWEST)
    except IoTDAError:
        # This look is only a precaution: its failure must not lose the task that was created.
        if made is None and not found:
            raise
    others = [one for one in found if made is None or one.task_id != made.task_id]
    return await _keep_the_oldest(io, others, task, created=True, made=made)


async def find_by_name(
    io: CallsIO, task: Mapping[str, Any], *, not_before: str | None = None, pages: int | None = None
) -> list[BatchTask]:
    """All tasks with the wanted name, or with the stamp in it.

    :param task: ``task_name``, ``task_type`` and, if one is wanted, ``app_id``
    :param not_before: none can be older: the search ends there
    :param pages: look only at so many pages of the newest tasks of the wanted type and resource
        space; None: at all tasks, of every upgrade type if the wanted type is one, else of every
        other type
    """
    kind = TaskType(task["task_type"])
    kinds = [each for each in TaskType if each.is_confirmable == kind.is_confirmable]
    found: dict[str, BatchTask] = {}
    for each in kinds if pages is None else [kind]:
        app_id = None if pages is None else task.get("app_id")
        rows = pagination.list_batch_tasks(task_type=each, app_id=app_id)
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
    stamp = stamp_in(name)
    return found.task_name == name or (stamp != "" and stamp_in(found.task_name) == stamp)


async def _keep_the_oldest(
    io: CallsIO,
    found: Sequence[BatchTask],
    wanted: Mapping[str, Any],
    *,
    created: bool,
    made: BatchTask | None = None,
) -> Created:
    """Keep the oldest task of a name, and stop the others.

    :param found: tasks of the wanted name; they are compared with ``wanted`` first
    :param made: the task that this call created, if its answer arrived
    :raises BatchTaskDiffersError: a task in ``found`` is for something else
    """
    for one in found:
        different = await compare(io, one, wanted)
        if different:
            ours = f" Batch task {made.task_id} was created beside it." if made else ""
            raise BatchTaskDiffersError(
                f"Batch task {one.task_id} ({one.task_name}) has this task instance's stamp in "
                f"its name, but is for something else: {'; '.join(different)}. It stays as "
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
    """The differences between a batch task and the wanted one, each in words.

    The targets are not compared: the platform's description of a task need not name them all.

    :param wanted: arguments of ``create_batch_task``; what it leaves out must not be in the batch
        task, except that a name, a type or a resource space that it leaves out is not compared
    """
    wanted = {**_DEFAULTS, **wanted}
    raw, different = task.raw, []
    found = {name: raw.get(name) for name in _DEFAULTS}
    if isinstance(raw.get("targets_filter"), Mapping):
        found["group_ids"] = raw["targets_filter"].get("group_ids")
    found |= {"task_name": task.task_name, "task_type": task.task_type}
    names = found.keys() & wanted.keys()
    if wanted.get("targets") is not None:
        names -= {"group_ids"}  # the platform ignores group_ids if there are targets
    for name in names:
        comparable = _COMPARABLE.get(name, _or_none)
        has, wants = comparable(found[name]), comparable(wanted[name])
        if has != wants:
            different.append(f"{name} is {_short(has)}, but {_short(wants)} is wanted")
    app_id = wanted.get("app_id")
    if app_id and task.app_id and task.app_id != app_id:
        different.append(f"app_id is {task.app_id}, but {app_id} is wanted")
    return sorted(different)


async def compare(io: CallsIO, task: BatchTask, wanted: Mapping[str, Any]) -> list[str]:
    """:func:`differences` of a batch task as it is now, with its targets if any are wanted."""
    task = await io.perform(api.show_batch_task(task.task_id))
    different = differences(task, wanted)
    app_id = wanted.get("app_id")
    if app_id and not task.app_id and not await _is_in_space(io, task, app_id):
        different.append(f"app_id: it is not in the resource space {app_id}, which is wanted")
    if different or wanted.get("targets") is None:
        return different
    asked = set(wanted["targets"])
    for pause in (*_INITIALIZING_PAUSES, None):
        try:
            has = await targets_of(io, task)
        except IoTDATransportError:  # it may count subtasks that it does not show yet
            if task.status is not TaskStatus.INITIALIZING or pause is None:
                raise
            has = set()
        if has == asked:
            return []
        # While it is Initializing, the platform may still be creating its subtasks.
        if task.status is not TaskStatus.INITIALIZING or not has <= asked:
            return [_of_targets(has, asked)]
        if pause is not None:
            await io.pause(pause)
            task = await io.perform(api.show_batch_task(task.task_id))
    raise IoTDATransportError(
        f"Batch task {task.task_id} ({task.task_name}) is still {task.status}: its targets "
        "are not known yet. Try again in a minute."
    )


async def _is_in_space(io: CallsIO, task: BatchTask, app_id: str) -> bool:
    """Whether a batch task is in a resource space. A task does not say so; a list of it does."""
    rows = pagination.list_batch_tasks(task_type=task.task_type, app_id=app_id)
    while rows.next is not None:
        page = rows.take(await io.perform(rows.next))
        if any(one.task_id == task.task_id for one in page):
            return True
        last = page[-1].create_time if page else None
        if last and task.create_time and last < task.create_time:
            break  # the newest come first
    return False


async def targets_of(io: CallsIO, task: BatchTask) -> set[str]:
    """The targets of a batch task: from its description if it names all, else from its subtasks."""
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
    parts = [f"it has {len(has)} target(s), but {len(asked)} are wanted"]
    if extra:
        parts.append(f"{len(extra)} of its targets are not wanted, first {extra[0]}")
    if missing:
        parts.append(f"{len(missing)} are missing, first {missing[0]}")
    return ", ".join(parts)


def _in_any_order(document: Any) -> Any:
    """A document for comparison: without empty fields, its packages sorted."""
    if not isinstance(document, Mapping):
        return document or None
    filled = _filled(document)
    ids = filled.get("package_ids")
    if isinstance(ids, (list, tuple)):
        filled["package_ids"] = sorted(map(str, ids))
    return filled


def _policy(policy: Any) -> dict[str, str]:
    """A policy for comparison: without empty fields, its numbers as text."""
    return {name: str(value) for name, value in _filled(policy or {}).items()}


def _or_none(value: Any) -> Any:
    return value or None


_COMPARABLE: dict[str, Callable[[Any], Any]] = {
    "task_name": str,
    "task_type": str,
    "document": _in_any_order,
    "task_policy": _policy,
    "need_confirm": bool,
    "group_ids": lambda ids: sorted(ids or ()),
}


def _filled(value: Mapping[str, Any]) -> dict[str, Any]:
    """An object without its empty fields."""
    return {name: item for name, item in value.items() if item not in (None, "", [], {})}


def _short(value: Any) -> str:
    return repr(value)[:_LONGEST_DIFFERENCE]
