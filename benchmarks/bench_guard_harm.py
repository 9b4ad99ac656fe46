"""Devices harmed by bad firmware: the sequential test beside the best percentage rule.

    python benchmarks/bench_guard_harm.py [--fleets 1000] [--seed 1]
    python benchmarks/bench_guard_harm.py --reporting [--rows 1,2,3,4] [--fleets 2000] [--slack 0]

The percentage rule is the best of a grid: it stops a healthy fleet (2 % fail) at most as often as
the sequential test, and harms the fewest devices when 10 % fail. A device is harmed if it started
before the stop and ends as failed. The goal: the sequential test harms at most 0.75 times as many.

With ``--reporting`` it is the test that knows how late failures report, for 2,000 devices over six
hours and four delays: with F known, 30 % too fast, and learned anew from 400 failures for each 100
fleets. The percentage rules (0.25 points, 13 sample sizes, of the started devices) are picked on
this very delay, once with at most 0.54 % false stops and once with at most 1 %. The goals: at most
1.10, 1.25 and 1.20 times as many harmed devices within two standard errors, below 1 on average of
the rows with F known, and at most 1 % false stops.
"""

from __future__ import annotations

import argparse
import math
import sys
from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import ndtri

from iotda_provider.guards import MaxFailureRate, ReportingDelay, SequentialFailureTest
from iotda_provider.guards.lab.exact import exposure
from iotda_provider.guards.lab.fleets import Course, Fleet, run
from iotda_provider.guards.lab.notation import notation
from iotda_provider.guards.lab.reports import table
from iotda_provider.guards.lab.simulation import Result, simulate

HEALTHY, BAD = 0.02, 0.1
TEST = SequentialFailureTest(0.02, 0.01)
SHARES = [percent / 1000 for percent in range(25, 201, 5)]
SAMPLES = [*range(10, 201, 10), 250, 300, 400, 500]
HEAD = ("design", "best percentage rule", "false stops", "harmed", "test: false", "harmed", "ratio")


def one_by_one(devices: int) -> tuple[str, ...]:
    """Exact: each outcome is known before the next device starts."""
    allowed = exposure(TEST, HEALTHY, devices).stopped
    harmed = BAD * exposure(TEST, BAD, devices).mean_devices
    found = []
    for sample in SAMPLES:
        # A lower share stops earlier, healthy fleets as well as bad ones: of each sample only the
        # lowest share that is still allowed can be the best.
        index = bisect_left(
            SHARES,
            True,
            key=lambda share: (
                exposure(MaxFailureRate(share, sample), HEALTHY, devices).stopped <= allowed
            ),
        )
        if index < len(SHARES):
            rule = MaxFailureRate(SHARES[index], sample)
            # By Wald's identity the mean failures are the rate times the mean devices.
            found.append((BAD * exposure(rule, BAD, devices).mean_devices, rule))
    least, best = min(found, key=lambda item: item[0])
    false = exposure(best, HEALTHY, devices).stopped
    return _row(f"one by one, {devices:,}", best, false, least, allowed, harmed)


def delayed(name: str, fleet: Fleet, fleets: int, seed: int) -> tuple[str, ...]:
    """Simulated: outcomes are reported late, so devices start meanwhile."""
    (healthy,) = simulate([TEST], replace(fleet, failure_rate=HEALTHY), fleets=fleets, seed=seed)
    highest = {
        (denominator, sample): [] for denominator in ("started", "finished") for sample in SAMPLES
    }
    for stream in np.random.SeedSequence(seed).spawn(fleets):
        course = run(replace(fleet, failure_rate=HEALTHY), np.random.default_rng(stream))
        sizes = {"started": course.ever_started, "finished": course.success + course.fail}
        shares = {which: course.fail / np.maximum(size, 1) for which, size in sizes.items()}
        for (which, sample), peaks in highest.items():
            # The rule stops this fleet exactly where its share is not above this peak.
            peaks.append(np.where(sizes[which] >= sample, shares[which], 0.0).max())
    rules = []
    for (which, sample), peaks in highest.items():
        lowest = [s for s in SHARES if np.mean(np.array(peaks) >= s) <= healthy.stopped]
        if lowest:
            rules.append(MaxFailureRate(lowest[0], sample, which))
    bad = simulate([TEST, *rules], replace(fleet, failure_rate=BAD), fleets=fleets, seed=seed)
    best = min(bad[1:], key=lambda result: result.mean_harmed)
    rule = best.rule
    assert isinstance(rule, MaxFailureRate)
    false = float(np.mean(np.array(highest[rule.denominator, rule.min_sample]) >= rule.rate))
    return _row(name, rule, false, best.mean_harmed, healthy.stopped, bad[0].mean_harmed)


