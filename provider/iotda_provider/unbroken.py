"""Conversations with Airflow that come to their end, even where whoever began them is cancelled.

Before Airflow 3.3, an answer of a triggerer's supervisor that nobody has read is taken for that of
the next question, which ends the whole triggerer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")


async def to_the_end(conversation: Awaitable[T]) -> T:
    """Its result. Where this is cancelled, or waits too long, the conversation itself goes on."""
    task = asyncio.ensure_future(conversation)
    task.add_done_callback(_look_away)
    return await asyncio.shield(task)


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """Call what blocks, to its end.

    Through asgiref, from whose threads Airflow's own calls find their loop.
    """
    from asgiref.sync import sync_to_async

    return await to_the_end(sync_to_async(function)(*args))


def _look_away(done: asyncio.Future[Any]) -> None:
    """Have an error read that nobody may be left to read."""
    if not done.cancelled():
        done.exception()
