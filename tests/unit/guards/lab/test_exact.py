"""Exact calculation: the published table, and what a plan says."""

from __future__ import annotations

import pytest

from iotda_provider.guards import (
    Combined,
    MaxFailureRate,
    MaxFailures,
    Rule,
    SequentialFailureTest,
    Stalled,
    Verdict,
)
from iotda_provider.guards.lab.exact import critical_failures, every_device, exposure
from iotda_provider.guards.lab.fleets import Fleet
from iotda_provider.guards.lab.simulation import simulate
from iotda_provider.guards.look import Counts

TEST = SequentialFailureTest(0.02)


@pytest.mark.parametrize(
    ("rule", "healthy", "tolerated", "power", "median", "median_bad"),
    [
        (MaxFailureRate(0.02, 30), 0.500, 0.938, 1.00, 30, 30),
        (MaxFailureRate(0.05, 10), 0.200, 0.400, 0.961, 14, 10),
        (MaxFailureRate(0.05, 30), 0.068, 0.237, 0.946, 34, 30),
        (MaxFailureRate(0.05, 100), 0.0039, 0.065, 0.919, 100, 100),
        (MaxFailureRate(0.08, 70), 0.0001, 0.0046, 0.250, None, 70),
        (TEST, 0.0002, 0.0054, 1.00, 309, 54),
    ],
)
def test_the_published_table_of_two_thousand_devices_is_reproduced(
    rule: Rule,
    healthy: float,
    tolerated: float,
    power: float,
    median: int | None,
    median_bad: int,
) -> None:
    at = {rate: exposure(rule, rate, 2000) for rate in (0.01, 0.02, 0.05, 0.1)}
    digits = 3 if tolerated > 0.01 else 4
    assert round(at[0.02].stopped, digits) == tolerated
    assert at[0.01].stopped == pytest.approx(healthy, abs=5.1e-4 if healthy > 0.01 else 5.1e-5)
    assert at[0.05].stopped == pytest.approx(power, abs=1e-3)
    assert at[0.05].median_devices == median
    assert at[0.1].median_devices == median_bad


class NewRule(Rule):
    """Somebody has added a rule, and nothing to the laboratory."""

    def _judge(self, counts: Counts) -> Verdict:
        raise AssertionError("the laboratory knows rules by their kind")


def test_a_rule_that_the_laboratory_does_not_know_is_not_called_harmless() -> None:
    with pytest.raises(TypeError, match=r"NewRule can't be computed"):
        exposure(NewRule(), 0.1, 100)
    with pytest.raises(TypeError, match=r"NewRule can't be simulated"):
        simulate([NewRule()], Fleet(devices=100), fleets=1)


def test_mean_exposures_of_the_published_table() -> None:
    assert exposure(TEST, 0.1, 2000).mean_devices == pytest.approx(67.6, abs=0.05)
    rule = MaxFailureRate(0.08, 70)
    assert exposure(rule, 0.1, 2000).mean_devices == pytest.approx(95.8, abs=0.05)


@pytest.mark.parametrize("tolerated", [0.005, 0.02, 0.05, 0.2])
@pytest.mark.parametrize("false_alarm", [0.01, 0.05])
def test_the_false_alarm_bound_holds_exactly(tolerated: float, false_alarm: float) -> None:
    rule = SequentialFailureTest(tolerated, false_alarm)
    assert exposure(rule, tolerated, 3000).stopped <= false_alarm
    both = Combined([rule, SequentialFailureTest(min(0.9, 2 * tolerated), false_alarm)])
    assert exposure(both, tolerated, 500).stopped <= false_alarm


def test_waves_are_looked_at_only_at_their_ends() -> None:
    waves = (100, 500, 2500, 10_000, 30_000)
    assert critical_failures(TEST, waves, 30_000) == (9, 23, 79, 258, 703)
    found = {rate: exposure(TEST, rate, 30_000, looks=waves) for rate in (0.02, 0.03, 0.05, 0.1)}
    # By simulation, the reference has 29,991 (.0003 stopped), 7,436, 1,087 and 228.
    assert found[0.02].stopped == pytest.approx(0.00056, abs=1e-5)
    assert [round(each.mean_devices) for each in found.values()] == [29984, 7467, 1093, 228]


def test_devices_in_flight_are_exposed_too() -> None:
    alone = exposure(TEST, 0.1, 2000)
    crowd = exposure(TEST, 0.1, 2000, in_flight=300)
    assert crowd.mean_devices > alone.mean_devices + 300
    assert crowd.stopped == pytest.approx(1)


def test_the_boundary_of_a_percentage_begins_at_its_sample() -> None:
    found = critical_failures(MaxFailureRate(0.1, 20), tuple(range(1, 31)), 30)
    assert found[:19] == (None,) * 19
    assert found[19:21] == (2, 3)
    finished = MaxFailureRate(0.1, 5, denominator="finished")
    total = MaxFailureRate(0.1, 5, denominator="total")
    assert critical_failures(finished, (10,), 100, in_flight=50) == (1,)
    assert critical_failures(total, (10,), 100, in_flight=50) == (10,)


def test_a_rule_with_a_clock_stops_nothing_on_paper() -> None:
    assert exposure(Stalled(60), 0.5, 100).stopped == 0


def test_a_big_fleet_is_looked_at_every_few_devices() -> None:
    looks = every_device(1_000_000)
    assert len(looks) <= 20_000
    assert looks[-1] == 1_000_000
    assert every_device(7) == (1, 2, 3, 4, 5, 6, 7)
    # Looking less often cannot stop earlier, and hardly later.
    often, seldom = exposure(TEST, 0.1, 2000), exposure(TEST, 0.1, 2000, looks=range(10, 2001, 10))
    assert often.mean_devices < seldom.mean_devices < often.mean_devices + 10


def test_chances_add_up() -> None:
    found = exposure(MaxFailures(3), 0.01, 100)
    none = 0.99**100
    one = 100 * 0.01 * 0.99**99
    two = 4950 * 0.01**2 * 0.99**98
    assert found.stopped == pytest.approx(1 - none - one - two)
    assert exposure(MaxFailures(3), 0.0, 100).mean_devices == 100
    assert exposure(MaxFailures(3), 1.0, 100).mean_devices == 3