def _row(
    design: str, rule: MaxFailureRate, false: float, harmed: float, our_false: float, ours: float
) -> tuple[str, ...]:
    numbers = (f"{false:.4f}", f"{harmed:.2f}", f"{our_false:.4f}", f"{ours:.2f}")
    return (design, notation(rule), *numbers, f"{ours / harmed:.2f}")


# --- the test that knows how late failures report ------------------------------------------------

REPORTING_SHARES = [quarter / 400 for quarter in range(4, 49)]
REPORTING_SAMPLES = [10, 20, 30, 40, 50, 70, 100, 150, 200, 250, 300, 400, 500]
SIGMA, LEARNED_FROM, FLEETS_FOR_ONE_F = 0.3, 400, 100
ALLOWED = (0.0054, 0.01)
REPORTING_HEAD = (
    *("delay", "no F: false", "harmed", "F known", "harmed", "30 % too fast", "harmed"),
    *("F learned", "harmed", "best rule: 0.54 %", "harmed", "1 %", "harmed", "ratios"),
)


@dataclass(frozen=True)
class Delay:
    """How late failures report."""

    name: str
    spread: str
    median_or_mean: float

    @property
    def fleet(self) -> Fleet:
        """2,000 devices over six hours; when successes report makes no difference here."""
        mean = self.median_or_mean * (math.exp(SIGMA**2 / 2) if self.spread == "lognormal" else 1)
        return Fleet(
            devices=2000,
            arrival=6 * 3600,
            failure_after=mean,
            success_after=60,
            spread=self.spread,
            sigma=SIGMA,
            poll=30,
        )

    def quantile(self, share: float) -> float:
        """The time by which this share of the failures has been reported."""
        if self.spread == "exponential":
            return -self.median_or_mean * math.log1p(-share)
        return self.median_or_mean * math.exp(SIGMA * float(ndtri(share)))

    def known(self, times: float, slack: float) -> ReportingDelay:
        """F; with ``times`` below 1, failures come so much sooner by it than they do."""
        shares = [*(index / 400 for index in range(1, 400)), 0.9985, 0.9995, 0.9999]
        knots = {times * self.quantile(share): share for share in sorted(shares)}
        last = times * self.quantile(0.99999)
        return ReportingDelay({0: 0, **knots, last: 1}, floor=0, slack=slack)

    def learned(self, random: Any, slack: float) -> ReportingDelay:
        """F from 400 failures of earlier rollouts, without a floor."""
        delays = [self.quantile(share) for share in random.random(LEARNED_FROM)]
        return ReportingDelay.learned(delays, floor=0, slack=slack)


DELAYS = (
    Delay("exponential, mean 10 min", "exponential", 600),
    Delay("exponential, mean 60 min", "exponential", 3600),
    Delay("log-normal, median 10 min", "lognormal", 600),
    Delay("log-normal, median 60 min", "lognormal", 3600),
)


