"""Rules that use times: for rollouts that hang, and for firmware that bricks devices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from iotda_provider.guards.e_values import log_e
from iotda_provider.guards.look import Counts
from iotda_provider.guards.rule import HISTORY, Rule
from iotda_provider.guards.sequential import Evidence, EvidenceRule
from iotda_provider.guards.verdict import Decision, Undecided, Verdict
from iotda_provider.guards.wording import Counted, lasting, percent
from iotda_provider.models import checks


@dataclass(frozen=True)
class Stalled(Rule):
    """Breaks when started devices are unfinished and nothing has moved for ``for_seconds``.

    A rollout moves when a device starts, succeeds or fails; a further attempt at a device that
    waits for a retry does not count. The clock runs only while some started device is unfinished:
    not before the first start, and not while all started devices are done and the others wait for a
    confirmation. The platform waits up to 25 hours for a device that is offline, and the clock runs
    meanwhile: choose more than that, unless a hanging rollout shall be stopped sooner. If the
    guard's state is lost, the clock starts again.

    :param for_seconds: seconds, above 0
    :raises ValueError: a parameter makes no sense; the message names it
    """

    for_seconds: float

    def __post_init__(self) -> None:
        value = checks.seconds("for_seconds", self.for_seconds)
        object.__setattr__(self, "for_seconds", value)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset((HISTORY,))

    def _judge(self, counts: Counts) -> Verdict:
        time, since = counts.observed.time, counts.observed.still_since
        unfinished = counts.unfinished
        if unfinished and (time is None or since is None):
            return self._cannot_tell(Undecided.HISTORY, "it does not know since when nothing moved")
        still = max(0.0, time - since) if unfinished and time and since is not None else 0.0
        breached = still >= self.for_seconds
        return self._verdict(
            Decision.BREACH if breached else Decision.CONTINUE,
            f"{unfinished} of {counts.devices} devices are unfinished, and none has started or "
            f"finished for {lasting(round(still))}",
            f"{self.name} stops at {lasting(self.for_seconds)}.",
            measure="seconds_still",
            value=still,
            bound=self.for_seconds,
            unfinished=unfinished,
            devices=counts.devices,
        )


@dataclass(frozen=True)
class Overdue(EvidenceRule):
    """Breaks when too many devices have failed *or not finished in time*: it finds bricked devices.

    A bricked device never reports. The platform counts it as failed only after 24 hours, and no
    healthy device takes that long. So this is :class:`SequentialFailureTest` with another count::

        s' = fail + max(0, started(t-T) - success(t) - fail(t)),   T = after_seconds

    started(t-T) is the number of devices that had started T seconds ago, without those that
    somebody has stopped or started again since. Assumption: P(device i fails or takes longer than T
    | the devices that started before it) <= p0. Choose a T that a healthy device keeps. Devices
    that are offline become overdue, and the platform waits 25 hours for them.

    The rule needs the history of starts that :func:`~iotda_provider.guards.evaluate` keeps in its
    state, with a precision of T/128; it is never early. If the state is lost, times count from the
    next look.

    :param after_seconds: T in seconds, above 0
    :param tolerated_rate: the share that may fail or take longer than T, above 0 and below 1
    :param false_alarm: alpha, the largest chance of ever stopping a rollout within that rate
    :param hold_at: evidence at which to hold, above 1 and below 1/alpha; None: never hold
    :param failure_class: count only failures of this class, or of these; overdue devices always
        count
    :raises ValueError: a parameter makes no sense; the message names it
    """

    after_seconds: float
    tolerated_rate: float
    false_alarm: float = 0.01
    hold_at: float | None = None
    failure_class: Sequence[str] | None = None

    def __post_init__(self) -> None:
        alarm = checks.rate("false_alarm", self.false_alarm)
        self._normalise(
            after_seconds=checks.seconds("after_seconds", self.after_seconds),
            tolerated_rate=checks.rate("tolerated_rate", self.tolerated_rate),
            false_alarm=alarm,
            hold_at=checks.level("hold_at", self.hold_at, below=1 / alarm),
        )

    @property
    def needs(self) -> frozenset[str]:
        return super().needs | frozenset((HISTORY,))

    @property
    def horizons(self) -> frozenset[float]:
        return frozenset((self.after_seconds,))

    def log_evidence(self, failed: int, devices: int) -> float:
        return log_e(failed, devices, self.tolerated_rate)

    def evidence(self, counts: Counts) -> Evidence:
        devices = counts.devices
        least, most = counts.failed(self.classes)
        overdue = counts.overdue(self.after_seconds)
        unsure = Undecided.CLASSES if least != most else None
        if overdue is None:
            overdue_most = counts.unfinished
            unsure = Undecided.HISTORY if overdue_most else unsure
        else:
            overdue_most = overdue
        late = overdue or 0
        share = (least + late) / devices if devices else 0.0
        tolerated = (percent(self.tolerated_rate),)
        of, after = f"{devices} devices", f"unfinished after {lasting(self.after_seconds)}"
        counted = [
            self._failed(least, most, of, share=percent(share), tolerated=tolerated),
            Counted("0", after, of),
        ]
        if late:
            together = f"together {percent(share)}"
            counted = [
                self._failed(least, most, of),
                Counted(str(late), after, of, together, tolerated),
            ]
        return Evidence(
            self.log_evidence(least + late, devices),
            self.log_evidence(most + overdue_most, devices),
            unsure,
            counted,
            {
                "failed": least,
                "failed_at_most": most,
                "overdue": late,
                "devices": devices,
                "denominator": "started",
                "rate": share,
            },
        )
