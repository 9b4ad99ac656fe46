"""The number of devices that had started at earlier times, which later counts do not tell."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_STEPS = 128

_Points = tuple[tuple[float, int], ...]


@dataclass(frozen=True)
class History:
    """The number of starts as a step function of time, for some horizons (ages in seconds).

    Its size is bounded: for each horizon T it keeps about two points for every T/128 (260 points,
    6 kB of JSON). Other points are dropped, so that :meth:`starts_by` returns the true number or an
    *earlier, smaller* one. A rule that uses it therefore decides at most T/128 later than with all
    points, and never earlier. Before the first look no device counts as started.

    :param points: for each horizon, (time in seconds since the epoch, starts so far), oldest first
    """

    points: Mapping[float, _Points] = field(default_factory=dict)

    @classmethod
    def empty(cls, horizons: Iterable[float]) -> History:
        """A history without points for these horizons, in seconds."""
        return cls({float(horizon): () for horizon in sorted(set(horizons))})

    def covering(self, horizons: Iterable[float]) -> History:
        """This history for exactly these horizons; a new one has no points yet."""
        return History({**self.empty(horizons).points, **self._only(horizons)})

    def _only(self, horizons: Iterable[float]) -> dict[float, _Points]:
        return {h: self.points[h] for h in map(float, horizons) if h in self.points}

    def after(self, time: float, starts: int) -> History:
        """The history after one more look. An old look counts as one at the latest time."""
        return History(
            {horizon: _seen(kept, horizon, time, starts) for horizon, kept in self.points.items()}
        )

    def starts_by(self, time: float, horizon: float) -> int | None:
        """The fewest starts there can have been by ``time``; None: unknown."""
        kept = self.points.get(float(horizon))
        if not kept:
            return None
        index = bisect_right(kept, (time, math.inf))
        return kept[index - 1][1] if index else 0

    def starts_within(self, now: float, horizon: float) -> int | None:
        """The most starts there can have been in the last ``horizon`` seconds; None: unknown."""
        before = self.starts_by(now - horizon, horizon)
        return None if before is None else max(0, self.points[float(horizon)][-1][1] - before)

    def not_before(self, time: float) -> History:
        """This history, with ``time`` in place of every earlier time."""
        return History(
            {
                horizon: tuple((max(at, time), count) for at, count in kept)
                for horizon, kept in self.points.items()
            }
        )

    def to_json(self) -> list[list[Any]]:
        """As plain JSON: ``[[horizon, [[time, starts], ...]], ...]``."""
        return [
            [horizon, [[time, count] for time, count in kept]]
            for horizon, kept in self.points.items()
        ]

    @classmethod
    def from_json(cls, data: Iterable[Any]) -> History:
        """Read what :meth:`to_json` wrote.

        :raises ValueError: it is not a history
        """
        try:
            points = {
                float(horizon): tuple((float(time), int(count)) for time, count in kept)
                for horizon, kept in data
            }
        except (TypeError, OverflowError) as error:
            raise ValueError(f"not a history of starts: {error}") from error
        for kept in points.values():
            counts = [count for _, count in kept]
            if (
                any(not math.isfinite(time) for time, _ in kept)
                or list(kept) != sorted(kept)
                or counts != sorted(counts)
                or any(count < 0 for count in counts)
            ):
                raise ValueError("not a history of starts: its times are out of order")
        return cls(points)


def _seen(kept: _Points, horizon: float, time: float, starts: int) -> _Points:
    if kept:
        time = max(time, kept[-1][0])
        if starts <= kept[-1][1]:
            return _forget(kept, time - horizon)
        # Without the dropped point, the smaller number before it holds for its time, too.
        if len(kept) > 1 and time - kept[-2][0] < horizon / _STEPS:
            kept = kept[:-1]
    return _forget((*kept, (time, starts)), time - horizon)


def _forget(kept: _Points, before: float) -> _Points:
    """Drop the points before ``before``, but keep the one that still holds at ``before``."""
    index = bisect_right(kept, (before, math.inf))
    return kept[max(0, index - 1) :]
