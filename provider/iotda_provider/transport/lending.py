"""A session that is shared by API calls, and closed once none uses it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Generic, TypeVar

S = TypeVar("S")


class Lending(Generic[S]):
    """Lends one session to any number of calls at a time, in threads or on an event loop.

    It closes no session itself, since closing may have to be awaited: its methods tell the caller
    when to close one.

    :param make: opens a session
    """

    def __init__(self, make: Callable[[], S]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._current: S | None = None
        self._calls: Counter[S] = Counter()
        self._is_kept = True

    @property
    def current(self) -> S:
        """The session that the next call gets; opened if there is none."""
        with self._lock:
            if self._current is None:
                self._current = self._make()
            return self._current

    def take(self) -> S:
        """Borrow the session for one call, which then calls :meth:`give_back`."""
        with self._lock:
            if self._current is None:
                self._current = self._make()
            self._calls[self._current] += 1
            return self._current

    def give_back(self, session: S) -> bool:
        """End a call; whether the caller has to close its session now."""
        with self._lock:
            self._calls[session] -= 1
            if self._calls[session]:
                return False
            del self._calls[session]
            if not self._is_kept and session is self._current:
                self._current = None
            return session is not self._current

    def replace(self, session: S) -> None:
        """Lend a new session from now on: a connection of this one hangs, and others may, too.

        Call it while the session is borrowed; the last :meth:`give_back` closes it.
        """
        with self._lock:
            if session is self._current:
                self._current = None

    def end(self) -> S | None:
        """Keep no session any more; returns the one that the caller has to close now, if any.

        A later call gets a session of its own, which is closed at the call's end.
        """
        with self._lock:
            self._is_kept = False
            session = self._current
            if session is None or self._calls[session]:
                return None
            self._current = None
            return session