class Harm:
    """What a rule has done: for each fleet whether it was stopped, and the harmed devices."""

    def __init__(self, healthy: list[bool], bad: list[int]) -> None:
        self.false = float(np.mean(healthy))
        self.harmed = np.array(bad, dtype=float)

    @classmethod
    def of(cls, healthy: list[Result], bad: list[Result]) -> Harm:
        """From simulations with the same fleets."""
        return cls(
            [time is not None for one in healthy for time in one.stop_times],
            [devices for one in bad for devices in one.harmed],
        )

    @property
    def mean(self) -> float:
        """The harmed devices of a fleet."""
        return float(self.harmed.mean())

    def against(self, other: Harm) -> tuple[float, float]:
        """The ratio of harmed devices on the same fleets, and its standard error."""
        ratio = self.mean / other.mean
        spread = float(np.std(self.harmed - ratio * other.harmed, ddof=1))
        return ratio, spread / math.sqrt(len(self.harmed)) / other.mean


class Grid:
    """All percentage rules on the same fleets, which are gone through once."""

    def __init__(self) -> None:
        self.stopped: dict[int, list[Any]] = {sample: [] for sample in REPORTING_SAMPLES}
        self.harmed: dict[int, list[Any]] = {sample: [] for sample in REPORTING_SAMPLES}

    def healthy(self, course: Course) -> None:
        """Note which rules stop this fleet."""
        for sample, peaks in self._peaks(course):
            self.stopped[sample].append(peaks[-1] >= np.array(REPORTING_SHARES))

    def bad(self, course: Course) -> None:
        """Note how many devices are harmed under each rule."""
        last = len(course.time) - 1
        for sample, peaks in self._peaks(course):
            index = np.searchsorted(peaks, REPORTING_SHARES, side="left")
            self.harmed[sample].append(course.will_fail[np.minimum(index, last)])

    def _peaks(self, course: Course) -> Any:
        """For each sample the highest share so far, at each look."""
        share = course.fail / np.maximum(course.ever_started, 1)
        for sample in REPORTING_SAMPLES:
            counts = course.ever_started >= sample
            yield sample, np.maximum.accumulate(np.where(counts, share, 0.0))

    def best(self, most_false: float) -> tuple[MaxFailureRate, Harm]:
        """The rule that harms the fewest devices among those with so few false stops."""
        found = []
        for sample in REPORTING_SAMPLES:
            stopped, harmed = np.array(self.stopped[sample]), np.array(self.harmed[sample])
            for index, share in enumerate(REPORTING_SHARES):
                if stopped[:, index].mean() <= most_false:
                    harm = Harm(list(stopped[:, index]), list(harmed[:, index]))
                    found.append((MaxFailureRate(share, sample), harm))
        return min(found, key=lambda pair: pair[1].mean)


def reporting(
    delay: Delay, fleets: int, seed: int, slack: float, arrival: float
) -> tuple[Any, ...]:
    """One row of the table, the ratios, and the most false stops."""
    known = [
        SequentialFailureTest(0.02, reporting=delay.known(times, slack)) for times in (1.0, 0.7)
    ]
    found: dict[float, list[list[Result]]] = {HEALTHY: [], BAD: []}
    grid = Grid()
    for part in range(0, fleets, FLEETS_FOR_ONE_F):
        learned = delay.learned(np.random.default_rng([seed, part]), slack)
        rules = [TEST, *known, SequentialFailureTest(0.02, reporting=learned)]
        size, here = min(FLEETS_FOR_ONE_F, fleets - part), seed + part
        for rate, results in found.items():
            fleet = replace(delay.fleet, failure_rate=rate, arrival=arrival)
            results.append(simulate(rules, fleet, fleets=size, seed=here))
            for stream in np.random.SeedSequence(here).spawn(size):
                course = run(fleet, np.random.default_rng(stream))
                (grid.bad if rate == BAD else grid.healthy)(course)
    ours = [
        Harm.of(list(healthy), list(bad))
        for healthy, bad in zip(
            zip(*found[HEALTHY], strict=True), zip(*found[BAD], strict=True), strict=True
        )
    ]
    cells = [cell for harm in ours for cell in (f"{harm.false:.2%}", f"{harm.mean:.1f}")]
    ratios = []
    for most in ALLOWED:
        rule, best = grid.best(most)
        cells += [f"{100 * rule.rate:g} % from {rule.min_sample}", f"{best.mean:.1f}"]
        ratios.append([harm.against(best) for harm in ours[1:]])
    shown = "; ".join(" ".join(f"{r:.2f}±{se:.2f}" for r, se in row) for row in ratios)
    return (delay.name, *cells, shown), ratios, max(harm.false for harm in ours[1:])


