"""Rules with a fixed bound, as in other rollout systems: a number or a percentage of failures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from iotda_provider.guards.look import Counts
from iotda_provider.guards.rule import ClassedRule
from iotda_provider.guards.verdict import Decision, Undecided, Verdict
from iotda_provider.guards.wording import in_words, percent
from iotda_provider.models import checks

DENOMINATORS = ("started", "finished", "total")


@dataclass(frozen=True)
class MaxFailures(ClassedRule):
    """Breaks as soon as ``count`` devices have failed: s >= count.

    Devices are counted, not attempts: a device that waits for a retry has not failed. There is no
    bound on false alarms: a healthy fleet that is large enough reaches any number of failures.

    :param count: devices, at least 1
    :param failure_class: count only failures of this class, or of these: ``environment``,
        ``firmware``, ``unknown``
    :raises ValueError: a parameter makes no sense; the message names it
    """

    count: int
    failure_class: Sequence[str] | None = None

    def __post_init__(self) -> None:
        self._normalise(count=checks.whole("count", self.count, least=1))

    def breaks(self, failed: int, devices: int) -> bool:
        """Whether so many failures break the rule; the number of devices does not matter."""
        return failed >= self.count

    def _judge(self, counts: Counts) -> Verdict:
        devices = counts.devices
        least, most = counts.failed(self.classes)
        breached = self.breaks(least, devices)
        unsure = breached is not self.breaks(most, devices)
        return self._verdict(
            Decision.BREACH if breached else Decision.CONTINUE,
            in_words([self._failed(least, most, f"{devices} devices")]),
            f"{_unsure(unsure)}{self.name} stops at {self.count}.",
            Undecided.CLASSES if unsure else None,
            measure="failures",
            value=least,
            bound=self.count,
            failed=least,
            failed_at_most=most,
            devices=devices,
        )


@dataclass(frozen=True)
class MaxFailureRate(ClassedRule):
    """Breaks when a share of the devices has failed: n >= min_sample and s/n >= rate.

    This is the rule of AWS IoT Jobs. It is evaluated again and again, so it stops healthy rollouts
    far more often than its rate suggests: if 2 % of the devices fail with good firmware, a rule of
    5 % from 30 devices on stops 24 % of the healthy rollouts to 2,000 devices
    (``benchmarks/bench_guard_tables.py``). Over *finished* devices it is also biased: failures
    report sooner than successes, so that at first nearly all finished devices have failed.

    :param rate: share of the devices, above 0 and at most 1 (5 % is 0.05)
    :param min_sample: the fewest devices in the denominator for a decision, at least 1
    :param denominator: ``started`` (every device that has started), ``finished`` (as AWS counts) or
        ``total`` (as hawkBit counts)
    :param failure_class: count only failures of this class, or of these
    :raises ValueError: a parameter makes no sense; the message names it
    """

    rate: float
    min_sample: int = 100
    denominator: str = "started"
    failure_class: Sequence[str] | None = None

    def __post_init__(self) -> None:
        self._normalise(
            rate=checks.rate("rate", self.rate, one_allowed=True),
            min_sample=checks.whole("min_sample", self.min_sample, least=1),
            denominator=checks.choice("denominator", self.denominator, DENOMINATORS),
        )

    def breaks(self, failed: int, devices: int) -> bool:
        """Whether so many failures among so many devices of the denominator break the rule."""
        # The quotient is rounded as the literal `rate` was: 10 / 100 == 0.1. A product may not be.
        return devices >= self.min_sample and failed / devices >= self.rate

    def _devices(self, counts: Counts) -> int:
        if self.denominator == "started":
            return counts.devices
        progress = counts.progress
        whole = progress.finished if self.denominator == "finished" else progress.total
        return whole - counts.already_current_by_counts

    def _judge(self, counts: Counts) -> Verdict:
        devices = self._devices(counts)
        # Earlier looks may make the share smaller, but must not make the sample large enough.
        if self.denominator == "started" and counts.devices_by_counts < self.min_sample:
            devices = min(devices, max(0, self.min_sample - 1))
        least, most = counts.failed(self.classes)
        breached = self.breaks(least, devices)
        unsure = breached is not self.breaks(most, devices)
        share = least / devices if devices else 0.0
        of = {"finished": f"{devices} finished devices", "total": f"all {devices} devices"}.get(
            self.denominator, f"{devices} devices"
        )
        said = "stops at"
        if devices < self.min_sample:
            said = f"decides nothing below {self.min_sample} devices, and then stops at"
        return self._verdict(
            Decision.BREACH if breached else Decision.CONTINUE,
            in_words([self._failed(least, most, of, share=percent(share))]),
            f"{_unsure(unsure)}{self.name} {said} {percent(self.rate)}.",
            Undecided.CLASSES if unsure else None,
            measure="failure_rate",
            value=share,
            bound=self.rate,
            failed=least,
            failed_at_most=most,
            devices=devices,
            denominator=self.denominator,
        )


def _unsure(unsure: bool) -> str:
    return "their classes must be read to tell; " if unsure else ""
