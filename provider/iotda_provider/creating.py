"""Creating a batch task once, whatever gets lost and whoever else tries: by a name of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from iotda_provider import api, listing
from iotda_provider.exceptions import (
    IoTDAError,
    IoTDAServerError,
    IoTDATransportError,
)
from iotda_provider.models import BatchTask
from iotda_provider.procedures import Procedure, stop_batch_task

# A task of the same moment is among the newest.
_PAGES_OF_THE_NEWEST = 2


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


def create_batch_task_once(*, not_before: str | None = None, **task: Any) -> Procedure[Created]:
    """Create a batch task, unless there is one by its name, which must belong to one purpose only.

    It is looked for before it is created, and where the answer got lost, before it is created
    again. It is looked for once more afterwards, because somebody else may have done the same at
    the same time: the oldest is kept then, for both, and any other is stopped.

    :param not_before: no task of this name can be older (in the platform's spelling of a time); the
        search ends there
    :param task: what ``create_batch_task`` takes
    """
    creation = api.create_batch_task(**task)  # refuses bad input before anything is sent
    found = yield from _find(task, not_before=not_before)
    if found:
        return (yield from _keep_the_oldest(found, created=False))
    made: BatchTask | None = None
    for attempts_left in (1, 0):
        try:
            made = yield creation
            break
        except (IoTDATransportError, IoTDAServerError):
            found = yield from _find(task, pages=_PAGES_OF_THE_NEWEST)
            if found:
                break
            if not attempts_left:
                raise
    try:
        found = yield from _find(task, pages=_PAGES_OF_THE_NEWEST)
    except IoTDAError:
        # One look was promised more than is needed: what was created must not be lost by it.
        if made is None and not found:
            raise
    by_id = {one.task_id: one for one in (*found, *((made,) if made else ()))}
    return (yield from _keep_the_oldest(list(by_id.values()), created=True))


def _find(
    task: dict[str, Any], *, not_before: str | None = None, pages: int | None = None
) -> Procedure[list[BatchTask]]:
    """All tasks of that name; the newest come first."""
    rows = listing.list_batch_tasks(task_type=task["task_type"], app_id=task.get("app_id"))
    found = []
    while rows.next is not None:
        page = rows.take((yield rows.next))
        found += [one for one in page if one.task_name == task["task_name"]]
        if pages is not None and (pages := pages - 1) == 0:
            break
        last = page[-1].create_time if page else None
        if not_before and last and last < not_before:
            break
    return found


def _keep_the_oldest(found: Sequence[BatchTask], *, created: bool) -> Procedure[Created]:
    oldest, *others = sorted(found, key=lambda one: (one.create_time or "", one.task_id))
    surplus = []
    for other in others:
        error = None
        if not other.status.is_terminal:
            try:
                yield from stop_batch_task(other.task_id)
            except IoTDAError as refusal:
                error = str(refusal)
        surplus.append(Surplus(other.task_id, error))
    return Created(oldest, created, tuple(surplus))
