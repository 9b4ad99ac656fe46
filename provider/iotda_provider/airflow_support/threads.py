"""Threads for blocking calls: a call that hangs blocks neither an event loop nor a guard.

The calls do not use asyncio's or asgiref's pool: these have few threads, which DNS lookups need,
too, and a call that never returns would keep one of them for ever.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import threading
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Executor, Future
from importlib import import_module
from queue import SimpleQueue
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from iotda_provider.airflow_support.supervisor import finish_even_if_cancelled

T = TypeVar("T")


def no_exit(error: BaseException) -> Exception:
    """An error in the place of one that would end the event loop, and all triggers with it.

    Such as the ``SystemExit`` of a user's code that calls ``sys.exit()``.
    """
    return RuntimeError(f"it ended by {error!r}")


def _settle(future: Future[T], call: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except Exception as error:  # noqa: BLE001 - raised in the caller
        future.set_exception(error)
    except BaseException as error:  # noqa: BLE001
        future.set_exception(no_exit(error))
    else:
        future.set_result(result)


def start_thread(work: Callable[[], None]) -> None:
    """Begin a blocking call in a thread that the process does not wait for when it ends."""
    threading.Thread(target=work, name="iotda-blocking-call", daemon=True).start()


class CallQueue:
    """Makes blocking calls in one thread, one after the other; the caller need not wait.

    The process does not wait for that thread when it ends.
    """

    def __init__(self) -> None:
        self._calls: deque[Callable[[], None] | None] = deque()
        self._tickets: SimpleQueue[None] = SimpleQueue()  # one for each call
        self._has_begun = False
        self._urgent: set[Future[Any]] = set()

    def begin(self, function: Callable[..., T], *args: Any, first: bool = False) -> Future[T]:
        """Queue a call; its future can be cancelled until the call begins.

        :param first: put it before all calls that have not begun
        """
        future: Future[T] = Future()
        call = functools.partial(_settle, future, functools.partial(function, *args))
        if first:
            self._urgent.add(future)
            future.add_done_callback(self._urgent.discard)
        (self._calls.appendleft if first else self._calls.append)(call)
        self._tickets.put(None)
        if not self._has_begun:
            self._has_begun = True
            start_thread(self._work)
        return future

    @property
    def is_urgent(self) -> bool:
        """Whether a call waits, or is made, that was put before all others."""
        return bool(self._urgent)

    def end(self) -> None:
        """End the thread after all queued calls; no call may be queued afterwards."""
        self._calls.append(None)
        self._tickets.put(None)

    def _work(self) -> None:
        while True:
            self._tickets.get()
            if (call := self._calls.popleft()) is None:
                return
            call()


class _ThreadPerCall(Executor):
    """Starts a thread for each call; the process does not wait for it when it ends."""

    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        call = functools.partial(function, *args, **kwargs)
        start_thread(lambda: _settle(future, call))
        return future


_thread_per_call = _ThreadPerCall()
_asgiref_is_loaded = False


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """The result of a blocking call, made in a thread of its own with this task's context.

    If the caller is cancelled, the call still runs to its end. asgiref starts it: before 3.3,
    Airflow's functions find their event loop only from asgiref's threads.
    """
    return await finish_even_if_cancelled(_in_thread(function, args))


async def _in_thread(function: Callable[..., T], args: tuple[Any, ...]) -> T:
    global _asgiref_is_loaded
    executor: Any = _thread_per_call  # asgiref's annotation demands a pool
    if not _asgiref_is_loaded:  # an import here would hold up Airflow's event loop
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(executor, import_module, "asgiref.sync")
        _asgiref_is_loaded = True
    from asgiref.sync import sync_to_async

    return await sync_to_async(function, thread_sensitive=False, executor=executor)(*args)


async def in_import_thread(function: Callable[..., T], *args: Any) -> T:
    """The result of a function that imports modules, in a thread."""
    return await in_thread(_without_collections, function, args)


@functools.cache
def _is_frozen() -> bool:
    """Whether the process has frozen objects; asked once, as Python counts them one by one."""
    return gc.get_freeze_count() > 0


def _without_collections(function: Callable[..., T], args: tuple[Any, ...]) -> T:
    """Call the function with Python's garbage collector switched off.

    Imported objects stay. The collector would examine them again and again, and at last all
    objects of the process: half a second in which no other thread runs.
    """
    if not gc.isenabled() or _is_frozen():  # another part of the process controls it
        return function(*args)
    gc.disable()
    try:
        return function(*args)
    finally:
        # These two move all objects to the oldest generation, which takes no time.
        gc.freeze()
        gc.unfreeze()
        gc.enable()


class _Line:
    """The callers that wait for the same key.

    :ivar users: how many wait or are served
    """

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.users = 0


_lines: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, _Line]] = WeakKeyDictionary()


async def one_at_a_time(key: Hashable, function: Callable[..., T], *args: Any) -> T:
    """:func:`in_thread`, but for each key of an event loop one call after the other.

    So a call that hangs holds one thread, however often it is repeated. A caller that is cancelled
    before its turn, for example by ``asyncio.wait_for``, makes no call.

    :param key: the resource that the call uses, such as a path
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
