"""Starts fifty triggers at once, in a process in which nothing of ours is loaded, and tells how
long they have kept their event loop at most, or what they have done on its thread that may block.

It reads cases from its input, ``{"path", "arguments", "wanted"}`` on a line. Each runs in a fork of
this process, which has loaded what a triggerer has, until another line comes; then the answer is
printed on a line as JSON. The first line says that this process is ready.
"""

from __future__ import annotations

import asyncio
import functools
import importlib._bootstrap
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from typing import Any

import airflow.jobs.triggerer_job_runner  # noqa: F401 - what a triggerer has loaded
from sqlalchemy.orm import configure_mappers

configure_mappers()  # by its first question to the database, on Airflow 2

TRIGGERS = 50
#: Turns of the event loop in a row without work, after which they have judged what they have read.
QUIET_TURNS = 50
#: Seconds after which that is not waited for any more.
LONGEST = 0.5
#: Seconds of work in a turn that is without: measuring it.
NO_WORK = 0.0005
requests = open(0, "rb", buffering=0)  # noqa: SIM115 - read by this process and its forks in turn
answers = os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the triggers' own lines, which nobody reads


class Watch:
    """What the event loop's thread does that may block: imports, files, and locks that are held.

    Made on that thread, before anything of ours is imported.
    """

    #: Python's own names of them (PEP 578).
    EVENTS = frozenset(
        (
            *("import", "open", "os.listdir", "os.scandir", "os.mkdir", "os.remove", "os.rename"),
            *("sqlite3.connect", "socket.getaddrinfo", "socket.gethostbyname", "subprocess.Popen"),
        )
    )

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._is_on = self._is_starting = False
        self.seen: list[str] = []
        sys.addaudithook(self._audit)
        # What Python does not tell of.
        for home, names in (
            (os, ("stat", "lstat", "access", "readlink")),
            (importlib._bootstrap._ModuleLock, ("acquire",)),  # type: ignore[attr-defined]
            (threading.Condition, ("wait",)),
            (threading.Thread, ("join",)),
        ):
            for name in names:
                setattr(home, name, self._told(name, getattr(home, name)))
        self._start = threading.Thread.start
        threading.Thread.start = lambda thread: self._started(thread)  # type: ignore[method-assign]
        self._make_lock = threading.Lock
        threading.Lock = self._lock  # type: ignore[assignment, misc]

    def begin(self) -> None:
        """What was done before is Airflow's."""
        self._is_on = True

    def tell(self, what: str) -> None:
        """Note something, if it is done on the event loop's thread."""
        if not self._is_on or threading.get_ident() != self._thread:
            return
        self._is_on = False  # or what this reads would be told, too
        frames = traceback.StackSummary.extract(
            traceback.walk_stack(sys._getframe(1)), limit=15, lookup_lines=False
        )
        self.seen.append(" < ".join([what, *(f"{f.filename}:{f.lineno}" for f in frames)]))
        self._is_on = True

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in self.EVENTS:
            self.tell(f"{event} {arguments[:1]}")

    def _told(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(real)
        def call(*args: Any, **kwargs: Any) -> Any:
            if name != "wait" or not (self._is_starting or 0 in args):  # wait(0) does not wait
                self.tell(f"{name} {args[:1]}")
            return real(*args, **kwargs)

        return call

    def _started(self, thread: threading.Thread) -> None:
        """Whoever starts a thread waits until it runs, as for the next turn of any other."""
        is_here = threading.get_ident() == self._thread
        self._is_starting = is_here or self._is_starting
        try:
            self._start(thread)
        finally:
            self._is_starting = not is_here and self._is_starting

    def _lock(self) -> Any:
        return Lock(self._make_lock(), self)


class Lock:
    """A lock that tells if the event loop's thread has to wait for whoever works while holding it.

    A few lines of Python, during which another thread got its turn, are no work.
    """

    def __init__(self, lock: Any, watch: Watch) -> None:
        self._lock = lock
        self._watch = watch

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if not blocking or timeout >= 0:
            return bool(self._lock.acquire(blocking, timeout))
        if not self._lock.acquire(True, 20 * sys.getswitchinterval()):
            self._watch.tell("a lock that is held")
            self._lock.acquire()
        return True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lock, name)

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


async def start(path: str, arguments: dict[str, Any], wanted: str) -> Any:
    """Start them.

    :param wanted: ``gap``: the longest time between two moments at which the loop went on, in
        seconds; of a gap no more counts than this process has worked in it: what else the machine
        does is no fault of the triggers. ``blocking``: what they have done that may block
    """
    enough, is_quiet = asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().add_reader(requests, enough.set)
    watch = Watch() if wanted == "blocking" else None
    gaps: list[float] = []

    async def tick() -> None:
        quiet = 0
        while True:
            began, worked = time.monotonic(), time.process_time()
            await asyncio.sleep(0.001)
            work = time.process_time() - worked
            gaps.append(min(time.monotonic() - began, work))
            quiet = quiet + 1 if enough.is_set() and work < NO_WORK else 0
            if quiet == QUIET_TURNS:
                is_quiet.set()

    async def run(trigger: Any) -> None:
        async for _ in trigger.run():
            return

    ticking = asyncio.ensure_future(tick())
    await asyncio.sleep(0.01)
    gaps.clear()
    module, _, name = path.rpartition(".")
    made = getattr(import_module(module), name)
    if watch is not None:
        watch.begin()
    running = [asyncio.ensure_future(run(made(**arguments))) for _ in range(TRIGGERS)]
    await enough.wait()
    asyncio.get_running_loop().remove_reader(requests)
    await asyncio.wait([asyncio.ensure_future(is_quiet.wait())], timeout=LONGEST)
    answer = watch.seen if watch is not None else max(gaps)
    for task in (ticking, *running):
        task.cancel()
    return answer


def in_a_fork(path: str, arguments: dict[str, Any], wanted: str) -> None:
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return
    if "seconds" in arguments:
        arguments = {"delta": timedelta(seconds=arguments["seconds"])}
    try:
        loop = asyncio.new_event_loop()
        answer = loop.run_until_complete(start(path, arguments, wanted))
    except BaseException as error:  # noqa: BLE001 - the test shows it
        answer = repr(error)
    print(json.dumps(answer), file=answers, flush=True)
    os._exit(0)


if __name__ == "__main__":
    print("ready", file=answers, flush=True)
    while line := requests.readline():
        in_a_fork(**json.loads(line))
        requests.readline()  # the one that has ended it
