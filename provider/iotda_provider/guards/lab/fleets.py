"""Simulated fleets: when devices start and end, and the counts that a poll would see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from iotda_provider.guards.lab.attempts import Attempts, found_by_id
from iotda_provider.guards.look import WHOLE, Look
from iotda_provider.models import TaskProgress, checks
from iotda_provider.models.platform_retries import MOST_MINUTES, MOST_RETRIES

SPREADS = ("exponential", "lognormal", "fixed")

_PLATFORM_GIVES_UP = 24 * 3600.0
_MOST_LOOKS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """How a fleet behaves. Times are in seconds.

    :param devices: the number of devices
    :param failure_rate: the true share of devices that fail, with all their attempts
    :param first_failure_rate: the share of devices that fail their first attempt, if the platform
        retries it; None: the ``failure_rate``
    :param retry_count: how often the platform retries a failed device, 0 to 5
    :param retry_interval: *minutes* until it does, as in a ``task_policy``, 0 to 1440
    :param failure_after: the mean time from a device's start to the report of its failure
    :param success_after: the mean time from a device's start to the report of its success
    :param spread: the distribution of those times: ``exponential``, ``lognormal`` or ``fixed``
    :param sigma: of a ``lognormal`` spread, the standard deviation of the logarithm; 0.5 is around
        the median by a factor of about 1.6
    :param arrival: the time over which the devices start, evenly; 0: all at once
    :param silent_rate: the share of the *failures* that never report (bricked devices): the
        platform counts them as failed after 24 hours
    :param environment_share: the share of the failures of class ``environment``; the others are of
        class ``firmware``
    :param hand_stop_at: when somebody stops some of the running devices; None: never
    :param hand_stop_share: the share of the running devices that are stopped then
    :param poll: the time between two looks
    """

    devices: int = 1000
    failure_rate: float = 0.02
    failure_after: float = 600.0
    success_after: float = 7200.0
    spread: str = "exponential"
    sigma: float = 0.5
    arrival: float = 0.0
    silent_rate: float = 0.0
    environment_share: float = 0.0
    hand_stop_at: float | None = None
    hand_stop_share: float = 0.25
    poll: float = 10.0
    first_failure_rate: float | None = None
    retry_count: int = 0
    retry_interval: int = 60

    def __post_init__(self) -> None:
        checks.whole("devices", self.devices, least=1)
        checks.choice("spread", self.spread, SPREADS)
        for name in ("failure_after", "success_after", "sigma", "poll"):
            checks.seconds(name, getattr(self, name))
        for name in ("failure_rate", "silent_rate", "environment_share", "hand_stop_share"):
            checks.share(name, getattr(self, name))
        if self.first_failure_rate is not None:
            checks.share("first_failure_rate", self.first_failure_rate)
        checks.whole("retry_count", self.retry_count, most=MOST_RETRIES)
        checks.whole("retry_interval", self.retry_interval, most=MOST_MINUTES)
        for name in ("arrival", "hand_stop_at"):
            value = getattr(self, name)
            if value is not None:
                checks.real(name, value, "seconds, at least 0", lambda seconds: seconds >= 0)


@dataclass(frozen=True)
class Course:
    """One rollout as polls see it: for each count an array with one number for each look.

    The numbers that a guard derives from earlier looks are computed for all looks at once, with the
    same results as :class:`~iotda_provider.guards.evaluation.GuardState` has look by look.
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
    """The devices that have started by each look and fail if nobody stops them."""
    retrying: Any
    """The devices that wait for a retry, which the platform does not count as failed."""
    found: Any
    """The devices that a guard has found waiting for a retry, by their ids."""

    @property
    def fail(self) -> Any:
        return self.environment + self.firmware

    @property
    def started(self) -> Any:
        """The platform's count, without stopped devices."""
        return self.fleet.devices - self.waiting - self.stopped

    @property
    def unfinished(self) -> Any:
        return self.started - self.success - self.fail

    @property
    def attempted(self) -> Any:
        """As :attr:`GuardState.attempted`."""
        highest = np.maximum.accumulate(np.maximum(self.fail + self.retrying, self.found))
        return np.minimum(highest, self.ever_started)

    @property
    def ever_started(self) -> Any:
        """n, as :attr:`GuardState.started`."""
        reached = self.fleet.devices - self.waiting
        added = np.maximum(0, np.diff(reached, prepend=reached[0]))
        for count in (self.fail, self.stopped):
            added += np.maximum(0, -np.diff(count, prepend=count[0]))
        # One cut at the end equals a cut at each step, because the sum never falls.
        return np.minimum(reached[0] + np.cumsum(added), self.fleet.devices)

    @property
    def starts(self) -> Any:
        """As :attr:`GuardState.starts`."""
        rise = np.diff(self.started, prepend=0)
        gone = np.maximum(0, np.diff(self.stopped, prepend=self.stopped[0]))
        running = np.concatenate(([0], self.unfinished[:-1]))
        return np.cumsum(np.maximum(0, rise + np.minimum(gone, running)))

    @property
    def still_since(self) -> Any:
        """As :attr:`GuardState.still_since`."""
        moved = np.zeros(len(self.time), dtype=bool)
        for counts in (self.started, self.success, self.fail):
            moved |= np.diff(counts, prepend=-1) != 0
        moved[1:] |= self.unfinished[:-1] == 0
        return np.maximum.accumulate(np.where(moved, self.time, -np.inf))

    def look(self, index: int) -> Look:
        """One of the looks, as a guard would see it."""
        environment, firmware = int(self.environment[index]), int(self.firmware[index])
        return Look(
            time=float(self.time[index]),
            progress=TaskProgress(
                total=self.fleet.devices,
                processing=int(self.unfinished[index] - self.retrying[index]),
                fail_wait_retry=int(self.retrying[index]),
                success=int(self.success[index]),
                fail=environment + firmware,
                waiting=int(self.waiting[index]),
                stopped=int(self.stopped[index]),
            ),
            failures_by_class={"environment": environment, "firmware": firmware},
            attempted={WHOLE: int(self.found[index])} if self.fleet.retry_count else None,
        )


