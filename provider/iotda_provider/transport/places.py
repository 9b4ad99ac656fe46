"""How many requests may be under way at the same time, and the queue of those that wait."""

from __future__ import annotations

import asyncio
from collections import deque
from weakref import WeakKeyDictionary

_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


async def in_turn() -> None:
    """Wait until nobody else is let through in this round of the event loop.

    A triggerer begins all its triggers at once. What each of them does at once, a signature and a
    request, takes a millisecond or two; fifty of them in one round would hold up everybody else.
    """
    async with _turns.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
        await asyncio.sleep(0)


class Places:
    """A number of places, each for one request; who comes first is served first.

    In contrast to a semaphore of asyncio nobody waits for longer than he wants to.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._queue: deque[asyncio.Future[bool]] = deque()

    async def take(self, seconds: float) -> bool:
        """Whether a place became free in time; if so, it must be given back."""
        if self._free > 0:
            self._free -= 1
            return True
        loop = asyncio.get_running_loop()
        place: asyncio.Future[bool] = loop.create_future()
        self._queue.append(place)
        timer = loop.call_later(seconds, self._leave, place)
        try:
            return await place
        except asyncio.CancelledError:
            if not place.cancelled() and place.result():
                self.give_back()
            raise
        finally:
            timer.cancel()

    @staticmethod
    def _leave(place: asyncio.Future[bool]) -> None:
        if not place.done():
            place.set_result(False)

    def give_back(self) -> None:
        """Make a place free, or hand it on to the first who waits."""
        while self._queue:
            place = self._queue.popleft()
            if not place.done():
                place.set_result(True)
                return
        self._free += 1
