"""The I/O objects that procedures await: one blocks (in a worker), one suspends (triggerer)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from iotda_provider.airflow_support import metrics
from iotda_provider.api import Call
from iotda_provider.exceptions import IoTDAError
from iotda_provider.procedures import MAX_IN_FLIGHT

T = TypeVar("T")


class _BlockingHook(Protocol):
    """The part of the blocking hook that procedures need."""

    iotda_conn_id: str
    last_settings: Any

    def _perform(self, call: Call[T]) -> T: ...

    def get_conn(self) -> Any: ...


class BlockingIO:
    """The :class:`~iotda_provider.procedures.CallsIO` of the blocking hook."""

    def __init__(self, hook: _BlockingHook) -> None:
        self._hook = hook

    async def perform(self, call: Call[T]) -> T:
        """Make one call."""
        return self._hook._perform(call)

    async def perform_all(self, calls: Sequence[Call[T]]) -> list[T | IoTDAError]:
        """Make some calls, each in a thread."""

        def one(call: Call[T]) -> T | IoTDAError:
            try:
                return self._hook._perform(call)
            except IoTDAError as error:
                return error

        # Read the connection here once, or the threads would race to read it.
        self._hook.get_conn()
        if len(calls) < 2:
            return [one(call) for call in calls]
        pool = ThreadPoolExecutor(MAX_IN_FLIGHT, thread_name_prefix="iotda")
        try:
            return list(pool.map(one, calls))
        finally:
            # If a signal or a timeout ends the task, calls that have not begun must not begin.
            pool.shutdown(cancel_futures=True)

    async def pause(self, seconds: float) -> None:
        """Block for so long."""
        time.sleep(seconds)  # noqa: ASYNC251 - there is no event loop

    def count(self, metric: str) -> None:
        """Add one to a counter, of this hook's connection."""
        _count(metric, self._hook)


class _AsyncHook(Protocol):
    """The part of the asynchronous hook that procedures need."""

    iotda_conn_id: str
    last_settings: Any

    async def _perform(self, call: Call[T]) -> T: ...

    async def _open(self) -> Any: ...


class AsyncIO:
    """The :class:`~iotda_provider.procedures.CallsIO` of the asynchronous hook."""

    def __init__(self, hook: _AsyncHook) -> None:
        self._hook = hook

    async def perform(self, call: Call[T]) -> T:
        """Make one call."""
        return await self._hook._perform(call)

    async def perform_all(self, calls: Sequence[Call[T]]) -> list[T | IoTDAError]:
        """Make some calls, several at a time."""
        # Read the connection here once: if that fails slowly, not again for each call.
        await self._hook._open()
        outcomes: dict[int, T | IoTDAError] = {}
        waiting = iter(enumerate(calls))

        async def work() -> None:
            for position, call in waiting:
                try:
                    result: T = await self._hook._perform(call)
                    outcomes[position] = result
                except IoTDAError as error:
                    outcomes[position] = error

        workers = [asyncio.ensure_future(work()) for _ in calls[:MAX_IN_FLIGHT]]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
        return [outcomes[position] for position in range(len(calls))]

    async def pause(self, seconds: float) -> None:
        """Suspend for so long."""
        await asyncio.sleep(seconds)

    def count(self, metric: str) -> None:
        """Add one to a counter, of this hook's connection."""
        _count(metric, self._hook)


def _count(metric: str, hook: _BlockingHook | _AsyncHook) -> None:
    """Add one to a counter. An id of which no connection could be read makes no time series."""
    is_known = hook.last_settings is not None
    metrics.count(metric, iotda_conn_id=hook.iotda_conn_id if is_known else metrics.UNKNOWN)
