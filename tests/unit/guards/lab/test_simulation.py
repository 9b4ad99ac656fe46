"""Simulated fleets: the bound with delays, and agreement with the evaluator."""

from __future__ import annotations

import numpy as np
import pytest

from iotda_provider.guards import (
    Combined,
    MaxFailureRate,
    MaxFailures,
    Overdue,
    ReportingDelay,
    Rule,
    SequentialFailureTest,
    Stalled,
    evaluate,
)
from iotda_provider.guards.lab.fleets import Fleet, run
from iotda_provider.guards.lab.simulation import first_breach, simulate

DELAY = ReportingDelay({300: 0.2, 1500: 0.9, 6000: 1})
RULES: list[Rule] = [
    MaxFailures(12),
    MaxFailures(4, failure_class="firmware"),
    MaxFailureRate(0.05, 50),
    MaxFailureRate(0.05, 50, "finished"),
    MaxFailureRate(0.04, 50, "total", "environment"),
    SequentialFailureTest(0.02),
    SequentialFailureTest(0.02, failure_class=("environment", "unknown")),
    Stalled(1800),
    Overdue(5400, 0.02),
    Combined([SequentialFailureTest(0.02, failure_class="firmware"), Overdue(5400, 0.05)]),
    SequentialFailureTest(0.02, reporting=DELAY),
    SequentialFailureTest(0.02, failure_class="firmware", reporting=DELAY),
    Combined([SequentialFailureTest(0.02, reporting=DELAY), Overdue(5400, 0.05)]),
    SequentialFailureTest(0.1, counts="attempts"),
    Combined([SequentialFailureTest(0.02), SequentialFailureTest(0.1, counts="attempts")]),
]

KINDS = [
    Fleet(devices=200, poll=300),
    Fleet(devices=200, poll=300, failure_rate=0.08, arrival=9000, environment_share=0.5),
    Fleet(devices=200, poll=300, failure_rate=0.06, spread="lognormal", silent_rate=0.5),
    Fleet(devices=200, poll=300, failure_rate=0.05, arrival=7200, hand_stop_at=3000),
    Fleet(devices=60, poll=60, failure_rate=0.1, spread="fixed", hand_stop_at=700, arrival=600),
    Fleet(devices=400, poll=43, failure_rate=0.05, spread="lognormal", sigma=0.3, arrival=6000),
    Fleet(devices=200, poll=300, failure_rate=0.1, retry_count=3, arrival=9000),
    Fleet(
        devices=200,
        poll=30,
        failure_rate=0.02,
        first_failure_rate=0.3,
        success_after=1200,
        retry_count=2,
        retry_interval=1,
        arrival=6000,
        hand_stop_at=3000,
    ),
]


@pytest.mark.parametrize("fleet", KINDS, ids=range(len(KINDS)))
def test_a_simulated_guard_decides_as_the_evaluator_does(fleet: Fleet) -> None:
    for seed in range(4):
        course = run(fleet, np.random.default_rng(seed))
        looks = [course.look(index) for index in range(len(course.time))]
        for rule in RULES:
            state, found = None, None
            for index, look in enumerate(looks):
                state, verdict = evaluate(rule, state, look)
                if verdict.breached:
                    found = index
                    break
            assert first_breach(rule, course) == found, rule


@pytest.mark.parametrize("fleet", KINDS, ids=range(len(KINDS)))
def test_the_counts_of_a_simulated_rollout_always_add_up(fleet: Fleet) -> None:
    course = run(fleet, np.random.default_rng(1))
    looks = [course.look(index) for index in range(len(course.time))]
    assert all(look.progress.adds_up for look in looks)
    last = looks[-1].progress
    assert last.success + last.fail + last.stopped == fleet.devices


DELAYED = {
    "at once": Fleet(poll=60),
    "staggered": Fleet(poll=60, arrival=6 * 3600.0),
    "partly stopped by hand": Fleet(poll=60, hand_stop_at=1200, hand_stop_share=0.4),
    "staggered, partly stopped by hand": Fleet(
        poll=60, arrival=6 * 3600.0, hand_stop_at=7200, hand_stop_share=0.9
    ),
}


@pytest.mark.parametrize("kind", DELAYED)
def test_delays_do_not_break_the_bound_and_bad_firmware_is_stopped(kind: str) -> None:
    """1,000 devices; failures report after 10 minutes, successes after 2 hours."""
    rules: list[Rule] = [SequentialFailureTest(0.02), MaxFailureRate(0.05, 100, "finished")]
    kept, aws = simulate(rules, DELAYED[kind], fleets=1000, seed=6)
    assert kept.stopped <= 0.01
    assert aws.stopped > 0.2
    bad = Fleet(**{**vars(DELAYED[kind]), "failure_rate": 0.1})
    (caught,) = simulate([rules[0]], bad, fleets=1000, seed=6)
    assert caught.stopped >= 0.99


def test_the_same_seed_gives_the_same_result() -> None:
    fleet = Fleet(devices=100, failure_rate=0.05, poll=60)
    assert simulate(RULES, fleet, fleets=5, seed=3) == simulate(RULES, fleet, fleets=5, seed=3)
    assert simulate(RULES, fleet, fleets=5, seed=3) != simulate(RULES, fleet, fleets=5, seed=4)


def test_results_count_devices_exposed_and_harmed() -> None:
    fleet = Fleet(devices=100, failure_rate=1.0, arrival=6000, failure_after=30, spread="fixed")
    (result,) = simulate([MaxFailures(3)], fleet, fleets=2)
    assert result.stopped == 1
    assert result.median_stop_time == 150
    assert result.mean_exposed == 3
    assert result.mean_harmed == 3
    (never,) = simulate([MaxFailures(101)], fleet, fleets=2)
    assert never.stopped == 0
    assert never.median_stop_time is None
    assert never.mean_exposed == 100


def test_rules_that_need_clusters_cannot_be_simulated() -> None:
    with pytest.raises(ValueError, match="clusters"):
        simulate([SequentialFailureTest(0.02, leave_worst_out=True)], Fleet(), fleets=1)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"devices": 0}, "devices"),
        ({"failure_rate": 2}, "failure_rate"),
        ({"poll": 0}, "poll"),
        ({"arrival": -1}, "arrival"),
        ({"spread": "normal"}, "spread"),
        ({"hand_stop_at": "soon"}, "hand_stop_at"),
    ],
)
def test_a_fleet_that_makes_no_sense_is_refused(change: dict[str, object], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Fleet(**change)  # type: ignore[arg-type]
