"""Devices harmed by bad firmware: the sequential test beside the best percentage rule.

    python benchmarks/bench_guard_harm.py [--fleets 1000] [--seed 1]

The percentage rule is the best of a grid: it stops a healthy fleet (2 % fail) at most as often as
the sequential test, and harms the fewest devices when 10 % fail. A device is harmed if it started
before the stop and ends as failed. The goal: the sequential test harms at most 0.75 times as many.
"""

from __future__ import annotations

import argparse
from bisect import bisect_left
from dataclasses import replace

import numpy as np

from iotda_provider.guards import MaxFailureRate, SequentialFailureTest
from iotda_provider.guards.lab.exact import exposure
from iotda_provider.guards.lab.fleets import Fleet, run
from iotda_provider.guards.lab.notation import notation
from iotda_provider.guards.lab.reports import table
from iotda_provider.guards.lab.simulation import simulate

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


def main() -> None:
    """Print one line for each design."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fleets", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
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


if __name__ == "__main__":
    main()
