"""Lists that come in pages: which page to ask for next, and which of its rows are new. No I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, ParamSpec, TypeVar

from iotda_provider import api
from iotda_provider.models import (
    BatchTask,
    Subtask,
    SubtaskStatus,
    TaskStatus,
    TaskType,
)
from iotda_provider.models.statuses import UPGRADES

T = TypeVar("T")
P = ParamSpec("P")

# More rows than any list has: the end of a list whose count is missing or wrong.
_MOST_ROWS = 10_000_000


class Listing(Generic[T]):
    """One reading of a list: perform ``next``, pass its answer to ``take``, until ``next`` is None.

    The list ends when it has as many rows as the platform has counted at most: rows that leave the
    list while it is read were counted, and some were read. If the platform does not count them, it
    ends with the first page that is not full. An empty page and a repeated marker always end it, so
    that no answer can make it endless.

    :ivar is_wanted: which rows are kept: all, unless somebody sets it
    :param page: the call of one page, such as ``api.list_devices``; it takes a ``marker``, too
    :param given: its further arguments
    :param fields: its further arguments by name
    """

    def __init__(
        self, page: Callable[P, api.Call[api.Page[T]]], *given: P.args, **fields: P.kwargs
    ) -> None:
        self._page: Callable[..., api.Call[api.Page[T]]] = partial(page, *given, **fields)
        self.is_wanted: Callable[[T], bool] = lambda row: True
        self._markers: set[str] = set()
        self._read = self._kept = self._total = 0
        self.next: api.Call[api.Page[T]] | None = self._page()

    def take(self, page: api.Page[T]) -> list[T]:
        """The wanted rows of a page. Moves ``next`` on to the page after it."""
        wanted = [row for row in page.rows if self.is_wanted(row)]
        self._read += len(page.rows)
        self._kept += len(wanted)
        self._total = max(self._total, page.total or 0)
        more = page.full if page.total is None else self._kept < self._total
        # A row that moves between pages comes twice, but no list is read much more than twice.
        most = _MOST_ROWS if page.total is None else min(_MOST_ROWS, 2 * self._total + api.MAX_PAGE)
        more = more and self._read < most
        if more and page.rows and page.marker is not None and page.marker not in self._markers:
            self._markers.add(page.marker)
            self.next = self._page(marker=page.marker)
        else:
            self.next = None
        return wanted


class NewestFirst(Listing[BatchTask]):
    """Merges several lists of batch tasks, each newest first, into one list, newest first.

    A list's next page is read only when none of its rows is left.
    """

    def __init__(self, lists: Sequence[Listing[BatchTask]]) -> None:
        self._unread: list[tuple[Listing[BatchTask], deque[BatchTask]]] = [
            (one, deque()) for one in lists
        ]
        self._asked = self._unread[0]
        self.next = self._asked[0].next

    def take(self, page: api.Page[BatchTask]) -> list[BatchTask]:
        """The rows that are newer than every row that has not been read yet."""
        one, rows = self._asked
        rows.extend(one.take(page))
        ready: list[BatchTask] = []
        while True:
            # A list that is read to its end can have no newer row.
            self._unread = [(one, rows) for one, rows in self._unread if rows or one.next]
            asked = next((pair for pair in self._unread if not pair[1]), None)
            if asked is not None or not self._unread:
                break
            newest = max(self._unread, key=lambda pair: pair[1][0].task_id.zfill(24))
            ready.append(newest[1].popleft())
        self.next = None
        if asked is not None:
            self._asked, self.next = asked, asked[0].next
        return ready


class SeenTargets:
    """Remembers targets: a row that moves between pages during the reading comes twice.

    It remembers at least the last 30,000 targets, as many as one task can have, and at most twice
    as many, so that memory stays bounded for a stream of any length.
    """

    def __init__(self, at_least: int = api.MAX_TARGETS_PER_TASK) -> None:
        self._at_least = at_least
        self._young: set[str] = set()
        self._old: set[str] = set()

    def is_new(self, target: str) -> bool:
        """Whether a target was not seen before; from now on it counts as seen."""
        if target in self._young or target in self._old:
            return False
        if len(self._young) >= self._at_least:
            self._old, self._young = self._young, set()
        self._young.add(target)
        return True


def list_batch_tasks(
    *,
    task_type: TaskType | str | None = None,
    status: TaskStatus | str | None = None,
    app_id: str | None = None,
) -> Listing[BatchTask]:
    """Batch tasks, newest first, in pages of 50 that are read as they are needed.

    :param task_type: None: all tasks that upgrade firmware, software or modules, from three lists
    :param status: only tasks in this status; None: in any status
    :param app_id: only tasks of this resource space; None: of all resource spaces
    """
    lists = [
        Listing(api.list_batch_tasks, task_type=kind, status=status, app_id=app_id)
        for kind in (UPGRADES if task_type is None else (task_type,))
    ]
    return lists[0] if task_type is not None else NewestFirst(lists)


def iter_subtasks(
    batch_task_id: str,
    *,
    status: SubtaskStatus | str | None = None,
    target: str | None = None,
) -> Listing[Subtask]:
    """A task's subtasks, each target once, in pages of 50 that are read as they are needed."""
    seen = SeenTargets()
    rows = Listing(api.list_subtasks, batch_task_id, status=status, target=target)
    rows.is_wanted = lambda row: seen.is_new(row.target)
    return rows
