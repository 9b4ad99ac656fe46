"""Simulated fleets: when devices start, how they end, and what a poll would see of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from iotda_provider.guards import validation
from iotda_provider.guards._lazy import numpy
from iotda_provider.guards.look import Look
from iotda_provider.models import TaskProgress

SPREADS = ("exponential", "lognormal", "fixed")

_PLATFORM_GIVES_UP = 24 * 3600.0
_MOST_LOOKS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """How a fleet behaves. Times are in seconds.

    :param devices: how many
    :param failure_rate: the true share of them that ends as failed
    :param failure_after: after how long a failure is reported, on average
    :param success_after: after how long a success is reported, on average
    :param spread: how those times scatter: ``exponential`` (widely), ``lognormal`` (around the
        mean by a factor of about 1.6) or ``fixed``
    :param arrival: over how long the devices start, evenly; 0: all at once
    :param silent_rate: the share of the *failures* that never report (bricks): the platform counts
        them as failed after 24 hours
    :param environment_share: the share of the failures whose class is ``environment``; the others
        are ``firmware``
    :param hand_stop_at: when somebody stops a part of the running devices; None: never
    :param hand_stop_share: which share of them
    :param poll: between two looks
    """

    devices: int = 1000
    failure_rate: float = 0.02
    failure_after: float = 600.0
    success_after: float = 7200.0
    spread: str = "exponential"
    arrival: float = 0.0
    silent_rate: float = 0.0
    environment_share: float = 0.0
    hand_stop_at: float | None = None
    hand_stop_share: float = 0.25
    poll: float = 10.0

    def __post_init__(self) -> None:
        validation.whole("devices", self.devices, least=1)
        validation.choice("spread", self.spread, SPREADS)
        for name in ("failure_after", "success_after", "poll"):
            validation.seconds(name, getattr(self, name))
        for name in ("failure_rate", "silent_rate", "environment_share", "hand_stop_share"):
            validation.share(name, getattr(self, name))
        for name in ("arrival", "hand_stop_at"):
            value = getattr(self, name)
            if value is not None and validation.real(name, value, "seconds, at least 0") < 0:
                validation.refuse(name, "seconds, at least 0", value)


@dataclass(frozen=True)
class Course:
    """One rollout as the polls see it: an array with one number a look for each count.

    The counts that the guard derives from earlier looks are worked out here for all looks at once,
    just as :class:`~iotda_provider.guards.evaluation.GuardState` does look by look.
    """

    fleet: Fleet
    time: Any
    waiting: Any
    success: Any
    environment: Any
    firmware: Any
    stopped: Any
    truly_started: Any
    will_fail: Any
    """Of the devices that have started by each look, those that end as failed if left alone."""

    @property
    def fail(self) -> Any:
        return self.environment + self.firmware

    @property
    def started(self) -> Any:
        """The platform's count: stopped devices have left it."""
        return self.fleet.devices - self.waiting - self.stopped

    @property
    def unfinished(self) -> Any:
        return self.started - self.success - self.fail

    @property
    def ever_started(self) -> Any:
        """n, as :attr:`GuardState.started`."""
        np: Any = numpy()
        reached = self.fleet.devices - self.waiting
        added = np.maximum(0, np.diff(reached, prepend=reached[0]))
        for count in (self.fail, self.stopped):
            added += np.maximum(0, -np.diff(count, prepend=count[0]))
        # Cut off at the end, as at each step: what is over the limit once never comes below it.
        return np.minimum(reached[0] + np.cumsum(added), self.fleet.devices)

    @property
    def starts(self) -> Any:
        """As :attr:`GuardState.starts`."""
        np: Any = numpy()
        rise = np.diff(self.started, prepend=0)
        gone = np.maximum(0, np.diff(self.stopped, prepend=self.stopped[0]))
        running = np.concatenate(([0], self.unfinished[:-1]))
        return np.cumsum(np.maximum(0, rise + np.minimum(gone, running)))

    @property
    def still_since(self) -> Any:
        """As :attr:`GuardState.still_since`."""
        np: Any = numpy()
        moved = np.zeros(len(self.time), dtype=bool)
        for counts in (self.started, self.success, self.fail):
            moved |= np.diff(counts, prepend=-1) != 0
        moved[1:] |= self.unfinished[:-1] == 0
        return np.maximum.accumulate(np.where(moved, self.time, -np.inf))

    def look(self, index: int) -> Look:
        """One of the looks, as a guard would get it."""
        environment, firmware = int(self.environment[index]), int(self.firmware[index])
        return Look(
            time=float(self.time[index]),
            progress=TaskProgress(
                total=self.fleet.devices,
                processing=int(self.unfinished[index]),
                success=int(self.success[index]),
                fail=environment + firmware,
                waiting=int(self.waiting[index]),
                stopped=int(self.stopped[index]),
            ),
            failures_by_class={"environment": environment, "firmware": firmware},
        )


def run(fleet: Fleet, random: Any) -> Course:
    """Let one rollout run to its end.

    :param random: numpy's random generator; the same one gives the same rollout
    """
    np: Any = numpy()
    size = fleet.devices
    start = np.arange(size) * (fleet.arrival / size)
    fails = random.random(size) < fleet.failure_rate
    silent = fails & (random.random(size) < fleet.silent_rate)
    environmental = fails & (random.random(size) < fleet.environment_share)
    takes = np.where(
        fails,
        _delays(fleet.failure_after, fleet.spread, size, random),
        _delays(fleet.success_after, fleet.spread, size, random),
    )
    end = start + np.where(silent, _PLATFORM_GIVES_UP, takes)
    by_hand = np.full(size, np.inf)
    if fleet.hand_stop_at is not None:
        running = (start <= fleet.hand_stop_at) & (end > fleet.hand_stop_at)
        by_hand[running & (random.random(size) < fleet.hand_stop_share)] = fleet.hand_stop_at
    counted = np.isinf(by_hand)
    last = float(np.where(counted, end, by_hand).max())
    if last / fleet.poll > _MOST_LOOKS:
        validation.refuse(
            "poll", f"longer, for at most {_MOST_LOOKS:,} looks a rollout", fleet.poll
        )
    time = np.arange(0.0, last + 2 * fleet.poll, fleet.poll)

    def by(moments: Any) -> Any:
        return np.searchsorted(np.sort(moments), time, side="right")

    started = by(start)
    return Course(
        fleet=fleet,
        time=time,
        waiting=size - started,
        success=by(end[counted & ~fails]),
        environment=by(end[counted & environmental]),
        firmware=by(end[counted & fails & ~environmental]),
        stopped=by(by_hand[~counted]),
        truly_started=started,
        will_fail=by(start[fails]),
    )


def _delays(mean: float, spread: str, size: int, random: Any) -> Any:
    np: Any = numpy()
    if spread == "exponential":
        return random.exponential(mean, size)
    if spread == "lognormal":
        sigma = 0.5
        return random.lognormal(np.log(mean) - sigma * sigma / 2, sigma, size)
    return np.full(size, mean)
