"""False stops, power and devices exposed: what repeated looks and reporting delays do to rules.

    python benchmarks/bench_guard_tables.py [--fleets 1000] [--seed 1]

The first and the last table are computed exactly, the second is simulated.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import numpy as np
from scipy.special import betaincc
from scipy.stats import norm

from iotda_provider.guards import MaxFailureRate, Rule, SequentialFailureTest
from iotda_provider.guards.lab.exact import critical_failures, every_device, exposure, exposure_of
from iotda_provider.guards.lab.fleets import Course, Fleet, run
from iotda_provider.guards.lab.reports import duration, table
from iotda_provider.guards.lab.simulation import first_breach

RATES = (0.01, 0.02, 0.05, 0.1)
MIXTURE = SequentialFailureTest(0.02, 0.01)


def wilson(failed: int, devices: int) -> bool:
    """The lower end of Wilson's one-sided 99 % interval is above 2 %."""
    z, share = norm.ppf(0.99), failed / devices
    middle = share + z * z / (2 * devices)
    half = z * math.sqrt(share * (1 - share) / devices + z * z / (4 * devices * devices))
    return bool((middle - half) / (1 + z * z / devices) > 0.02)


def posterior(failed: int, devices: int) -> bool:
    """The posterior chance that the rate is above 2 % exceeds 99 %, with a uniform prior."""
    return bool(betaincc(1 + failed, 1 + devices - failed, 0.02) > 0.99)


def sprt(failed: int, devices: int) -> bool:
    """Wald's test of 2 % against 5 %."""
    log = failed * math.log(0.05 / 0.02) + (devices - failed) * math.log(0.95 / 0.98)
    return log >= math.log(100)


def boundary(breaks: Callable[[int, int], bool], devices: int) -> list[int | None]:
    """The fewest failures that break a rule, after every device."""
    found: list[int | None] = []
    for size in range(1, devices + 1):
        found.append(next((s for s in range(size + 1) if breaks(s, size)), None))
    return found


def looking_after_every_device() -> str:
    """Exact, 2,000 devices, p0 = 2 %, alpha = 1 %."""
    devices = 2000
    looks = every_device(devices)
    rules: list[tuple[str, Rule | Callable[[int, int], bool]]] = [
        ("MaxFailureRate(0.02, 30)", MaxFailureRate(0.02, 30)),
        ("MaxFailureRate(0.05, 10)", MaxFailureRate(0.05, 10)),
        ("MaxFailureRate(0.05, 30)", MaxFailureRate(0.05, 30)),
        ("MaxFailureRate(0.05, 100)", MaxFailureRate(0.05, 100)),
        ("MaxFailureRate(0.08, 70)", MaxFailureRate(0.08, 70)),
        ("Wilson 99 %, repeated", wilson),
        ("posterior > 99 %, repeated", posterior),
        ("SPRT 2 % v 5 %", sprt),
        ("SequentialFailureTest(0.02)", MIXTURE),
    ]
    rows = []
    for name, rule in rules:
        if isinstance(rule, Rule):
            critical: list[int | None] = list(critical_failures(rule, looks, devices))
        else:
            critical = boundary(rule, devices)
        at = [exposure_of(critical, looks, rate, devices) for rate in RATES]
        rows.append(
            (
                name,
                *(f"{each.stopped:.4f}" for each in at[:3]),
                str(at[2].median_devices or "-"),
                str(at[3].median_devices or "-"),
                f"{at[3].mean_devices:.1f}",
            )
        )
    head = ("rule", "stops at 1 %", "2 % (false)", "5 %", "median n", "10 %: median n", "mean n")
    return table(head, rows)


def over_finished(course: Course) -> int | None:
    """The mixture over finished devices: what not to do."""
    finished, failed = course.success + course.fail, course.fail
    # Only where a failure was added can it begin to break.
    for index in np.flatnonzero(np.diff(failed, prepend=0)):
        if MIXTURE.breaks(int(failed[index]), int(finished[index])):
            return int(index)
    return None


def reporting_delays(fleets: int, seed: int) -> str:
    """1,000 devices at once; failures after 10 min, successes after 120 min, exponentially."""
    rules: list[tuple[str, Callable[[Course], int | None]]] = [
        ("SequentialFailureTest, n = finished", over_finished),
        *(
            (name, lambda course, rule=rule: first_breach(rule, course))
            for name, rule in (
                ("5 % from 100, n = finished", MaxFailureRate(0.05, 100, "finished")),
                ("SequentialFailureTest, n = started", MIXTURE),
                ("5 % from 100, n = started", MaxFailureRate(0.05, 100)),
            )
        ),
    ]
    stops: list[list[list[float]]] = [[[] for _ in RATES] for _ in rules]
    for column, rate in enumerate(RATES):
        for stream in np.random.SeedSequence(seed).spawn(fleets):
            course = run(Fleet(failure_rate=rate), np.random.default_rng(stream))
            for row, (_, judge) in enumerate(rules):
                index = judge(course)
                if index is not None:
                    stops[row][column].append(float(course.time[index]))
    rows = [
        (
            name,
            *(f"{len(times) / fleets:.4f}" for times in stops[row]),
            duration(sorted(stops[row][-1])[len(stops[row][-1]) // 2] if stops[row][-1] else None),
        )
        for row, (name, _) in enumerate(rules)
    ]
    head = ("rule", *(f"p = {100 * rate:g} %" for rate in RATES), "median at 10 %")
    return table(head, rows)


def waves() -> str:
    """Exact: the sequential test at the ends of the waves of a staged rollout."""
    looks = (100, 500, 2500, 10_000, 30_000)
    critical = critical_failures(MIXTURE, looks, looks[-1])
    rates = (0.02, 0.03, 0.05, 0.1)
    rows = []
    for rate in rates:
        each = exposure(MIXTURE, rate, looks[-1], looks=looks)
        rows.append((f"{100 * rate:g} %", f"{each.stopped:.5f}", f"{each.mean_devices:,.0f}"))
    text = f"waves of {looks}, stopped by {critical} failures"
    return f"{text}\n{table(('true rate', 'stopped', 'mean devices exposed'), rows)}"


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fleets", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(f"{looking_after_every_device.__doc__}\n{looking_after_every_device()}\n")
    print(f"{reporting_delays.__doc__} {options.fleets} fleets, seed {options.seed}.")
    print(f"{reporting_delays(options.fleets, options.seed)}\n")
    print(f"{waves.__doc__}\n{waves()}")


if __name__ == "__main__":
    main()
