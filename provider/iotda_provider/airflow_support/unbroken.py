"""Work that outlives whoever began it: conversations with Airflow, and what is done for several.

Before Airflow 3.3, an answer of a triggerer's supervisor that nobody has read is taken for that of
the next question, which ends the whole triggerer.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def to_the_end(conversation: Awaitable[T]) -> T:
    """Its result. Where this is cancelled, or waits too long, the conversation itself goes on."""
    task = asyncio.ensure_future(conversation)
    task.add_done_callback(_look_away)
    return await asyncio.shield(task)


def for_everybody(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task for work that is done once for several triggers.

    It is outside the context of the trigger that happens to begin it: Airflow finds in the context
    to whose log a line belongs.
    """
    return contextvars.Context().run(asyncio.ensure_future, work)


def _look_away(done: asyncio.Future[Any]) -> None:
    """Have an error read that nobody may be left to read."""
    if not done.cancelled():
        done.exception()
