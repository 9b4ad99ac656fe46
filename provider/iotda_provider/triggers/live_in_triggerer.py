"""Writes what people see of a guard that watches in a triggerer."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from iotda_provider.rollout_guard import Outcome, Watch
from iotda_provider.rollout_guard.live_record import (
    LIVE_KEY,
    WRITES_PER_SECOND,
    Ended,
    LiveRecord,
    LiveState,
)
from iotda_provider.transport.rate_limit import RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from iotda_provider.rollout_guard.memory_store import TriggererMemoryStore

_writers: set[LiveInTriggerer] = set()
_routine = RateLimit(WRITES_PER_SECOND)


class LiveInTriggerer:
    """The XCom ``live`` of the task instance that a trigger works for; a context manager.

    It is written beside the looks, in a task of its own, so that no look and no stop waits for
    Airflow. One that can't be written is left out; the next one follows in a minute.

    :param watched: whose record it is
    :param store: what writes XComs
    """

    def __init__(
        self, watched: Watch | Callable[[], LiveState], store: TriggererMemoryStore
    ) -> None:
        self._record = LiveRecord(watched)
        self._store = store
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_waiting = self._has_ended = False

    async def __aenter__(self) -> LiveInTriggerer:
        _writers.add(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _writers.discard(self)
        for task in self._tasks:
            task.cancel()

    def show(self) -> None:
        """After a look: begin to write the record, where it is due."""
        wanted = self._record.wants_writing(time.time(), len(_writers))
        if wanted is None or (wanted == "routine" and self._is_waiting):
            return
        if wanted == "at once" and self._turn.locked():
            return  # what is being written may be older: at the next look, then
        task = asyncio.ensure_future(self._write(is_routine=wanted == "routine"))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settle(self, outcome: Outcome | Ended) -> None:
        """Write the last record."""
        self._has_ended = True
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._turn.acquire(), 5.0)
        value = self._record.compose(time.time(), len(_writers), outcome)
        await self._store.push(LIVE_KEY, value)

    async def _write(self, *, is_routine: bool) -> None:
        if is_routine:
            self._is_waiting = True
            try:
                await asyncio.sleep(_routine.reserve())
            finally:
                self._is_waiting = False
        async with self._turn:
            if self._has_ended:
                return
            await self._store.push(LIVE_KEY, self._record.compose(time.time(), len(_writers)))
