"""The limit on requests per second, shared by all users of a connection in a process."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iotda_provider.connection.settings import ConnectionSettings


class RateLimit:
    """Spaces requests evenly: at most ``per_second``, without bursts.

    The caller sleeps itself, so one object serves threads and event loops.
    """

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = 1.0 / per_second
        self._clock = clock
        self._next = 0.0
        self._lock = threading.Lock()

    def reserve(self) -> float:
        """Reserve the next free moment; the seconds to wait until then."""
        with self._lock:
            now = self._clock()
            moment = max(now, self._next)
            self._next = moment + self._interval
            return moment - now


_limits: dict[tuple[str, str, float], RateLimit] = {}
_limits_lock = threading.Lock()


def shared_limit(settings: ConnectionSettings) -> RateLimit | None:
    """The process-wide limit for a connection's host and caller; None: no limit is set."""
    per_second = settings.max_requests_per_second
    if per_second is None:
        return None
    with _limits_lock:
        key = (settings.base_url, settings.login, per_second)
        return _limits.setdefault(key, RateLimit(per_second))


def _forget() -> None:
    """Start anew in a forked process: the threads that hold locks do not exist there."""
    global _limits_lock
    _limits_lock = threading.Lock()
    _limits.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
