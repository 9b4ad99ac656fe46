"""Prepares an authenticator from an event loop: one thread obtains, everybody else awaits it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from iotda_provider.airflow_support.threads import in_thread
from iotda_provider.masking import on_event_loop
from iotda_provider.unbroken import for_everybody

if TYPE_CHECKING:
    from iotda_provider.auth.authenticator import Authenticator

_Under = dict[int, "asyncio.Task[None]"]
_under_way: WeakKeyDictionary[asyncio.AbstractEventLoop, _Under] = WeakKeyDictionary()


async def prepare(authenticator: Authenticator) -> None:
    """:meth:`Authenticator.prepare` without blocking the loop.

    However many callers wait, one thread is busy; a caller that is cancelled leaves the others
    waiting for the same answer. Raises what ``prepare`` raises, for every caller.
    """
    tasks = _under_way.setdefault(asyncio.get_running_loop(), {})
    key = id(authenticator)  # stays valid: the task holds the authenticator
    task = tasks.get(key)
    if task is None:
        task = tasks[key] = for_everybody(_prepare(authenticator))
        task.add_done_callback(lambda done: _finished(tasks, key, done))
    await asyncio.shield(task)


async def _prepare(authenticator: Authenticator) -> None:
    async with on_event_loop():
        await in_thread(authenticator.prepare)


def _finished(tasks: _Under, key: int, done: asyncio.Task[None]) -> None:
    tasks.pop(key, None)
    if not done.cancelled():
        done.exception()  # it is known now, even where every caller has gone
