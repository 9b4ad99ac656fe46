"""How long ago devices started, for a test that knows how late failures report."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

#: The most bins: about 1 kB of JSON.
_MOST_BINS = 128
#: A larger time or count is an error.
_LARGEST = 10**12

_Bin = tuple[int, int]


@dataclass(frozen=True)
class StartAges:
    """When the devices of a rollout have started, never later than they did.

    A start between two looks counts as having happened when the request of the earlier look was
    sent. Every started device that is in no bin has an unknown start: its age is unlimited. So have
    the devices that had started before the first look, and all after the state was lost. Devices
    older than ``horizon`` need no bin, because their exact age makes no difference.

    The size is bounded: of more than 128 bins, the two nearest and smallest ones become one with
    the earlier of their times. So an age is true or too high, and never too low.

    :param horizon: the age in seconds from which on a device's age makes no difference; 0: nothing
        is kept
    :param bins: (time in whole seconds since the epoch, devices), oldest first
    """

    horizon: float = 0.0
    bins: tuple[_Bin, ...] = ()

    def after(self, started: int, since: float, now: float, horizon: float) -> StartAges:
        """The ages after one more look.

        :param started: how many more devices have started than at the look before
        :param since: when the request of the look before was sent
        :param now: the time of this look
        :param horizon: the horizon from now on. A longer one than before finds no bins of older
            devices, whose ages are unlimited then
        """
        if not horizon:
            return StartAges()
        bins = [one for one in self.bins if now - one[0] < horizon]
        # In whole seconds, rounded down. Bins that are not older than this one become a part of it.
        time = math.floor(min(since, now)) if math.isfinite(since) else None
        if started > 0 and time is not None and now - time < horizon:
            while bins and bins[-1][0] >= time:
                started += bins.pop()[1]
            bins.append((time, started))
        while len(bins) > _MOST_BINS:
            _merge(bins)
        return StartAges(horizon, tuple(bins))

    @property
    def devices(self) -> int:
        """How many devices are in a bin."""
        return sum(count for _, count in self.bins)

    def youngest_first(self, now: float) -> Iterator[tuple[float, int]]:
        """(age in seconds, devices) of each bin."""
        for time, count in reversed(self.bins):
            yield max(0.0, now - time), count

    def to_json(self) -> list[Any]:
        """As plain JSON: ``[horizon, first time, [[seconds after it, devices], ...]]``."""
        first = self.bins[0][0] if self.bins else 0
        return [self.horizon, first, [[time - first, count] for time, count in self.bins]]

    @classmethod
    def from_json(cls, data: Any) -> StartAges:
        """Read what :meth:`to_json` wrote.

        :raises ValueError: it is something else
        """
        try:
            horizon, first, kept = data
            bins = tuple((first + after, count) for after, count in kept)
        except (TypeError, ValueError) as error:
            raise ValueError(f"not a record of starts: {error}") from error
        numbers = [number for one in bins for number in one]
        times = [time for time, _ in bins]
        if (
            isinstance(horizon, bool)
            or not isinstance(horizon, (int, float))
            or not 0 <= horizon < math.inf
            or any(type(number) is not int or not 0 <= number <= _LARGEST for number in numbers)
            or any(later <= earlier for earlier, later in pairwise(times))
            or len(bins) > _MOST_BINS
        ):
            raise ValueError("not a record of starts: its times or counts make no sense")
        return cls(float(horizon), bins)


def _merge(bins: list[_Bin]) -> None:
    """Move the devices of one bin into the bin before it, where that adds the least age."""
    costs = [(bins[i][0] - bins[i - 1][0]) * bins[i][1] for i in range(1, len(bins))]
    later = 1 + costs.index(min(costs))
    time, count = bins[later - 1]
    bins[later - 1 : later + 1] = [(time, count + bins[later][1])]
