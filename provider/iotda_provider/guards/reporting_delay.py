"""How late failures report: the curve F that a sequential test may know."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, cast

from iotda_provider.guards.learned_delay import learned_shares
from iotda_provider.guards.start_ages import StartAges
from iotda_provider.models import checks
from iotda_provider.models.json_text import plain_arguments
from iotda_provider.models.platform_retries import MOST_MINUTES, MOST_RETRIES

_MOST_KNOTS = 500
#: Ages above a hundred years are errors.
_LONGEST = 3.2e9


@dataclass(frozen=True)
class ReportingDelay:
    """F(a): of the failures that are tolerated, the share that may be reported by age ``a``.

    The age of a device is the time since its start. F is linear between the given ages, keeps the
    first share before the first age, and is 1 from the last age on. ``floor`` is added for what
    nobody has foreseen: F ← floor + (1 - floor)·F. A test with F assumes that **a healthy device
    has finally failed by age a with a chance of at most tolerated_rate·F(a)**. If failures report
    sooner than F says, healthy rollouts are stopped, and with waves that happens often. If they
    report later, the test decides later.

    Learn F from earlier rollouts (``iotda-guard fit``, :meth:`learned`) rather than guess it. If
    devices fail in several ways, such as rejections within seconds and failed installations after
    an hour, F is a budget for all of them: if 20 % of the tolerated failures may be rejections,
    F(0) is 0.2.

    :param shares: ``{seconds: share}``, at most 500 of them; the shares rise from at least 0 to 1
    :param floor: the share of the tolerated failures that may come at any age, from 0 to 1
    :param slack: seconds to add to each age, for counters that lag and clocks that differ
    :param counts: what F is the delay of: ``failed``: the final failure; ``attempts``: the first
        failed attempt. The test must count the same
    :param retries: ``(retry_count, retry_interval in minutes)`` of the batch tasks for which F
        holds, ``(0, 0)`` without retries. A guard refuses a batch task with others. None: F holds
        whatever the retries are
    :raises ValueError: a parameter makes no sense; the message names it
    """

    shares: Mapping[float, float] | Sequence[tuple[float, float]]
    floor: float = 0.1
    slack: float = 60.0
    counts: str = "failed"
    retries: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for name, value in {
            "shares": _knots(self.shares),
            "floor": checks.share("floor", self.floor),
            "slack": checks.real("slack", self.slack, "seconds, at least 0", lambda s: s >= 0),
            "counts": checks.choice("counts", self.counts, ("failed", "attempts")),
            "retries": None if self.retries is None else _retries(self.retries),
        }.items():
            object.__setattr__(self, name, value)

    @classmethod
    def learned(
        cls,
        delays: Iterable[float] | Iterable[Iterable[float]],
        *,
        floor: float = 0.1,
        slack: float = 60.0,
        counts: str = "failed",
        retries: tuple[int, int] | None = None,
    ) -> ReportingDelay:
        """F from recorded delays: the largest share of any release, and a margin.

        With m delays in all, Ĝ_r(a) the share of release r's delays up to a::

            F(a) = min(1, max_r Ĝ_r(a) + max(ε, floor)),   ε = sqrt(ln(1/0.05)/(2m))

        ε is the one-sided Dvoretzky-Kiefer-Wolfowitz band: if the releases are alike, F is nowhere
        below the truth with 95 % confidence. The largest share is for releases that differ, for
        which no band helps: with k releases, the next one is the fastest of all with a chance of
        1/(k+1). The result has few knots. At no age is it below this F, and at the recorded
        delays it is at most 3 % of F above.

        :param delays: seconds from the start of a device to the report of its failure: of one
            release, or a list of releases; at least 20 of them
        :param floor: the least margin, from 0 to 1
        :param slack: as for the class; likewise ``counts`` and ``retries``
        :raises ValueError: there are fewer than 20 delays, or one makes no sense
        """
        shares = learned_shares(delays, checks.share("floor", floor))
        return cls(shares, floor=0.0, slack=slack, counts=counts, retries=retries)

    @property
    def knots(self) -> tuple[tuple[float, float], ...]:
        """The given shares, with their exact type."""
        return cast("tuple[tuple[float, float], ...]", self.shares)

    @property
    def horizon(self) -> float:
        """The age in seconds from which on F is 1; above 0."""
        return max(self.knots[-1][0], 1e-9)

    def share(self, age: float) -> float:
        """F at an age in seconds, without the slack."""
        knots = self.knots
        index = bisect_right(knots, (age, math.inf))
        if index == len(knots):
            return 1.0
        if index == 0:
            found = knots[0][1]
        else:
            (before, low), (after, high) = knots[index - 1], knots[index]
            found = low + (high - low) * (age - before) / (after - before)
        return self.floor + (1 - self.floor) * found

    def hazard(self, age: float, tolerated_rate: float) -> float:
        """The cumulative hazard of one device: -log(1 - p0·F(age + slack))."""
        return -math.log1p(-tolerated_rate * self.share(age + self.slack))

    def total_hazard(
        self,
        tolerated_rate: float,
        started: int,
        ages: StartAges,
        now: float,
        *,
        left_out: int = 0,
    ) -> float:
        """Λ, the sum over all devices that ever started, whatever has become of them.

        :param started: how many there are; those in no bin of ``ages`` have an unlimited age
        :param ages: when they started
        :param now: the present time in seconds since the epoch
        :param left_out: how many devices cannot fail. Nobody knows which, so the youngest are left
            out
        """
        return _total_hazard(self, tolerated_rate, started, ages, now, left_out)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return plain_arguments(self)

    @classmethod
    def of(cls, value: object) -> ReportingDelay | None:
        """None, a ``ReportingDelay``, or its JSON.

        :raises ValueError: it is something else
        """
        if value is None or isinstance(value, ReportingDelay):
            return value
        if not isinstance(value, Mapping) or "shares" not in value:
            checks.refuse("reporting", "a ReportingDelay or None", value)
        unknown = set(value) - set(cls.__dataclass_fields__)
        if unknown:
            checks.refuse("reporting", "a ReportingDelay", value)
        return cls(**value)

    def __str__(self) -> str:
        shares = ", ".join(f"{_text(seconds)}: {_text(share)}" for seconds, share in self.knots)
        usual = {"floor": 0.1, "slack": 60.0, "counts": "failed", "retries": None}
        more = "".join(
            f", {name}={_text(getattr(self, name))}"
            for name, value in usual.items()
            if getattr(self, name) != value
        )
        return f"ReportingDelay({{{shares}}}{more})"


@lru_cache(maxsize=16)  # one look asks for the same sum several times
def _total_hazard(
    delay: ReportingDelay, rate: float, started: int, ages: StartAges, now: float, left_out: int
) -> float:
    found = 0.0
    for age, count in ages.youngest_first(now):
        gone = min(left_out, count)
        left_out -= gone
        found += (count - gone) * delay.hazard(age, rate)
    aged = max(0, started - ages.devices - left_out)
    return found + aged * -math.log1p(-rate)


def _text(value: object) -> str:
    is_whole = isinstance(value, float) and value.is_integer() and value < 1e15
    return repr(int(value)) if is_whole else repr(value)  # type: ignore[call-overload]


def _retries(value: object) -> tuple[int, int]:
    """Retries that a batch task can have: a guard would refuse every batch task for others."""
    count, minutes = checks.pair("retries", value)
    if count > MOST_RETRIES or minutes > (MOST_MINUTES if count else 0):
        limits = f"(1 to {MOST_RETRIES}, 0 to {MOST_MINUTES} minutes), or (0, 0) without retries"
        checks.refuse("retries", limits, value)
    return count, minutes


def _knots(value: object) -> tuple[tuple[float, float], ...]:
    expected = "{seconds: share, ...}, at most 500 of them"
    pairs = list(value.items()) if isinstance(value, Mapping) else value
    if isinstance(pairs, (str, bytes)) or not isinstance(pairs, Sequence) or not pairs:
        checks.refuse("shares", expected, value)
    if len(pairs) > _MOST_KNOTS or any(
        not isinstance(pair, (list, tuple)) or len(pair) != 2 for pair in pairs
    ):
        checks.refuse("shares", expected, value)
    knots = sorted(
        (
            checks.real("shares", seconds, "of ages from 0 on", lambda s: 0 <= s <= _LONGEST),
            checks.share(f"shares[{checks.short_repr(seconds)}]", share),
        )
        for seconds, share in pairs
    )
    for (age, share), (next_age, next_share) in pairwise(knots):
        if next_age == age:
            checks.refuse("shares", "given once for each age", value)
        if next_share < share:
            checks.refuse("shares", f"rising, but fall after {age:g} s", value)
    if knots[-1][1] != 1:
        checks.refuse("shares", "rising to 1: the last one must be 1", knots[-1][1])
    return tuple(knots)