def run(fleet: Fleet, random: Any) -> Course:
    """Simulate one rollout to its end.

    :param random: numpy's random generator; with the same seed, the rollout is the same
    """
    size = fleet.devices
    start = np.arange(size) * (fleet.arrival / size)
    attempts = Attempts.draw(
        size,
        final=fleet.failure_rate,
        first=fleet.first_failure_rate,
        retries=fleet.retry_count,
        random=random,
    )
    fails = attempts.all_failed
    silent = fails & (random.random(size) < fleet.silent_rate)
    environmental = fails & (random.random(size) < fleet.environment_share)
    failing = [
        np.where(silent, _PLATFORM_GIVES_UP, _delays(fleet.failure_after, fleet, size, random))
        for _ in range(fleet.retry_count + 1)
    ]
    succeeding = _delays(fleet.success_after, fleet, size, random)
    interval = 60.0 * fleet.retry_interval
    end = start + attempts.durations(failing, succeeding, interval)
    by_hand = np.full(size, np.inf)
    if fleet.hand_stop_at is not None:
        running = (start <= fleet.hand_stop_at) & (end > fleet.hand_stop_at)
        by_hand[running & (random.random(size) < fleet.hand_stop_share)] = fleet.hand_stop_at
    counted = np.isinf(by_hand)
    last = float(np.where(counted, end, by_hand).max())
    if last / fleet.poll > _MOST_LOOKS:
        checks.refuse("poll", f"longer, for at most {_MOST_LOOKS:,} looks a rollout", fleet.poll)
    time = np.arange(0.0, last + 2 * fleet.poll, fleet.poll)

    def by(moments: Any) -> Any:
        return np.searchsorted(np.sort(moments), time, side="right")

    started = by(start)
    waits = attempts.waiting(start, by_hand)
    retrying = by(waits[0]) - by(waits[1])
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
        retrying=retrying,
        found=found_by_id(waits, retrying, time, interval),
    )


def _delays(mean: float, fleet: Fleet, size: int, random: Any) -> Any:
    if fleet.spread == "exponential":
        return random.exponential(mean, size)
    if fleet.spread == "lognormal":
        return random.lognormal(np.log(mean) - fleet.sigma**2 / 2, fleet.sigma, size)
    return np.full(size, mean)
