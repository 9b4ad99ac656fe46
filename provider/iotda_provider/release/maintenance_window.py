"""Maintenance windows: when a wave may start, in a local time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from iotda_provider.models.json_text import PlainJson
from iotda_provider.models.text import what_is

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
#: The most characters of a window, and of a timezone's name.
_LONGEST, _LONGEST_ZONE = 100, 64
_TIME = re.compile(r"([0-9]{1,2}):([0-9]{2})")
_ZONE = re.compile(rf"[A-Za-z0-9_+/-]{{1,{_LONGEST_ZONE}}}")

_MINUTE = timedelta(minutes=1)
#: Every window opens within this time, even one hour a week that a clock change skips once.
_LONGEST_WAIT = timedelta(days=16)


@dataclass(frozen=True)
class MaintenanceWindow(PlainJson):
    """A span of local time on some days of the week, such as 22:00 to 05:00 on weekdays.

    Local time is that of the clock on the wall: on a day when clocks change, 02:00 to 04:00 lasts
    one or three hours. A window over midnight belongs to the day on which it begins. A window with
    two equal times lasts a whole day.

    :param start: ``HH:MM``
    :param end: ``HH:MM``, not included
    :param timezone: a name such as ``Asia/Shanghai``
    :param days: the days on which it begins
    :raises ValueError: a parameter makes no sense; the message names it
    """

    start: str
    end: str
    timezone: str = "UTC"
    days: Sequence[str] = DAYS
    _from: int = field(init=False, repr=False, compare=False, default=0)
    _to: int = field(init=False, repr=False, compare=False, default=0)

    def __post_init__(self) -> None:
        import pendulum

        object.__setattr__(self, "_from", _minutes("start", self.start))
        object.__setattr__(self, "_to", _minutes("end", self.end))
        if (self._from, self._to) == (24 * 60, 0):
            raise ValueError("start must be before the end of its day, got 24:00-00:00")
        listed: Any = (self.days,) if isinstance(self.days, str) else self.days
        days: tuple[Any, ...] = tuple(listed) if isinstance(listed, Iterable) else ()
        short = tuple(day.strip().lower()[:3] for day in days if isinstance(day, str))
        if not short or len(short) < len(days) or set(short) - set(DAYS):
            raise ValueError(f"days must be some of {', '.join(DAYS)}, got {_seen(self.days)}")
        object.__setattr__(self, "days", tuple(day for day in DAYS if day in short))
        zone: Any = self.timezone
        if not isinstance(zone, str) or not _ZONE.fullmatch(zone):
            raise ValueError(
                f"timezone must be a name of at most {_LONGEST_ZONE} characters, such as "
                f"Asia/Shanghai, got {what_is(self.timezone)}"
            )
        try:
            pendulum.timezone(self.timezone)
        except (ValueError, KeyError, OSError):
            raise ValueError(f"timezone: there is none called {self.timezone!r}") from None

    @classmethod
    def parse(cls, text: Any, timezone: str = "UTC") -> MaintenanceWindow:
        """Read ``"22:00-05:00"``, ``"mon, tue 22:00-05:00"`` or ``"mon-fri 22:00-05:00"``.

        :raises ValueError: it is something else
        """
        form = "window must look like 'mon-fri 22:00-05:00'"
        if not isinstance(text, str):
            raise ValueError(f"{form}, got {what_is(text)}")
        if len(text) > _LONGEST:
            raise ValueError(f"{form} and have at most {_LONGEST} characters, got {len(text)}")
        stripped = text.strip()
        begins = next((at for at, char in enumerate(stripped) if char.isdigit()), len(stripped))
        days, times = stripped[:begins], stripped[begins:]
        start, dash, end = (part.strip() for part in times.partition("-"))
        if (
            not dash
            or not _TIME.fullmatch(start)
            or not _TIME.fullmatch(end)
            or (days and not days[-1].isspace())
        ):
            raise ValueError(f"{form}, got {text!r}")
        return cls(start, end, timezone, _days(days) if days.strip() else DAYS)

    @classmethod
    def of(cls, value: Any, timezone: str = "UTC") -> MaintenanceWindow | None:
        """The window that a parameter means; None where it is empty: at any time.

        :raises ValueError: it is something else
        """
        if value is None or isinstance(value, MaintenanceWindow):
            return value
        if isinstance(value, str) and value.strip().lower() in ("", "none"):
            return None
        return cls.parse(value, timezone)

    def is_open(self, at: datetime) -> bool:
        """Whether this moment (with a timezone) is inside."""
        local = self._local(at)
        minute = local.hour * 60 + local.minute
        today, yesterday = DAYS[local.weekday()], DAYS[local.weekday() - 1]
        if self._from < self._to:
            return today in self.days and self._from <= minute < self._to
        late = today in self.days and minute >= self._from
        return late or (yesterday in self.days and minute < self._to)

    def opens(self, at: datetime) -> datetime:
        """The next moment at which it is open, to the minute; now, if it is open.

        If a zone's clocks skip the window again and again, it is the moment to call this again.
        """
        if self.is_open(at):
            return at
        began = moment = at.astimezone(timezone.utc).replace(second=0, microsecond=0)
        while moment - began < _LONGEST_WAIT:
            begins = moment + timedelta(minutes=self._minutes_before(moment))
            # The offset from UTC stays the same until the clocks change.
            moment = self._clock_change(moment, begins) or begins
            if self.is_open(moment):
                break
        return moment.astimezone(at.tzinfo)

    @property
    def share(self) -> float:
        """The share of a week in which it is open, above 0 and at most 1."""
        minutes = (self._to - self._from) % (24 * 60) or 24 * 60
        return min(1.0, len(self.days) * minutes / (7 * 24 * 60))

    def _minutes_before(self, at: datetime) -> int:
        """Minutes until it begins, if the clocks do not change before."""
        local = self._local(at)
        now: int = local.hour * 60 + local.minute
        week = (*DAYS[local.weekday() :], *DAYS[: local.weekday() + 1])
        begins = (24 * 60 * n + self._from for n, day in enumerate(week) if day in self.days)
        return min(begin - now for begin in begins if begin > now)

    def _clock_change(self, after: datetime, until: datetime) -> datetime | None:
        """The first moment, to the minute, at which the clocks are changed; None: they are not."""
        offset = self._local(after).utcoffset()
        while after < until:
            later = min(after + timedelta(hours=1), until)
            if self._local(later).utcoffset() != offset:
                while (minutes := (later - after) // _MINUTE) > 1:
                    middle = after + minutes // 2 * _MINUTE
                    if self._local(middle).utcoffset() == offset:
                        after = middle
                    else:
                        later = middle
                return later
            after = later
        return None

    def _local(self, at: datetime) -> Any:
        import pendulum

        if at.tzinfo is None:
            raise ValueError("a moment needs a timezone")
        return pendulum.instance(at.astimezone(timezone.utc)).in_timezone(self.timezone)

    def __str__(self) -> str:
        days = "" if tuple(self.days) == DAYS else f"{', '.join(self.days)} "
        return f"{days}{self.start}-{self.end} {self.timezone}"


def _minutes(name: str, text: Any) -> int:
    match = _TIME.fullmatch(text.strip()) if isinstance(text, str) else None
    minutes = int(match[1]) * 60 + int(match[2]) if match else -1
    if match is None or int(match[2]) > 59 or minutes > 24 * 60:
        raise ValueError(f"{name} must be a time such as 22:00, got {what_is(text)}")
    return minutes


def _seen(days: Any) -> str:
    """What was given as days, for an error."""
    items = days if isinstance(days, (list, tuple)) else [days]
    return ", ".join(map(what_is, items[:7]))


def _days(text: str) -> tuple[str, ...]:
    found: list[str] = []
    for part in text.lower().replace(",", " ").split():
        first, dash, last = part.partition("-")
        ends = [name.strip()[:3] for name in ((first, last) if dash else (first,))]
        if set(ends) - set(DAYS):
            raise ValueError(f"days must be some of {', '.join(DAYS)}, got {text!r}")
        start, end = DAYS.index(ends[0]), DAYS.index(ends[-1])
        found += DAYS[start : end + 1] if start <= end else (*DAYS[start:], *DAYS[: end + 1])
    return tuple(dict.fromkeys(found))
