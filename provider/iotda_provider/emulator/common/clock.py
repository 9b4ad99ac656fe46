"""Virtual time: real time multiplied by a speed, plus what was advanced by hand."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime, timezone

MICRO = 1_000_000
# Ids begin with the time in 32 bits, so virtual time ends in 2106, in seconds since 1970.
END_OF_TIME = 2**32 - 1
BASIC_FORMAT = "%Y%m%dT%H%M%SZ"

_BASIC = re.compile(r"[0-9]{8}T[0-9]{6}Z")


def to_micro(seconds: float) -> int:
    """Seconds as whole microseconds, the unit in which the emulator counts time."""
    return round(seconds * MICRO)


class Clock:
    """Tells the virtual time in microseconds since the emulated platform began.

    Whole microseconds rather than seconds as a float, so that the same calls at the same virtual
    times give the same state on every machine.

    :param speed: virtual seconds per real second; 0 means that time moves only by ``advance``
    :param now: the virtual time to begin at
    :param end: the virtual time at which it stands still
    :param real: the source of real time in seconds; must never run backwards
    """

    def __init__(
        self,
        speed: float = 1.0,
        now: int = 0,
        real: Callable[[], float] = time.monotonic,
        end: int = 1 << 62,
    ) -> None:
        self.speed = speed
        self._real = real
        self._base = now
        self._end = end
        self._since = real()

    def now(self) -> int:
        """The virtual time, in microseconds."""
        passed = int((self._real() - self._since) * self.speed * MICRO)
        return min(self._base + passed, self._end)

    def advance(self, micro: int) -> int:
        """Move forward; returns the new time."""
        if micro < 0:
            raise ValueError("time only moves forward")
        self._base += micro
        return self.now()


def basic(epoch: float) -> str:
    """A moment as IoTDA writes most of its times: ``20151212T121212Z``."""
    return datetime.fromtimestamp(epoch, timezone.utc).strftime(BASIC_FORMAT)


def millis(epoch: float) -> str:
    """A moment as IoTDA writes connection times: ``2015-12-12T12:12:12.000Z``."""
    moment = datetime.fromtimestamp(epoch, timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def parse_basic(text: str) -> float:
    """Read ``20151212T121212Z``.

    :raises ValueError: it is something else
    """
    # strptime alone takes fewer digits, and those of any script.
    if not _BASIC.fullmatch(text):
        raise ValueError("must be a time like 20151212T121212Z")
    return datetime.strptime(text, BASIC_FORMAT).replace(tzinfo=timezone.utc).timestamp()
