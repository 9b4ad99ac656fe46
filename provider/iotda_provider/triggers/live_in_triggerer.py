"""Writes the XCom that people see of a guard, wave or stop that runs in a triggerer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
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
    from iotda_provider.rollout_guard.memory_store import TriggererMemoryStore

_writers: set[LiveInTriggerer] = set()
_routine = RateLimit(WRITES_PER_SECOND)


class LiveInTriggerer:
    """Writes the XCom ``live`` of a trigger's task instance; a context manager.

    It is written in an asyncio task, because no look and no stop waits for Airflow. A record that
    can't be written is left out; the next one follows within a minute.

    :param watched: the guard, or a function that returns the state of a wave or a stop
    :param store: writes XComs
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

    async def __aexit__(self, *exception: object) -> None:
        _writers.discard(self)
        for task in self._tasks:
            task.cancel()

    def show(self) -> None:
        """After a look: begin to write the record if it is due."""
        wanted = self._record.wants_writing(time.time(), len(_writers))
        if wanted is None or (wanted == "routine" and self._is_waiting):
            return
        if wanted == "at once" and self._turn.locked():
            return  # a record is being written, so the next look writes the newer one
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
