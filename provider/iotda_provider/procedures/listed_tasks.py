"""Reads many batch tasks that are looked at again and again by the list, fifty in a call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from iotda_provider.api.pagination import list_batch_tasks
from iotda_provider.exceptions import IoTDAError
from iotda_provider.models import BatchTask
from iotda_provider.procedures import CallsIO

#: With fewer batch tasks, reading each of them costs no more calls than the list.
_WORTH_A_LIST = 4
#: After a list was not worth its calls, so many readings do without it.
_REST = 30


class ListedTasks:
    """The batch tasks of one guard, as far as the list shows them.

    A batch task that was not read before, whose status has changed, that is being stopped, or that
    the list does not show with its counts, is left to be read by itself.
    """

    def __init__(self) -> None:
        self._known: dict[str, BatchTask] = {}
        self._rest = 0

    def note(self, answers: Iterable[BatchTask | IoTDAError]) -> None:
        """Note what was read by itself or by the list."""
        self._known.update({task.task_id: task for task in answers if isinstance(task, BatchTask)})

    async def read(self, io: CallsIO, batch_task_ids: Sequence[str]) -> dict[str, BatchTask]:
        """Those that the list shows; the others are to be read by themselves.

        :param batch_task_ids: the batch tasks to look at
        """
        known = [self._known[one] for one in batch_task_ids if one in self._known]
        kind = known[0].task_type if len(known) >= _WORTH_A_LIST else None
        if kind is None or self._rest or any(task.task_type != kind for task in known):
            self._rest = max(0, self._rest - 1)
            return {}
        missing = {task.task_id for task in known if not task.status.is_stop}
        found: dict[str, BatchTask] = {}
        rows, pages = list_batch_tasks(task_type=kind), 0
        # With more pages it would cost as many calls as reading each by itself.
        while missing and rows.next is not None and pages < len(known) / 2:
            pages += 1
            try:
                page = rows.take(await io.perform(rows.next))
            except IoTDAError:
                break  # each is read by itself, and fails by itself
            for task in page:
                if task.task_id not in missing:
                    continue
                missing.discard(task.task_id)
                is_as_before = task.status == self._known[task.task_id].status
                if is_as_before and task.raw.get("task_progress"):
                    found[task.task_id] = task
        if len(found) < 2 * pages:
            self._rest = _REST
        return found
