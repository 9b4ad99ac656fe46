"""Does once what many coroutines of an event loop need, and lets them go on one by one."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from iotda_provider.airflow_support import metrics

T = TypeVar("T")

_Calls = dict[Hashable, "asyncio.Future[Any]"]
_under_way: WeakKeyDictionary[asyncio.AbstractEventLoop, _Calls] = WeakKeyDictionary()
_iterations: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


async def single_flight(key: Hashable, call: Callable[[], Awaitable[T]]) -> T:
    """The result of the call that is under way for this key, or of a new one.

    All callers that wait for the result share it; later callers make a new call. If one caller is
    cancelled, the call goes on for the others.
    """
    calls = _under_way.setdefault(asyncio.get_running_loop(), {})
    task = calls.get(key)
    if task is None:
        task = calls[key] = asyncio.ensure_future(call())
        task.add_done_callback(lambda done: _forget(calls, key, done))
    return await asyncio.shield(task)


def _forget(calls: _Calls, key: Hashable, done: asyncio.Future[Any]) -> None:
    del calls[key]
    if not done.cancelled():
        done.exception()  # asyncio would log it if every caller has been cancelled


def shared_task(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task for work that is done once for several triggers.

    It runs outside the context of the trigger that starts it: Airflow uses the context to choose
    the trigger's log that a line goes to. Metrics count it for that trigger's DAG.
    """
    context = contextvars.Context()
    context.run(metrics.work_for, metrics.present_dag())
    return context.run(asyncio.ensure_future, work)


async def own_loop_iteration() -> None:
    """Wait for an iteration of the event loop in which no other waiting caller goes on.

    A triggerer starts all its triggers at once. Each then signs and sends a request, which takes a
    millisecond or two; fifty of them in one iteration would hold up everything else.
    """
    async with _iterations.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
        await asyncio.sleep(0)
