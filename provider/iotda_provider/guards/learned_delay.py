"""Learns from recorded delays how late failures report, and tests afterwards whether it held."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable
from itertools import chain, pairwise
from typing import Any

from iotda_provider.guards.delay_record import Delay
from iotda_provider.models import checks
from iotda_provider.models.heavy_libraries import special

LEAST_DELAYS = 20
#: The chance that the band is somewhere below the truth.
_NOT_COVERED = 0.05
#: The curve may lie above the band by this part of its value, so that it needs fewer knots.
_NEAR = 0.03
_MOST_DELAYS = 100_000

_Knots = list[tuple[float, float]]


def band(delays: int) -> float:
    """ε of the one-sided 95 % band: sqrt(ln(1/0.05)/(2m))."""
    return math.sqrt(math.log(1 / _NOT_COVERED) / (2 * delays))


def by_release(delays: object) -> list[list[float]]:
    """The sorted delays of each release, from those of one release or of a list of releases.

    :raises ValueError: it is something else, or a delay makes no sense
    """
    expected = "a list of delays in seconds, or a list of such lists"
    if isinstance(delays, (str, bytes, dict)) or not isinstance(delays, Iterable):
        checks.refuse("delays", expected, delays)
    given = list(delays)
    is_nested = any(isinstance(one, Iterable) and not isinstance(one, str) for one in given)
    releases: list[list[float]] = []
    for release in given if is_nested else [given]:
        if isinstance(release, (str, bytes, dict)) or not isinstance(release, Iterable):
            checks.refuse("delays", expected, delays)
        wanted = "delays in seconds, at least 0"
        releases.append(
            sorted(checks.real("delays", one, wanted, lambda s: s >= 0) for one in release)
        )
    return [release for release in releases if release]


def learned_shares(delays: object, floor: float) -> dict[float, float]:
    """The shares of :meth:`ReportingDelay.learned`.

    :raises ValueError: there are too few delays, or one makes no sense
    """
    releases = by_release(delays)
    count = sum(map(len, releases))
    if not LEAST_DELAYS <= count <= _MOST_DELAYS:
        raise ValueError(
            f"delays: {count} of them; at least {LEAST_DELAYS} are needed to learn from"
            + (f", and at most {_MOST_DELAYS:,} are taken" if count > _MOST_DELAYS else "")
        )
    margin = max(band(count), floor)
    steps = [
        (age, min(1.0, margin + largest_share(releases, age)))
        for age in sorted({0.0, *chain.from_iterable(releases)})
    ]
    knots = _raised(_fewer(steps), steps)
    # Short numbers, for people: an earlier age and a larger share are on the safe side.
    short: dict[float, float] = {}
    for age, share in knots:
        short[math.floor(1000 * age) / 1000] = min(1.0, math.ceil(1e4 * share - 1e-6) / 1e4)
    return short


def largest_share(releases: list[list[float]], age: float) -> float:
    """The largest share, over the releases, of the delays up to an age."""
    return max(bisect_right(release, age) / len(release) for release in releases)


def _fewer(points: _Knots) -> _Knots:
    """Fewer points; the lines between them are near all others (Douglas and Peucker 1973)."""
    end = next(index for index, point in enumerate(points) if point[1] >= 1)
    points = points[: end + 1]
    kept, spans = {0, end}, [(0, end)]
    while spans:
        first, last = spans.pop()
        line = _line(points[first], points[last])
        off = [(abs(line(points[i][0]) / points[i][1] - 1), i) for i in range(first + 1, last)]
        worst, index = max(off, default=(0.0, first))
        if worst > _NEAR / 2:
            kept.add(index)
            spans += [(first, index), (index, last)]
    return [points[index] for index in sorted(kept)]


def _raised(knots: _Knots, steps: _Knots) -> _Knots:
    """The knots, raised by one factor so that no step is above the lines between them."""
    factor = 1.0
    for before, after in pairwise(knots):
        line = _line(before, after)
        inside = (share / line(age) for age, share in steps if before[0] < age < after[0])
        factor = max([factor, *inside])
    raised: _Knots = []
    for age, share in knots:
        if (high := share * factor) >= 1:
            if raised and high > 1:  # where the line reaches 1
                last, low = raised[-1]
                age = last + (age - last) * (1 - low) / (high - low)
            return [*raised, (age, 1.0)]
        raised.append((age, high))
    return raised


def _line(before: tuple[float, float], after: tuple[float, float]) -> Callable[[float], float]:
    (start, low), (end, high) = before, after
    slope = (high - low) / (end - start) if end > start else 0.0
    return lambda age: low + slope * (age - start)


def chance_of_so_soon(
    delays: Iterable[Delay], end: float, share: Callable[[float], float]
) -> float | None:
    """P that failures come so soon if F is right, for a rollout that was *not* stopped.

    With d the delay of a failure and c the time from its device's start to the end of the watching,
    v = F(d)/F(c) is uniform on (0, 1) or larger if F is right. D⁺ is the largest k/m - v_(k), and P
    is the tail of the one-sided Kolmogorov-Smirnov distribution. Each delay counts with the longest
    value that the looks allow, so that P is not too small.

    :param delays: the recorded delays
    :param end: the end of the watching, in seconds since the epoch
    :param share: F, of an age in seconds
    :return: None: there are no failures
    """
    found = sorted(_position(delay, end, share) for delay in delays)
    if not found:
        return None
    count = len(found)
    distance = max((k + 1) / count - v for k, v in enumerate(found))
    functions: Any = special()
    return float(functions.smirnov(count, min(1.0, max(0.0, distance))))


def _position(delay: Delay, end: float, share: Callable[[float], float]) -> float:
    watched = share(max(0.0, end - delay.start))
    if delay.most < 0 or watched <= 0:
        return 1.0
    return min(1.0, share(delay.most) / watched)
