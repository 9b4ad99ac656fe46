"""Maintenance windows: when a wave may start, in the local time of those whom it concerns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WINDOW = re.compile(
    r"(?:([a-z, -]+?)\s+)?(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})", re.IGNORECASE
)

_MINUTE = timedelta(minutes=1)
#: Days in which every window opens, also one of an hour a week that clocks skip for once.
_LONGEST_WAIT = timedelta(days=16)


@dataclass(frozen=True)
class MaintenanceWindow:
    """A span of local time on some days of the week, such as 22:00 to 05:00 on weekdays.

    Local means by the clock on the wall: on a day when clocks change, 02:00 to 04:00 is as long as
    it is there. A window over midnight belongs to the day on which it begins; one whose times are
    equal lasts a whole day.

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
        days = (self.days,) if isinstance(self.days, str) else tuple(self.days)
        short = tuple(str(day).strip().lower()[:3] for day in days)
        if not short or set(short) - set(DAYS):
            raise ValueError(f"days must be some of {', '.join(DAYS)}, got {self.days!r}")
        object.__setattr__(self, "days", tuple(day for day in DAYS if day in short))
        try:
            pendulum.timezone(self.timezone)
        except (ValueError, KeyError, OSError) as error:
            raise ValueError(f"timezone: there is none called {self.timezone!r}") from error

    @classmethod
    def parse(cls, text: str, timezone: str = "UTC") -> MaintenanceWindow:
        """Read ``"22:00-05:00"``, ``"mon, tue 22:00-05:00"`` or ``"mon-fri 22:00-05:00"``.

        :raises ValueError: it is something else
        """
        match = _WINDOW.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"window must look like 'mon-fri 22:00-05:00', got {text!r}")
        start, end = f"{match[2]}:{match[3]}", f"{match[4]}:{match[5]}"
        return cls(start, end, timezone, _days(match[1]) if match[1] else DAYS)

    @classmethod
    def of(cls, value: Any, timezone: str = "UTC") -> MaintenanceWindow | None:
        """The window that a parameter means; None where it is empty: at any time.

        :raises ValueError: it is something else
        """
        if value is None or isinstance(value, MaintenanceWindow):
            return value
        if str(value).strip().lower() in ("", "none"):
            return None
        return cls.parse(str(value), timezone)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON: its arguments."""
        return {
            "start": self.start,
            "end": self.end,
            "timezone": self.timezone,
            "days": list(self.days),
        }

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
        """The moment at which it is open next: this one, where it is; to the minute.

        Should a zone's clocks skip it again and again, it is the moment to ask again.
        """
        if self.is_open(at):
            return at
        began = moment = at.astimezone(timezone.utc).replace(second=0, microsecond=0)
        while moment - began < _LONGEST_WAIT:
            begins = moment + timedelta(minutes=self._minutes_before(moment))
            # What the clock on the wall says holds until it is put on or back.
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
        """Minutes until it begins, were the clocks not changed meanwhile."""
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


def _minutes(name: str, text: str) -> int:
    match = re.fullmatch(r"(\d{1,2}):(\d{2})", str(text).strip())
    if match is None or int(match[1]) > 24 or int(match[2]) > 59:
        raise ValueError(f"{name} must be a time such as 22:00, got {text!r}")
    minutes = int(match[1]) * 60 + int(match[2])
    if minutes > 24 * 60:
        raise ValueError(f"{name} must be a time such as 22:00, got {text!r}")
    return minutes


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
