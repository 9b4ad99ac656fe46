"""How late the failures of a rollout were reported, as its looks have shown it."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

#: The most delays that are kept: about 2 kB of JSON.
MOST_DELAYS = 150
#: A larger time or count is an error.
_LARGEST = 10**12


class Delay(NamedTuple):
    """The delay of one failure, in whole seconds.

    :param start: the latest time at which the device can have started, since the epoch
    :param least: the shortest delay that the looks allow
    :param most: the longest delay that the looks allow; -1: there is no limit
    """

    start: int
    least: int
    most: int


class Change(NamedTuple):
    """What has happened to a batch task since the look before.

    :param has_started: whether more of its devices have started, or started again
    :param failed: how many more have failed
    :param is_idle: whether none of its devices is under way: whoever fails later starts later
    """

    has_started: bool
    failed: int
    is_idle: bool = False


@dataclass(frozen=True)
class DelayRecord:
    """The delays from the start of a device to the report of its final failure.

    The counts of a batch task do not say which device fails. So a delay is the shortest that they
    allow. It begins with the answer of the last look that showed new starts in the batch task, and
    ends with the request of the last look that did not show the failure yet. That is sharp if the
    devices of a batch task start together, as in waves. If they trickle in, it is 0.

    Its size is bounded: of more than 150 failures, a random sample of 150 is kept.

    :param failures: how many failures have been reported
    :param kept: their delays, or those of the sample
    :param spans: for each batch task with devices under way, the earliest time at which the first
        of them can have started (-1: unknown), and the time of the last look at which more had
    """

    failures: int = 0
    kept: tuple[Delay, ...] = ()
    spans: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def after(self, changes: Mapping[str, Change], asked: float, time: float) -> DelayRecord:
        """The record after one more look.

        :param changes: what has happened to each batch task
        :param asked: when the request of the look before was sent; minus infinity: there was none
        :param time: the time of this look
        """
        failures, kept, spans = self.failures, list(self.kept), dict(self.spans)
        before, now = math.floor(max(-1.0, asked)), math.ceil(time)
        for task_id, change in changes.items():
            if change.has_started:
                first = spans[task_id][0] if task_id in spans else before
                spans[task_id] = (first, now)
            first, last = spans.get(task_id, (-1, now))
            delay = Delay(last, max(0, before - last), now - first if first >= 0 else -1)
            for number in range(failures + 1, failures + change.failed + 1):
                _sample(kept, number, delay)
            failures += change.failed
            if change.is_idle:
                spans.pop(task_id, None)
        return DelayRecord(failures, tuple(kept), spans)

    @property
    def shortest(self) -> list[int]:
        """The shortest delays that the looks allow, in seconds, sorted."""
        return sorted(delay.least for delay in self.kept)

    def to_json(self) -> list[Any]:
        """As plain JSON: failures, the first start, the delays with it as zero, and the spans."""
        first = min((delay.start for delay in self.kept), default=0)
        delays = [[delay.start - first, delay.least, delay.most] for delay in self.kept]
        return [self.failures, first, delays, {key: list(span) for key, span in self.spans.items()}]

    @classmethod
    def from_json(cls, data: Any) -> DelayRecord:
        """Read what :meth:`to_json` wrote.

        :raises ValueError: it is something else
        """
        try:
            failures, first, kept, given = data
            delays = tuple(Delay(first + after, least, most) for after, least, most in kept)
            spans = {str(key): (earliest, latest) for key, (earliest, latest) in given.items()}
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"not a record of delays: {error}") from error
        numbers = [failures, *(number for one in (*delays, *spans.values()) for number in one)]
        if any(type(number) is not int or not -1 <= number <= _LARGEST for number in numbers) or (
            len(delays) != min(failures, MOST_DELAYS) or any(delay.least < 0 for delay in delays)
        ):
            raise ValueError("not a record of delays: its numbers make no sense")
        return cls(failures, delays, spans)


def _sample(kept: list[Delay], number: int, delay: Delay) -> None:
    """Keep the delay of a failure, the one of that number, or replace another one by it.

    This is Vitter's algorithm R. The same failures give the same sample, also after a restart.
    """
    if number <= MOST_DELAYS:
        kept.append(delay)
        return
    place = random.Random(number).randrange(number)  # noqa: S311 - no secret
    if place < MOST_DELAYS:
        kept[place] = delay
