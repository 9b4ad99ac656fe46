"""Threads for blocking calls: a call that hangs holds up no event loop, and no guard in a worker.

asyncio's default pool has a few threads, which the lookup of host names needs, too; asgiref's has
one. A call that never returns would keep one of them for ever.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import threading
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async

from iotda_provider.airflow_support.supervisor import finish_even_if_cancelled

T = TypeVar("T")


def _settle(future: Future[T], call: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - it is the caller's
        future.set_exception(error)
    else:
        future.set_result(result)


def _start_thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="iotda-blocking-call", daemon=True).start()


class InTurn:
    """Makes blocking calls one after the other in a thread, for somebody who need not wait for
    them. A process does not wait for that thread at its end."""

    def __init__(self) -> None:
        self._calls: deque[Callable[[], None] | None] = deque()
        self._tickets: SimpleQueue[None] = SimpleQueue()  # one for each call
        self._has_begun = False

    def begin(self, function: Callable[..., T], *args: Any, first: bool = False) -> Future[T]:
        """Make a call once those before it have ended; it may be cancelled until then.

        :param first: before all that have not begun yet
        """
        future: Future[T] = Future()
        call = functools.partial(_settle, future, functools.partial(function, *args))
        (self._calls.appendleft if first else self._calls.append)(call)
        self._tickets.put(None)
        if not self._has_begun:
            self._has_begun = True
            _start_thread(self._work)
        return future

    def end(self) -> None:
        """End the thread after all that was begun; nothing may be begun afterwards."""
        self._calls.append(None)
        self._tickets.put(None)

    def _work(self) -> None:
        while True:
            self._tickets.get()
            if (call := self._calls.popleft()) is None:
                return
            call()


class _ThreadPerCall(Executor):
    """Starts a thread for each call. It ends with the call, and a process does not wait for it."""

    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        call = functools.partial(function, *args, **kwargs)
        _start_thread(lambda: _settle(future, call))
        return future


_thread_per_call = _ThreadPerCall()


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """The result of a blocking call, in a thread of its own, which has this task's context.

    The call goes on to its end where this is cancelled. It is made through asgiref: before Airflow
    3.3 Airflow's own functions find their event loop only from a thread that asgiref knows.
    """
    executor: Any = _thread_per_call  # asgiref's annotation asks for one of the pools
    call = sync_to_async(function, thread_sensitive=False, executor=executor)
    return await finish_even_if_cancelled(call(*args))


async def importing(function: Callable[..., T], *args: Any) -> T:
    """The result of a function that imports modules, in a thread."""
    return await in_thread(_without_collections, function, args)


def _without_collections(function: Callable[..., T], args: tuple[Any, ...]) -> T:
    """Call it while Python's garbage collector rests.

    What an import makes stays. The collector would look at all of it again and again, and at last
    at every object of the process, for half a second in which no other thread runs.
    """
    if not gc.isenabled() or gc.get_freeze_count():  # somebody else takes care of that
        return function(*args)
    gc.disable()
    try:
        return function(*args)
    finally:
        # What is there now is old: that is all that these two do, and it takes no time.
        gc.freeze()
        gc.unfreeze()
        gc.enable()


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

    return await finish_even_if_cancelled(serve())
