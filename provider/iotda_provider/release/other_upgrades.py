"""Which devices other upgrades hold that have not ended, in a bounded number of calls. No I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from iotda_provider import api
from iotda_provider.api import pagination
from iotda_provider.models import BatchTask, Subtask
from iotda_provider.models.sorted_ids import SortedIds
from iotda_provider.models.statuses import STOPPABLE_UPGRADES, UNDER_WAY, WITHOUT_OUTCOME


class OtherUpgrades:
    """One reading of them: perform ``next``, pass its answer to ``take``, until ``next`` is None.

    Their unfinished rows are read, those of the newest batch tasks first.

    :param wanted: the devices that are asked about
    :param is_own: whether a batch task belongs to this release
    :param devices: the most pages of rows that are read are those that a list of this many devices
        fills, at least one
    """

    def __init__(
        self, wanted: SortedIds, is_own: Callable[[BatchTask], bool], devices: int
    ) -> None:
        self._wanted = wanted
        self._is_own = is_own
        self._pages = max(1, -(-devices // api.MAX_PAGE))
        self._lists = deque(
            pagination.list_batch_tasks(task_type=kind, status=status)
            for kind in STOPPABLE_UPGRADES
            for status in UNDER_WAY
        )
        self._found: dict[str, BatchTask] = {}
        self._rows: deque[tuple[str, pagination.Listing[Subtask]]] | None = None
        #: The wanted devices that each of the others holds, by its id, as far as that was read.
        self.held: dict[str, list[str]] = {}
        #: The others whose rows were not read to their end.
        self.unread: list[BatchTask] = []

    @property
    def devices(self) -> Iterator[str]:
        """The wanted devices that any of them holds, as far as that was read."""
        return chain.from_iterable(self.held.values())

    @property
    def next(self) -> api.Call[Any] | None:
        """The next call; None: all of it was read, or as much as may be."""
        while self._lists:
            if self._lists[0].next is not None:
                return self._lists[0].next
            self._lists.popleft()
        if self._rows is None:
            newest = sorted(
                self._found.values(), key=lambda t: (t.create_time or "", t.task_id), reverse=True
            )
            self._rows = deque(
                (task.task_id, pagination.iter_subtasks(task.task_id, status=status))
                for task in newest
                for status in WITHOUT_OUTCOME
            )
        while self._rows:
            call = self._rows[0][1].next
            if call is None:
                self._rows.popleft()
            elif self._pages:
                return call
            else:
                left = dict.fromkeys(task_id for task_id, _ in self._rows)
                self.unread = [self._found[task_id] for task_id in left]
                self._rows.clear()
        return None

    def take(self, page: api.Page[Any]) -> None:
        """Take in the answer to ``next``."""
        if self._lists:
            self._found |= {
                task.task_id: task for task in self._lists[0].take(page) if not self._is_own(task)
            }
            return
        assert self._rows
        self._pages -= bool(page.rows)
        task_id, rows = self._rows[0]
        found = [own for row in rows.take(page) if (own := self._wanted.own(row.target))]
        if found:
            self.held.setdefault(task_id, []).extend(found)

    @property
    def not_read(self) -> str:
        """What was not read, as a sentence; empty: all of it was."""
        if not self.unread:
            return ""
        first = self.unread[0]
        return (
            f"{len(self.unread)} other upgrade(s) that have not ended were not read to their end, "
            f"which would take more calls than the devices' own pages: first batch task "
            f"{first.task_id} ({first.task_name}, {first.status}). They may hold some of the "
            "devices, too."
        )
