"""One reading for all guards of a connection that look at the same moment."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Hashable, Iterable
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from iotda_provider.api import MAX_PAGE
from iotda_provider.exceptions import IoTDAAuthError, IoTDAError
from iotda_provider.models import BatchTask, TaskStatus, TaskType
from iotda_provider.transport.retrying import retries_unsaid
from iotda_provider.transport.single_flight import shared_task

if TYPE_CHECKING:
    from iotda_provider.hooks.iotda_async import IoTDAAsyncHook

#: The batch tasks that a guard is for, and where they stand while it watches.
UPGRADES = (TaskType.FIRMWARE_UPGRADE, TaskType.SOFTWARE_UPGRADE)
UNDER_WAY = (
    TaskStatus.INITIALIZING,
    TaskStatus.WAITING,
    TaskStatus.PROCESSING,
    TaskStatus.STOPPING,
)
#: Seconds to wait for others that want to look at the same moment.
_GATHER_SECONDS = 0.05
#: Seconds for which a reading waits for the end of the one before it, at most.
_LONGEST_TURN = 1.0
#: Tasks of one kind from which on a page of the list may cost less than reading each of them.
_WORTH_A_LIST = 4
#: Readings for which the list is left alone after it was not worth its calls, by groups as small.
_REST = 30

_Kind = tuple[TaskType, TaskStatus]
#: Where a task is looked for first that is new to a reads: nearly all that are guarded are there.
_USUAL: _Kind = (TaskType.FIRMWARE_UPGRADE, TaskStatus.PROCESSING)
_Waiting = dict[str, "list[asyncio.Future[BatchTask]]"]


class SharedReads:
    """Reads batch tasks for whoever asks at the same moment, in as few calls as it can.

    A page of the list holds fifty tasks with their counts, so a thousand guards that look together
    cost twenty calls instead of a thousand. Whoever asks while a reading is under way gets the next
    one, together with all others that have come by then: readings that take long become fewer, and
    not more. A task that is not where it was last seen, or that the list does not show, is read by
    itself; so is every task where the platform's list has no counts, or where so much else is
    listed that it saves nothing.

    :param hook: a hook for all that share the reads, who may call it, too: it looks its connection
        up once for all of them
    """

    def __init__(self, hook: IoTDAAsyncHook) -> None:
        self.hook = hook
        self._waiting: _Waiting = {}
        self._kinds: dict[str, _Kind] = {}
        self._flushes: set[asyncio.Task[None]] = set()
        self._resting: dict[_Kind, tuple[int, int]] = {}  # the size of a group, and for how long
        self._list_has_counts = True
        self.members = 0

    async def read(self, batch_task_id: str) -> BatchTask:
        """One batch task as it is now: the reading begins after this call, never before.

        :raises IoTDAError: it could not be read
        """
        future: asyncio.Future[BatchTask] = asyncio.get_running_loop().create_future()
        if not self._waiting:
            waiting = self._waiting = {}
            flush = shared_task(self._flush(waiting, list(self._flushes)))
            self._flushes.add(flush)
            flush.add_done_callback(lambda done: self._settle(done, waiting))
        self._waiting.setdefault(batch_task_id, []).append(future)
        return await future

    def forget(self, batch_task_ids: Iterable[str]) -> None:
        """Nobody guards these tasks any more."""
        for batch_task_id in batch_task_ids:
            self._kinds.pop(batch_task_id, None)

    async def close(self) -> None:
        """Give up what is under way, and give the session back."""
        for flush in list(self._flushes):
            flush.cancel()
        await asyncio.gather(*self._flushes, return_exceptions=True)
        await self.hook.close()

    async def _flush(self, wanted: _Waiting, before: list[asyncio.Task[None]]) -> None:
        await asyncio.sleep(_GATHER_SECONDS)
        if before:
            await asyncio.wait(before, timeout=_LONGEST_TURN)
        self._waiting = {}
        by_kind: dict[_Kind, set[str]] = defaultdict(set)
        for batch_task_id in wanted:
            by_kind[self._kinds.get(batch_task_id, _USUAL)].add(batch_task_id)
        with retries_unsaid():  # each guard says it in its own log
            await asyncio.gather(*(self._list(kind, ids, wanted) for kind, ids in by_kind.items()))
            await asyncio.gather(*(self._show(key, wanted) for key in list(wanted)))

    def _settle(self, flush: asyncio.Task[None], wanted: _Waiting) -> None:
        """Leave nobody waiting for a reading that has ended without an answer."""
        self._flushes.discard(flush)
        error = None if flush.cancelled() else flush.exception()
        for futures in wanted.values():
            for future in futures:
                if error is not None and not future.done():
                    future.set_exception(error)
                future.cancel()

    async def _list(self, kind: _Kind, ids: set[str], wanted: _Waiting) -> None:
        """Serve what the list shows of one type and status."""
        if not self._list_has_counts or len(ids) < _WORTH_A_LIST:
            return
        size, left = self._resting.get(kind, (0, 0))
        if left and len(ids) <= size:
            self._resting[kind] = (size, left - 1)
            return
        missing, rows = set(ids), 0
        task_type, status = kind
        try:
            listed: Any = self.hook.list_batch_tasks(task_type=task_type, status=status)
            async with aclosing(listed) as tasks:
                async for task in tasks:
                    rows += 1
                    if "task_progress" not in task.raw:
                        self._list_has_counts = False
                        return
                    if task.task_id in missing:
                        missing.discard(task.task_id)
                        self._serve(task, wanted)
                    if not missing:
                        break
                    # One more page would cost as much as reading the rest one by one.
                    pages, within = divmod(rows, MAX_PAGE)
                    if not within and (len(missing) == 1 or pages >= len(ids) / 2):
                        break
        except IoTDAError:
            return  # each of them is read by itself, and fails by itself
        if len(ids) - len(missing) < 2 * -(-rows // MAX_PAGE):
            self._resting[kind] = (len(ids), _REST)

    async def _show(self, batch_task_id: str, wanted: _Waiting) -> None:
        try:
            task = await self.hook.get_batch_task(batch_task_id)
        except IoTDAError as error:
            if isinstance(error, IoTDAAuthError):
                # Perhaps the connection has new keys by the next look.
                await self.hook.close()
            for future in wanted.pop(batch_task_id, ()):
                if not future.done():
                    future.set_exception(error)
        else:
            self._serve(task, wanted)

    def _serve(self, task: BatchTask, wanted: _Waiting) -> None:
        if task.task_type in UPGRADES and task.status in UNDER_WAY:
            self._kinds[task.task_id] = (TaskType(task.task_type), task.status)
        else:
            self._kinds.pop(task.task_id, None)
        for future in wanted.pop(task.task_id, ()):
            if not future.done():
                future.set_result(task)


_open: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, SharedReads]] = (
    WeakKeyDictionary()
)


@asynccontextmanager
async def open_shared_reads(
    key: Hashable, make_hook: Callable[[], IoTDAAsyncHook]
) -> AsyncIterator[SharedReads]:
    """The reads of this event loop for a connection, made by the first that needs it.

    :param key: what tells connections apart
    :param make_hook: makes the reads's hook
    """
    reads_by_key = _open.setdefault(asyncio.get_running_loop(), {})
    reads = reads_by_key.get(key)
    if reads is None:
        reads = reads_by_key[key] = SharedReads(make_hook())
    reads.members += 1
    try:
        yield reads
    finally:
        reads.members -= 1
        if not reads.members:
            del reads_by_key[key]
            await reads.close()


def seconds_to_tick(began: float, interval: float, now: float) -> float:
    """Seconds until the next of the moments at which all guards with this interval look.

    :param began: when the last look began, by the clock that ``now`` is of
    """
    return max(0.0, (began // interval + 1) * interval - now)
