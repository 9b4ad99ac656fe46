"""One asker for all that want the same at the same time in one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

_Asked = dict[Hashable, "asyncio.Future[Any]"]
_under_way: WeakKeyDictionary[asyncio.AbstractEventLoop, _Asked] = WeakKeyDictionary()


async def single_flight(key: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
    """The answer to a question that is asked already, or that is asked now.

    An answer is shared by those who asked before it came, and forgotten then: nobody gets an old
    one. Whoever is cancelled leaves the others waiting.
    """
    asked = _under_way.setdefault(asyncio.get_running_loop(), {})
    task = asked.get(key)
    if task is None:
        task = asked[key] = asyncio.ensure_future(ask())
        task.add_done_callback(lambda done: _forget(asked, key, done))
    return await asyncio.shield(task)


def _forget(asked: _Asked, key: Hashable, done: asyncio.Future[Any]) -> None:
    del asked[key]
    if not done.cancelled():
        done.exception()  # it is known now, even where every asker has gone
