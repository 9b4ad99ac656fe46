"""The limit on requests that everything in one process shares, for each connection."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iotda_provider.connection.settings import ConnectionSettings


class RateLimit:
    """Spaces requests evenly: at most ``per_second`` of them, with no burst beyond one.

    The caller sleeps by itself, so that the same object serves threads and event loops.
    """

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = 1.0 / per_second
        self._clock = clock
        self._next = 0.0
        self._lock = threading.Lock()

    def reserve(self) -> float:
        """Take the next free place; the seconds to wait for it."""
        with self._lock:
            now = self._clock()
            place = max(now, self._next)
            self._next = place + self._interval
            return place - now


_limits: dict[tuple[str, str, float], RateLimit] = {}
_limits_lock = threading.Lock()


def shared_limit(settings: ConnectionSettings) -> RateLimit | None:
    """The process-wide limit of a connection's host and caller; None where it sets no limit."""
    per_second = settings.max_requests_per_second
    if per_second is None:
        return None
    with _limits_lock:
        key = (settings.base_url, settings.login, per_second)
        return _limits.setdefault(key, RateLimit(per_second))


def _forget() -> None:
    """In a forked process: nobody is left there to let go of a lock."""
    global _limits_lock
    _limits_lock = threading.Lock()
    _limits.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
