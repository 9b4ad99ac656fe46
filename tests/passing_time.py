"""Time that passes only while nothing works: the same looks at the same moments, on any machine."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from typing import Any

import pytest

from iotda_provider.airflow_support import threads
from iotda_provider.transport.asynchronous import AsyncTransport

#: Seconds by the real clock after which something is taken to hang, and holds up no time any more.
HANGS = 10.0


class Sleepers:
    """In the place of ``asyncio``, for those that sleep: the earliest wakes first.

    Before time passes, all that is ready on the event loop has run, and every thread and request
    that was begun for it has ended.

    :param now: the moment, in seconds
    :param go_to: lets time pass until a moment
    """

    def __init__(
        self,
        now: Callable[[], float],
        go_to: Callable[[float], None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self._now, self._go_to = now, go_to
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sleeping: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._passing: asyncio.Task[None] | None = None
        self._working: set[object] = set()
        self._watch_work(monkeypatch)

    def __getattr__(self, name: str) -> Any:
        """Everything else of it."""
        return getattr(asyncio, name)

    async def sleep(self, seconds: float) -> None:
        """Wait until so much time has passed."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # whoever slept on an earlier one is gone
            self._loop, self._sleeping, self._passing = loop, [], None
        wakes = loop.create_future()
        until = self._now() + max(0.0, seconds)
        heapq.heappush(self._sleeping, (until, next(self._numbers), wakes))
        if self._passing is None or self._passing.done():
            self._passing = loop.create_task(self._pass())
        await wakes

    async def _pass(self) -> None:
        while self._sleeping:
            await self._until_nothing_works()
            until, _, wakes = heapq.heappop(self._sleeping)
            if not wakes.done():  # it is, if its task was cancelled
                try:
                    self._go_to(max(until, self._now()))
                except BaseException as error:  # noqa: BLE001 - whoever sleeps is killed
                    wakes.set_exception(error)
                else:
                    wakes.set_result(None)

    async def _until_nothing_works(self) -> None:
        ready: Any = getattr(asyncio.get_running_loop(), "_ready")  # noqa: B009 - no public name
        began = time.monotonic()
        while self._working or ready:
            if time.monotonic() - began > HANGS:
                self._working.clear()
            # An iteration of its own for all that is ready; a moment for what is not.
            await asyncio.sleep(0 if ready else 0.0005)

    def _watch_work(self, monkeypatch: pytest.MonkeyPatch) -> None:
        working = self._working
        run_in_executor = asyncio.BaseEventLoop.run_in_executor

        def run(*args: Any) -> Any:
            """Threads that a task waits for: ours, Airflow's and asyncio's."""
            future = run_in_executor(*args)
            working.add(future)
            future.add_done_callback(working.discard)
            return future

        monkeypatch.setattr(asyncio.BaseEventLoop, "run_in_executor", run)

        begin, settle = threads.CallQueue.begin, threads._settle

        def watched_begin(*args: Any, **options: Any) -> Any:
            """Calls that are made one after the other."""
            future: Any = begin(*args, **options)
            working.add(future)
            if hasattr(future, "has_settled"):
                working.discard(future)
            return future

        def watched_settle(future: Any, call: Callable[[], Any]) -> None:
            try:
                settle(future, call)
            finally:  # whoever waits for it has been told
                future.has_settled = True
                working.discard(future)

        monkeypatch.setattr(threads.CallQueue, "begin", watched_begin)
        monkeypatch.setattr(threads, "_settle", watched_settle)

        def watch_exchange(name: str) -> None:
            real = getattr(AsyncTransport, name)

            async def exchange(*args: Any) -> Any:
                token = object()
                working.add(token)
                try:
                    return await real(*args)
                finally:
                    working.discard(token)

            monkeypatch.setattr(AsyncTransport, name, exchange)

        watch_exchange("send")
        watch_exchange("read")
