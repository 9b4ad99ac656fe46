"""The limit on requests per second, shared by all users of a connection in a process."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from iotda_provider.connection.settings import ConnectionSettings


@dataclass
class Turn:
    """A reserved moment.

    :param moment: when it is, by the limit's clock
    :param seconds: the seconds until then when it was reserved
    :param seen: how many urgent requests had been let in before that
    """

    moment: float
    seconds: float
    seen: int


class RateLimit:
    """Spaces requests evenly: at most ``per_second``, without bursts.

    The caller sleeps itself, so one object serves threads and event loops. An urgent request takes
    the next moment, and the requests that wait are put off by one interval each.
    """

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = 1.0 / per_second
        self._clock = clock
        self._next = 0.0
        self._lock = threading.Lock()
        #: The moments that urgent requests took from waiting ones, and how many such are forgotten.
        self._urgent: list[float] = []
        self._forgotten = 0

    def reserve(self) -> float:
        """Reserve the next free moment; the seconds to wait until then."""
        return self.reserve_turn().seconds

    def reserve_turn(self, *, urgent: bool = False) -> Turn:
        """Reserve the next free moment.

        An urgent request gets the very next moment, even if another request waits for it.

        Whoever has waited for it asks :meth:`put_off` before going on.
        """
        with self._lock:
            now = self._clock()
            moment = max(now, self._next)
            if self._next <= now:  # nobody waits
                self._forgotten += len(self._urgent)
                self._urgent.clear()
            elif urgent:
                waiting = math.floor((self._next - now) / self._interval)
                moment = self._next - waiting * self._interval
                if self._urgent:
                    moment = max(moment, self._urgent[-1] + self._interval)
                self._urgent.append(moment)
            self._next = max(now, self._next) + self._interval
            return Turn(moment, max(0.0, moment - now), self._forgotten + len(self._urgent))

    def put_off(self, turn: Turn) -> float:
        """The seconds to wait further, because urgent requests have come first since."""
        with self._lock:
            began = turn.moment
            for taken in self._urgent[max(0, turn.seen - self._forgotten) :]:
                if taken < turn.moment + self._interval / 2:
                    turn.moment += self._interval
            turn.seen = self._forgotten + len(self._urgent)
            return turn.moment - began


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


os.register_at_fork(after_in_child=_forget)