#: How many times as many devices as the best percentage rule may be harmed, as the columns are.
GOALS = {"F known": 1.10, "F 30 % too fast": 1.25, "F learned": 1.20}


def reporting_table(rows: list[int], fleets: int, seed: int, slack: float, arrival: float) -> bool:
    """Print the table, and each goal; whether all are reached.

    The goals are against the percentage rules with as few false stops, at most 0.54 %.
    """
    lines, known, goals = [], [], []
    for number in rows:
        name = DELAYS[number - 1].name
        line, ratios, false = reporting(DELAYS[number - 1], fleets, seed, slack, arrival)
        lines.append(line)
        goals.append((false <= 0.01, f"{name}: false stops at most 1 %: {false:.2%}"))
        for (which, goal), (ratio, error) in zip(GOALS.items(), ratios[0], strict=True):
            said = f"{name}: {which}: harmed at most {goal:.2f} ± 2·{error:.3f} times as many"
            goals.append((ratio <= goal + 2 * error, f"{said}: {ratio:.3f}"))
        known.append([row[0][0] for row in ratios])
    print(table(REPORTING_HEAD, lines))
    means = [sum(row) / len(rows) for row in zip(*known, strict=True)]
    for most, mean in zip(ALLOWED, means, strict=True):
        print(f"F known, against rules with at most {most:.2%} false stops: {mean:.3f} on average")
    # If all devices start at once, every rule harms all of them.
    if len(rows) == len(DELAYS) and arrival >= 60:
        goals.append((means[0] < 1, f"F known: below 1 on average of the rows: {means[0]:.3f}"))
    print()
    for reached, goal in goals:
        print(f"{'reached' if reached else 'MISSED':8} {goal}")
    return all(reached for reached, _ in goals)


def main() -> int:
    """Print one line for each design."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fleets", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--reporting", action="store_true", help="the test that knows the delay")
    parser.add_argument("--rows", default="1,2,3,4", help="with --reporting: which delays")
    parser.add_argument("--slack", type=float, default=0.0, help="seconds; the clocks here agree")
    parser.add_argument(
        "--arrival", type=float, default=6 * 3600, help="with --reporting: 1 for all at once"
    )
    options = parser.parse_args()
    if options.reporting:
        rows = [int(number) for number in options.rows.split(",")]
        fleets = options.fleets or 2000
        print(f"{fleets} fleets, seed {options.seed}, slack {options.slack:g} s\n")
        how = (options.seed, options.slack, options.arrival)
        return 0 if reporting_table(rows, fleets, *how) else 1
    options.fleets = options.fleets or 1000
    print(
        f"grid: {100 * SHARES[0]:g} % to {100 * SHARES[-1]:g} % by 0.5, from {SAMPLES[0]} to "
        f"{SAMPLES[-1]} devices on ({len(SHARES) * len(SAMPLES)} rules; with delays as many again "
        f"over finished devices); {options.fleets} fleets, seed {options.seed}\n"
    )
    rows = [one_by_one(devices) for devices in (500, 2000, 5000)]
    base = Fleet(devices=2000, poll=60)
    for name, fleet in (
        ("one a minute, failures after 10 min", replace(base, arrival=2000 * 60)),
        ("over 6 hours, failures after 10 min", replace(base, arrival=6 * 3600)),
        (
            "over 6 hours, failures after 1 hour",
            replace(base, arrival=6 * 3600, failure_after=3600),
        ),
        ("all at once, failures after 10 min", base),
    ):
        rows.append(delayed(name, fleet, options.fleets, options.seed))
    print(table(HEAD, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
