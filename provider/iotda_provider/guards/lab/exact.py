"""Computes exactly, without random numbers, how a rule treats a fleet."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

from iotda_provider.guards.enough_success import EnoughSuccess
from iotda_provider.guards.rule import Rule
from iotda_provider.guards.sequential import EvidenceRule
from iotda_provider.guards.thresholds import MaxFailureRate, MaxFailures
from iotda_provider.guards.time_rules import Stalled
from iotda_provider.models.heavy_libraries import special

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

    :raises TypeError: the laboratory does not know the rule
    """
    if isinstance(rule, MaxFailureRate):
        sizes = {"started": started, "finished": finished, "total": total}
        return rule.breaks(failed, sizes[rule.denominator])
    if isinstance(rule, (MaxFailures, EvidenceRule)):
        return rule.breaks(failed, started)
    if isinstance(rule, (Stalled, EnoughSuccess)):
        return False
    raise TypeError(f"{rule.name} can't be computed: guards/lab/exact.py does not know it")


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
        breaks = partial(breaks_at, rule, **sizes)
        fewest = _first_true(breaks, near=min(fewest, finished), last=finished)
        found.append(fewest)
    return tuple(found)


def _first_true(test: Callable[[int], bool], *, near: int, last: int) -> int:
    """The first number from 0 for which a test is true, as it is for all after it.

    It goes from one number in ever larger steps, and then halves what is left.

    :param near: where to begin
    :param last: a number for which it is true
    """
    low, high, step = -1, last, 1
    if test(near):
        high = near
        while (low := max(-1, high - step)) >= 0 and test(low):
            high, step = low, 2 * step
    else:
        low = near
        while (high := min(last, low + step)) < last and not test(high):
            low, step = high, 2 * step
    return bisect_left(range(high), True, low + 1, key=test)


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
    # The chances that a fleet still runs and has `lowest`, `lowest` + 1, ... failures.
    alive, lowest = np.ones(1), 0
    before = 0
    stopped = mean = 0.0
    median: int | None = None
    for known, fewest in zip(looks, critical, strict=True):
        alive, lowest = _after(alive, lowest, known - before, rate)
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


def _after(alive: Any, lowest: int, more: int, rate: float) -> tuple[Any, int]:
    """The chances of each number of failures once ``more`` devices have reported.

    :return: the chances of ``lowest``, ``lowest`` + 1, ... failures, and that ``lowest``
    """
    if more != 1:
        first, chances = _binomial(more, rate)
        return np.convolve(alive, chances), lowest + first
    after = np.empty(len(alive) + 1)
    after[:-1] = alive * (1.0 - rate)
    after[-1] = 0.0
    after[1:] += alive * rate
    return after, lowest


@lru_cache(maxsize=256)
def _binomial(trials: int, rate: float) -> tuple[int, Any]:
    """The chances of so many failures among so many devices, but for those that never occur.

    :return: the fewest failures that occur, and the chances from there on
    """
    if rate in (0.0, 1.0):
        return (0 if rate == 0.0 else trials), np.ones(1)
    gammaln = special().gammaln
    counts = np.arange(trials + 1)
    ways = gammaln(trials + 1) - gammaln(counts + 1) - gammaln(trials - counts + 1)
    every = np.exp(ways + counts * math.log(rate) + (trials - counts) * math.log1p(-rate))
    occur = np.nonzero(every > _NEVER)[0]
    return int(occur[0]), every[occur[0] : occur[-1] + 1]
