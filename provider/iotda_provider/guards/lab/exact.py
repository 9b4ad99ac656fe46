"""Computes exactly, without random numbers, how a rule treats a fleet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from iotda_provider.guards.heavy_libraries import numpy, special
from iotda_provider.guards.rule import Rule
from iotda_provider.guards.sequential import EvidenceRule
from iotda_provider.guards.thresholds import MaxFailureRate, MaxFailures

# If at most this share of the fleets still runs, the printed digits do not change any more.
_NOTHING = 1e-12
# A number of failures with a smaller chance is left out.
_NEVER = 1e-25


@dataclass(frozen=True)
class Exposure:
    """What a rule does to fleets with one true failure rate.

    :param stopped: the chance that the rule ever stops a fleet
    :param mean_devices: the mean number of devices that have started by the stop; all devices if
        there is no stop
    :param median_devices: the number of started devices at which half of the fleets are stopped;
        None: fewer than half are ever stopped
    """

    stopped: float
    mean_devices: float
    median_devices: int | None


def breaks_at(rule: Rule, failed: int, *, finished: int, started: int, total: int) -> bool:
    """Whether a rule breaks on these counts.

    A rule that uses times is evaluated when every outcome is known: ``Stalled`` never breaks then,
    and ``Overdue`` tests the failures alone.
    """
    if isinstance(rule, MaxFailureRate):
        sizes = {"started": started, "finished": finished, "total": total}
        return rule.breaks(failed, sizes[rule.denominator])
    if isinstance(rule, (MaxFailures, EvidenceRule)):
        return rule.breaks(failed, started)
    return False


@lru_cache(maxsize=64)
def critical_failures(
    rule: Rule, looks: tuple[int, ...], total: int, in_flight: int = 0
) -> tuple[int | None, ...]:
    """For each look the fewest failures that break the rule; None: no number breaks it.

    :param looks: the numbers of devices with a known outcome, in rising order
    :param total: the devices in the fleet
    :param in_flight: the devices that have started but have no outcome yet, at each look
    """
    found: list[int | None] = []
    fewest = 0
    for finished in looks:
        sizes = {"finished": finished, "started": min(total, finished + in_flight), "total": total}
        if not breaks_at(rule, finished, **sizes):
            found.append(None)
            continue
        # The number changes little between looks: search from the last one.
        fewest = min(fewest, finished)
        while fewest > 0 and breaks_at(rule, fewest - 1, **sizes):
            fewest -= 1
        while not breaks_at(rule, fewest, **sizes):
            fewest += 1
        found.append(fewest)
    return tuple(found)


def every_device(devices: int, most_looks: int = 20_000) -> tuple[int, ...]:
    """A look after every device; in a fleet that is too large for that, after every few devices."""
    step = math.ceil(devices / most_looks)
    return (*range(step, devices, step), devices)


def exposure(
    rule: Rule,
    rate: float,
    devices: int,
    *,
    looks: Sequence[int] | None = None,
    in_flight: int = 0,
) -> Exposure:
    """What a rule does to fleets of ``devices`` that fail independently with ``rate``.

    :param looks: the numbers of known outcomes at which the rule is evaluated, such as the ends of
        waves; None: after every device
    :param in_flight: the devices that have started but have no outcome yet, at each look
    """
    points = tuple(looks) if looks is not None else every_device(devices)
    critical = critical_failures(rule, points, devices, in_flight)
    return exposure_of(critical, points, rate, devices, in_flight=in_flight)


def exposure_of(
    critical: Sequence[int | None],
    looks: Sequence[int],
    rate: float,
    devices: int,
    *,
    in_flight: int = 0,
) -> Exposure:
    """As :func:`exposure`, for any rule that stops at a number of failures.

    :param critical: for each look that number, as from :func:`critical_failures`
    """
    np: Any = numpy()
    # The chances that a fleet still runs and has `lowest`, `lowest` + 1, ... failures.
    alive, lowest = np.ones(1), 0
    before = 0
    stopped = mean = 0.0
    median: int | None = None
    for known, fewest in zip(looks, critical, strict=True):
        alive = _after(alive, known - before, rate)
        before = known
        if fewest is None:
            continue
        kept = max(0, fewest - lowest)
        breaking = float(alive[kept:].sum())
        # Numbers of failures far below the expected one are too unlikely to matter.
        empty = int(np.argmax(alive > _NEVER))
        alive = alive[empty:kept] if empty < kept else np.zeros(1)
        lowest += empty if empty < kept else kept
        stopped += breaking
        exposed = min(devices, known + in_flight)
        mean += breaking * exposed
        if median is None and stopped >= 0.5:
            median = exposed
        if alive.sum() < _NOTHING:
            break
    return Exposure(stopped, mean + max(0.0, 1.0 - stopped) * devices, median)


def _after(alive: Any, more: int, rate: float) -> Any:
    """The chances of each number of failures once ``more`` devices have reported."""
    np: Any = numpy()
    if more != 1:
        return np.convolve(alive, _binomial(more, rate))
    after = np.empty(len(alive) + 1)
    after[:-1] = alive * (1.0 - rate)
    after[-1] = 0.0
    after[1:] += alive * rate
    return after


@lru_cache(maxsize=256)
def _binomial(trials: int, rate: float) -> Any:
    """The chances of 0, 1, ... failures among so many devices."""
    np: Any = numpy()
    if rate in (0.0, 1.0):
        chances = np.zeros(trials + 1)
        chances[0], chances[-1] = 1.0 - rate, rate
        return chances
    gammaln = special().gammaln
    counts = np.arange(trials + 1)
    ways = gammaln(trials + 1) - gammaln(counts + 1) - gammaln(trials - counts + 1)
    return np.exp(ways + counts * math.log(rate) + (trials - counts) * math.log1p(-rate))
