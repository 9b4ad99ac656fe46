"""Rules on many simulated fleets: how often and when each rule stops, and what that costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from iotda_provider.guards.combined import Combined
from iotda_provider.guards.enough_success import EnoughSuccess
from iotda_provider.guards.lab.exact import critical_failures
from iotda_provider.guards.lab.fleets import Course, Fleet, run
from iotda_provider.guards.rule import ATTEMPTS, CLUSTERS, Rule
from iotda_provider.guards.sequential import EvidenceRule, SequentialFailureTest
from iotda_provider.guards.start_ages import StartAges
from iotda_provider.guards.thresholds import MaxFailureRate, MaxFailures
from iotda_provider.guards.time_rules import Overdue, Stalled
from iotda_provider.models import checks


@dataclass(frozen=True)
class Result:
    """What one rule did to fleets of one kind.

    :param stop_times: for each fleet the time of its stop in seconds; None: it was not stopped
    :param exposed: for each fleet the devices that had started by the stop; all devices if there
        was none
    :param harmed: for each fleet those of them that fail
    """

    rule: Rule
    fleet: Fleet
    stop_times: tuple[float | None, ...]
    exposed: tuple[int, ...]
    harmed: tuple[int, ...]

    @property
    def stopped(self) -> float:
        """The share of the fleets that were stopped."""
        return sum(time is not None for time in self.stop_times) / len(self.stop_times)

    @property
    def median_stop_time(self) -> float | None:
        """The median time to the stop in seconds, over the stopped fleets; None: there are none."""
        times = sorted(time for time in self.stop_times if time is not None)
        return times[len(times) // 2] if times else None

    @property
    def mean_exposed(self) -> float:
        """Devices that had started by the stop, on average."""
        return sum(self.exposed) / len(self.exposed)

    @property
    def mean_harmed(self) -> float:
        """Devices that had started by the stop and fail, on average."""
        return sum(self.harmed) / len(self.harmed)


def simulate(
    rules: Sequence[Rule],
    fleet: Fleet,
    *,
    fleets: int = 1000,
    seed: int = 1,
    progress: Callable[[int], None] | None = None,
) -> list[Result]:
    """Run every rule on the same simulated rollouts.

    :param rules: stopping rules; a rule that needs clusters cannot be simulated
    :param fleet: how the fleets behave
    :param fleets: the number of fleets
    :param seed: the seed of the random numbers; each fleet has a stream of its own
    :param progress: called after every 50 fleets with the number of fleets done
    :raises ValueError: a rule cannot be simulated
    """
    checks.whole("fleets", fleets, least=1)
    checks.whole("seed", seed)
    for rule in rules:
        if CLUSTERS in rule.needs:
            raise ValueError(f"{rule.name} needs clusters, and simulated fleets have none")
    found: list[list[tuple[float | None, int, int]]] = [[] for _ in rules]
    for number, stream in enumerate(np.random.SeedSequence(seed).spawn(fleets)):
        course = run(fleet, np.random.default_rng(stream))
        for rows, rule in zip(found, rules, strict=True):
            index = first_breach(rule, course)
            last = -1 if index is None else index
            rows.append(
                (
                    None if index is None else float(course.time[index]),
                    int(course.truly_started[last]),
                    int(course.will_fail[last]),
                )
            )
        if progress and number % 50 == 49:
            progress(number + 1)
    return [
        Result(rule, fleet, *map(tuple, zip(*rows, strict=True)))
        for rule, rows in zip(rules, found, strict=True)
    ]


def first_breach(rule: Rule, course: Course) -> int | None:
    """The index of the first look at which the rule breaks, as in :func:`evaluate`; None: never."""
    broken = _broken(rule, course)
    index = int(np.argmax(broken))
    return index if broken[index] else None


def _broken(rule: Rule, course: Course) -> Any:
    """For every look, whether the rule breaks there."""
    if isinstance(rule, Stalled):
        still = course.time - course.still_since
        return (course.unfinished > 0) & (still >= rule.for_seconds)
    if isinstance(rule, MaxFailures):
        return _failed(rule.classes, course) >= rule.count
    if isinstance(rule, MaxFailureRate):
        sizes = {
            "started": course.ever_started,
            "finished": course.success + course.fail,
            "total": np.full(len(course.time), course.fleet.devices),
        }
        size = sizes[rule.denominator]
        share = _failed(rule.classes, course) / np.maximum(size, 1)
        return (size >= rule.min_sample) & (share >= rule.rate)
    if isinstance(rule, Combined):
        return _combined(rule, course)
    if isinstance(rule, SequentialFailureTest) and rule.reporting is not None:
        failed = _counted(rule, course)
        return hazards(rule, course) <= _largest_hazards(rule, int(failed.max()))[failed]
    if isinstance(rule, EvidenceRule):
        fewest = _fewest(rule, course.fleet.devices)
        return _counted(rule, course) >= fewest[course.ever_started]
    if isinstance(rule, EnoughSuccess):
        raise ValueError(f"{rule.name} stops nothing")
    raise TypeError(f"{rule.name} can't be simulated: guards/lab/simulation.py does not know it")


def _failed(classes: tuple[str, ...] | None, course: Course) -> Any:
    kinds = {"environment": course.environment, "firmware": course.firmware}
    return sum((kinds[name] for name in classes or kinds if name in kinds), start=0 * course.fail)


def _counted(rule: EvidenceRule, course: Course) -> Any:
    """For every look the failures, for ``Overdue`` with the overdue devices."""
    if ATTEMPTS in rule.needs:
        return course.attempted
    failed = _failed(rule.classes, course)
    if not isinstance(rule, Overdue):
        return failed
    starts = course.starts
    then = np.searchsorted(course.time, course.time - rule.after_seconds, side="right") - 1
    lately = starts - np.where(then >= 0, starts[np.maximum(then, 0)], 0)
    return failed + np.maximum(0, course.unfinished - lately)


@lru_cache(maxsize=64)
def _fewest(rule: EvidenceRule, devices: int) -> Any:
    """For every number of started devices, the fewest failures that break the rule."""
    never = devices + 1
    critical = critical_failures(rule, tuple(range(1, devices + 1)), devices)
    return np.array([never, *(never if fewest is None else fewest for fewest in critical)])


def _combined(rule: Combined, course: Course) -> Any:
    counts = [course.ever_started, *(_counted(part, course) for part in rule.parts)]
    known = [
        hazards(part, course)
        for part in rule.parts
        if isinstance(part, SequentialFailureTest) and part.reporting is not None
    ]
    kinds, which = np.unique(np.stack([*counts, *known], axis=1), axis=0, return_inverse=True)
    broken = []
    for kind in kinds:
        size, *failed = map(int, kind[: len(counts)])
        broken.append(rule.breaks_on(failed, size, map(float, kind[len(counts) :])))
    return np.array(broken)[which.reshape(-1)]


def hazards(rule: SequentialFailureTest, course: Course) -> Any:
    """For every look Λ, the cumulative hazard that a rule with ``reporting`` allows for."""
    started = course.ever_started
    known = _known_hazards(rule, course.fleet.poll)
    size = len(started)
    if known and np.array_equal(known[0][0][:size], started):
        return known[0][1][:size]
    found, ages = np.zeros(size), StartAges()
    assert rule.reporting is not None
    for index in range(size):
        now, more = float(course.time[index]), 0
        if index:
            more = int(started[index] - started[index - 1])
        before = float(course.time[index - 1]) if index else now
        ages = ages.after(more, before, now, rule.ages_up_to)
        count = int(started[index])
        found[index] = rule.reporting.total_hazard(rule.tolerated_rate, count, ages, now)
    known[:] = [(started, found)]
    return found


@lru_cache(maxsize=64)
def _known_hazards(rule: SequentialFailureTest, poll: float) -> list[tuple[Any, Any]]:
    """The starts of the last fleet and its hazards: many fleets start alike. It is filled later."""
    return []


@lru_cache(maxsize=64)
def _largest_hazards(rule: SequentialFailureTest, failed: int) -> Any:
    """For 0, 1, ... ``failed`` failures, the largest hazard at which they break the rule."""
    return np.array([_largest_hazard(rule, count) for count in range(failed + 1)])


@lru_cache(maxsize=100_000)
def _largest_hazard(rule: SequentialFailureTest, failed: int) -> float:
    """The largest hazard at which so many failures break the rule; -1: none."""
    if not rule.breaks_by(failed, 0.0):
        return -1.0
    low, high = 0.0, float(failed + 1)
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if rule.breaks_by(failed, middle) else (low, middle)
    return low


DEFAULT_RULES: tuple[Rule, ...] = (
    MaxFailureRate(0.05, min_sample=100, denominator="finished"),
    MaxFailureRate(0.05, min_sample=100),
    SequentialFailureTest(0.02),
)
"""The rules if the user names none: AWS's, the same over started devices, the sequential test."""
