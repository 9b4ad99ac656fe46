"""A session that calls borrow: it is closed when nobody uses it any more, and never before."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Generic, TypeVar

S = TypeVar("S")


class Lending(Generic[S]):
    """Lends one session to any number of calls at a time, in threads or on an event loop.

    It closes none itself, since that may have to be awaited: whoever is told to does so.

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
        """The session that the next call gets, opened where there is none."""
        with self._lock:
            if self._current is None:
                self._current = self._make()
            return self._current

    def take(self) -> S:
        """Borrow it for one call; :meth:`give_back` follows."""
        with self._lock:
            if self._current is None:
                self._current = self._make()
            self._calls[self._current] += 1
            return self._current

    def give_back(self, session: S) -> bool:
        """A call has ended; whether its session is to be closed now."""
        with self._lock:
            self._calls[session] -= 1
            if self._calls[session]:
                return False
            del self._calls[session]
            if not self._is_kept and session is self._current:
                self._current = None
            return session is not self._current

    def replace(self, session: S) -> None:
        """One of its connections has hung, and others may: whoever borrows next gets another.

        To be called while it is borrowed, so that it is closed when the last call has ended.
        """
        with self._lock:
            if session is self._current:
                self._current = None

    def end(self) -> S | None:
        """Keep none any more; the one that is to be closed now, if any.

        A call that comes later gets one of its own, since it may have begun before.
        """
        with self._lock:
            self._is_kept = False
            session = self._current
            if session is None or self._calls[session]:
                return None
            self._current = None
            return session
