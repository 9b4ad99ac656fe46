"""Reads batch tasks once for all guards of a connection that look at the same time."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Hashable, Iterable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from iotda_provider.api import MAX_PAGE
from iotda_provider.exceptions import IoTDAAuthError, IoTDAError
from iotda_provider.models import BatchTask, TaskStatus, TaskType
from iotda_provider.models.statuses import STOPPABLE_UPGRADES, UNDER_WAY
from iotda_provider.transport.retrying import quiet_retries
from iotda_provider.transport.single_flight import shared_task

if TYPE_CHECKING:
    from iotda_provider.hooks.iotda_async import IoTDAAsyncHook

#: Seconds to wait for other guards that look at the same time.
_GATHER_SECONDS = 0.05
#: The most seconds that a reading waits for the end of the one before it.
_LONGEST_TURN = 1.0
#: With fewer batch tasks of one kind, reading each of them costs no more calls than the list.
_WORTH_A_LIST = 4
#: After a list that was not worth its calls, so many readings do without it, unless more tasks
#: are asked for by then.
_REST = 30

#: Batch tasks of one kind have the same type and status, and are on the same list.
_Kind = tuple[TaskType, TaskStatus]
#: The kind of nearly all guarded batch tasks: there a new one is looked for first.
_USUAL: _Kind = (TaskType.FIRMWARE_UPGRADE, TaskStatus.PROCESSING)
_Waiting = dict[str, "list[asyncio.Future[BatchTask]]"]


class SharedReads:
    """Reads batch tasks for all guards that look at the same time, in as few calls as possible.

    A page of the list holds fifty batch tasks with their counts, so a thousand guards that look
    together cost twenty calls instead of a thousand. A guard that asks during a reading gets the
    next one, together with all others that have asked by then, so slow readings become fewer.

    A batch task is read by itself if its status has changed, if the list does not show it, if the
    platform's list has no counts, or if the list has so many other tasks that it saves no calls.

    After a refusal (401 or 403) the connection is read again, which may have new keys by then. No
    call waits for that: until it has succeeded, all use the connection as it was read before.

    :param hook: the hook of all guards that share the reads; they may call it too, so that the
        connection is looked up only once
    """

    def __init__(self, hook: IoTDAAsyncHook) -> None:
        self.hook = hook
        self._waiting: _Waiting = {}
        self._kinds: dict[str, _Kind] = {}
        self._flushes: set[asyncio.Task[None]] = set()
        self._renewal: asyncio.Task[None] | None = None
        self._resting: dict[_Kind, tuple[int, int]] = {}  # how many tasks; for how many readings
        self._list_has_counts = True
        self.members = 0

    async def read(self, batch_task_id: str) -> BatchTask:
        """Read one batch task; the reading begins after this call, never before.

        :raises IoTDAError: the batch task could not be read
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
        """Note that nobody guards these batch tasks any more."""
        for batch_task_id in batch_task_ids:
            self._kinds.pop(batch_task_id, None)

    async def close(self) -> None:
        """Cancel the readings, and close the hook."""
        under_way = [*self._flushes, *([self._renewal] if self._renewal else [])]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await self.hook.close()

    async def _flush(self, wanted: _Waiting, before: list[asyncio.Task[None]]) -> None:
        await asyncio.sleep(_GATHER_SECONDS)
        if before:
            await asyncio.wait(before, timeout=_LONGEST_TURN)
        self._waiting = {}
        by_kind: dict[_Kind, set[str]] = defaultdict(set)
        for batch_task_id in wanted:
            by_kind[self._kinds.get(batch_task_id, _USUAL)].add(batch_task_id)
        with quiet_retries():  # each guard logs the error in its own log
            await asyncio.gather(*(self._list(kind, ids, wanted) for kind, ids in by_kind.items()))
            refused = await asyncio.gather(*(self._show(key, wanted) for key in list(wanted)))
        if any(refused) and (self._renewal is None or self._renewal.done()):
            self._renewal = shared_task(self._read_connection_again())

    async def _read_connection_again(self) -> None:
        with suppress(IoTDAError):  # the next refusal tries again
            await self.hook.get_settings(again=True)

    def _settle(self, flush: asyncio.Task[None], wanted: _Waiting) -> None:
        """At the end of a reading: end the wait of those that have got no answer."""
        self._flushes.discard(flush)
        error = None if flush.cancelled() else flush.exception()
        for futures in wanted.values():
            for future in futures:
                if error is not None and not future.done():
                    future.set_exception(error)
                future.cancel()

    async def _list(self, kind: _Kind, ids: set[str], wanted: _Waiting) -> None:
        """Answer what the list of one kind of batch tasks shows."""
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
                    if not task.raw.get("task_progress"):
                        self._list_has_counts = False
                        return
                    if task.task_id in missing:
                        missing.discard(task.task_id)
                        self._serve(task, wanted)
                    if not missing:
                        break
                    # Reading the rest one by one costs no more calls than going on.
                    pages, within = divmod(rows, MAX_PAGE)
                    if not within and (len(missing) == 1 or pages >= len(ids) / 2):
                        break
        except IoTDAError:
            return  # each batch task is now read by itself, and fails by itself
        if len(ids) - len(missing) < 2 * -(-rows // MAX_PAGE):
            self._resting[kind] = (len(ids), _REST)

    async def _show(self, batch_task_id: str, wanted: _Waiting) -> bool:
        """Answer by reading one batch task; whether the platform has refused the credentials."""
        try:
            task = await self.hook.get_batch_task(batch_task_id)
        except IoTDAError as error:
            for future in wanted.pop(batch_task_id, ()):
                if not future.done():
                    future.set_exception(error)
            return isinstance(error, IoTDAAuthError)
        self._serve(task, wanted)
        return False

    def _serve(self, task: BatchTask, wanted: _Waiting) -> None:
        if task.task_type in STOPPABLE_UPGRADES and task.status in UNDER_WAY:
            self._kinds[task.task_id] = (TaskType(task.task_type), task.status)
        else:
            self._kinds.pop(task.task_id, None)
        for future in wanted.pop(task.task_id, ()):
            if not future.done():
                future.set_result(task)


_ByConnection = dict[Hashable, SharedReads]
_open_reads: WeakKeyDictionary[asyncio.AbstractEventLoop, _ByConnection] = WeakKeyDictionary()


@asynccontextmanager
async def open_shared_reads(
    key: Hashable, make_hook: Callable[[], IoTDAAsyncHook]
) -> AsyncIterator[SharedReads]:
    """The shared reads of a connection on this event loop; the last one that leaves closes them.

    :param key: identifies the connection
    :param make_hook: makes a hook, if nobody has opened the shared reads yet
    """
    by_connection = _open_reads.setdefault(asyncio.get_running_loop(), {})
    reads = by_connection.get(key)
    if reads is None:
        reads = by_connection[key] = SharedReads(make_hook())
    reads.members += 1
    try:
        yield reads
    finally:
        reads.members -= 1
        if not reads.members:
            del by_connection[key]
            await reads.close()


def seconds_to_tick(began: float, interval: float, now: float) -> float:
    """Seconds until the next time at which all guards with this interval look.

    :param began: when the last look began, by the same clock as ``now``
    """
    return max(0.0, (began // interval + 1) * interval - now)
