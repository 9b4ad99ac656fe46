"""What procedures await of the asynchronous hook."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from iotda_provider.api import Call
from iotda_provider.exceptions import IoTDAError
from iotda_provider.procedures import MAX_IN_FLIGHT

if TYPE_CHECKING:
    from iotda_provider.hooks.iotda_async import IoTDAAsyncHook

T = TypeVar("T")


class AsyncIO:
    """What procedures await of the asynchronous hook: it suspends, and never blocks."""

    def __init__(self, hook: IoTDAAsyncHook) -> None:
        self._hook = hook

    async def perform(self, call: Call[T]) -> T:
        """Make one call."""
        return await self._hook._perform(call)

    async def perform_all(self, calls: Sequence[Call[T]]) -> list[T | IoTDAError]:
        """Make some calls, each in a task."""
        # Once: where that takes its time and fails, not again for each call.
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
        """Sleep."""
        await asyncio.sleep(seconds)
