"""Whether a wave may be followed by the next one, by what has really succeeded so far."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from iotda_provider.guards import EnoughSuccess
from iotda_provider.models import TaskProgress
from iotda_provider.models.json_text import PlainJson
from iotda_provider.models.text import what_is

#: When a person is asked whether a release goes on.
NEVER, WHEN_UNPROVEN, ALWAYS = APPROVALS = ("never", "when unproven", "before every wave")
#: What that person may answer.
GO_ON, STOP = "Go on", "Stop the release"

_LONGEST_NUMBER = 40


@dataclass(frozen=True)
class GateReading(PlainJson):
    """One reading of the gate.

    :param passes: the failure rate is shown to be low enough
    :param settled: waiting longer can't open it any more
    :param devices: devices in the waves so far, without those that ran the new version before the
        release began
    :param succeeded: how many of these have succeeded
    :param evidence: log evidence for going on; the gate opens at ``bound``
    """

    passes: bool
    settled: bool
    devices: int
    succeeded: int
    evidence: float
    bound: float
    sentence: str


def as_gate(value: Any) -> EnoughSuccess:
    """The gate that a parameter means: itself, or the failure rate that it is to rule out.

    :raises ValueError: it is neither
    """
    if isinstance(value, EnoughSuccess):
        return value
    rate = value
    if isinstance(value, str) and len(value) <= _LONGEST_NUMBER:  # as a template renders one
        with suppress(ValueError):
            rate = float(value)
    if isinstance(rate, bool) or not isinstance(rate, (int, float)):
        raise ValueError(
            "gate must be EnoughSuccess or a failure rate between 0 and 1, got "
            f"{what_is(value, instead_of='a number')}"
        )
    return EnoughSuccess(rate)


def read_gate(
    gate: EnoughSuccess,
    progress: TaskProgress,
    *,
    members: int,
    already_current: int = 0,
) -> GateReading:
    """Judge all waves so far together; whatever has not succeeded counts as failed.

    Counts that do not add up never let a wave pass: see :func:`read_gate_in_all_cases`.

    Devices that are confirmed and have not started count too, and so do devices that somebody has
    stopped.

    :param members: devices in this wave and those before it: the batch tasks hold nobody else
    :param already_current: how many of them ran the new version before the release began: they
        prove nothing
    """
    everybody = max(members, progress.started + progress.stopped + progress.removed)
    current = min(already_current, progress.success)
    devices = everybody - current
    succeeded = progress.success - current
    unproven = devices - succeeded
    evidence = gate.log_evidence(unproven, devices)
    passes = devices > 0 and progress.adds_up and evidence >= gate.log_bound
    lost = progress.fail + progress.stopped + progress.removed
    can_pass = gate.passes(min(lost, devices), devices) if devices else False
    if passes:
        words = "enough to go on"
    elif can_pass:
        words = "not enough yet"
    else:
        words = "not enough, and it can't become enough in this wave"
    return GateReading(
        passes=passes,
        settled=not passes and not can_pass,
        devices=devices,
        succeeded=succeeded,
        evidence=evidence,
        bound=gate.log_bound,
        sentence=f"{succeeded} of {devices} device(s) have succeeded ({words}: the "
        f"failure rate must be shown to be below {100 * gate.max_failure_rate:g} %).",
    )


def read_gate_in_all_cases(
    gate: EnoughSuccess, cases: Sequence[TaskProgress], **known: int
) -> GateReading:
    """Judge by all that the counts may be: it passes, and is settled, where all of them say so.

    :param cases: as of :meth:`~iotda_provider.models.TaskProgress.extreme_cases`
    :param known: as of :func:`read_gate`
    """
    readings = [read_gate(gate, progress, **known) for progress in cases]
    worst = min(readings, key=lambda reading: reading.evidence)
    return replace(worst, settled=all(reading.settled for reading in readings))


@dataclass(frozen=True)
class WaveForecast(PlainJson):
    """What can be said of a wave before the start.

    :param can_pass: it could pass by itself, if every device succeeded
    :param may_fail: how many devices may fail at most so that it still passes by itself
    :param needed: the fewest devices that a gate like this one needs
    """

    wave: int
    label: str
    devices: int
    cumulative: int
    can_pass: bool
    may_fail: int
    needed: int

    @property
    def sentence(self) -> str:
        """The same for a person."""
        size = (
            f"Wave {self.wave} ({self.label}): {self.devices} device(s), {self.cumulative} so far"
        )
        if self.can_pass:
            return f"{size}; passes by itself with at most {self.may_fail} of them not successful."
        return (
            f"{size}; TOO SMALL to pass by itself, even if every device succeeds ({self.needed} "
            "devices are needed): a person must decide."
        )


def forecast(
    gate: EnoughSuccess, labels: Sequence[str], cumulative: Sequence[int]
) -> list[WaveForecast]:
    """Which waves can pass by themselves at all."""
    needed = gate.smallest_passing_sample()
    found = []
    before = 0
    for place, (label, devices) in enumerate(zip(labels, cumulative, strict=True), start=1):
        can_pass = devices >= needed
        found.append(
            WaveForecast(
                place,
                label,
                devices - before,
                devices,
                can_pass,
                _most_failures(gate, devices) if can_pass else 0,
                needed,
            )
        )
        before = devices
    return found


def _most_failures(gate: EnoughSuccess, devices: int) -> int:
    fewest_too_many = bisect_left(
        range(devices), True, key=lambda failed: not gate.passes(failed, devices)
    )
    return fewest_too_many - 1
