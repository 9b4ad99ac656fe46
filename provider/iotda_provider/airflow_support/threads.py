"""Threads for blocking calls from an event loop: a call that hangs holds up nobody else.

asyncio's default pool has a few threads, which the lookup of host names needs, too; asgiref's has
one. A call that never returns would keep one of them for ever.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Executor, Future
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async

from iotda_provider.unbroken import to_the_end

T = TypeVar("T")


class _ThreadPerCall(Executor):
    """Starts a thread for each call. It ends with the call, and a process does not wait for it."""

    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = function(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - it is the caller's
                future.set_exception(error)
            else:
                future.set_result(result)

        threading.Thread(target=work, name="iotda-blocking-call", daemon=True).start()
        return future


_thread_per_call = _ThreadPerCall()


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """The result of a blocking call, in a thread of its own, which has this task's context.

    The call goes on to its end where this is cancelled. It is made through asgiref: before Airflow
    3.3 Airflow's own functions find their event loop only from a thread that asgiref knows.
    """
    executor: Any = _thread_per_call  # asgiref's annotation asks for one of the pools
    call = sync_to_async(function, thread_sensitive=False, executor=executor)
    return await to_the_end(call(*args))


class _Line:
    """Those that wait for the same thing.

    :ivar users: how many wait or are served
    """

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.users = 0


_lines: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, _Line]] = WeakKeyDictionary()


async def one_at_a_time(key: Hashable, function: Callable[..., T], *args: Any) -> T:
    """:func:`in_thread`, one call after the other for each key of an event loop.

    So what hangs holds one thread, however often it is asked. Whoever is cancelled before his turn,
    by ``asyncio.wait_for`` for example, is never served.

    :param key: what is asked: a path, or the owner of the call
    """
    lines = _lines.setdefault(asyncio.get_running_loop(), {})
    line = lines.setdefault(key, _Line())
    line.users += 1

    def leave() -> None:
        line.users -= 1
        if not line.users:
            del lines[key]

    try:
        await line.turn.acquire()
    except BaseException:
        leave()
        raise

    async def serve() -> T:
        try:
            return await in_thread(function, *args)
        finally:
            line.turn.release()
            leave()

    return await to_the_end(serve())
