"""The test vectors of the statistics that the rules are built on, every one of them."""

from __future__ import annotations

import math

import pytest

from iotda_provider.guards import (
    Decision,
    EnoughSuccess,
    MaxFailureRate,
    SequentialFailureTest,
)
from iotda_provider.guards.e_values import FLOOR, log_e
from iotda_provider.models import TaskProgress


def started(failed: int, devices: int) -> TaskProgress:
    return TaskProgress(total=devices, fail=failed, processing=devices - failed)


def done(failed: int, devices: int) -> TaskProgress:
    return TaskProgress(total=devices, fail=failed, success=devices - failed)


@pytest.mark.parametrize(
    ("rate", "failed", "devices", "expected", "stops"),
    [
        (0.02, 0, 50, -1.791759, False),
        (0.02, 2, 2, 3.834880, False),
        (0.02, 3, 20, 2.976454, False),
        (0.02, 4, 20, 4.999070, True),
        (0.02, 5, 50, 3.452007, False),
        (0.02, 6, 50, 5.147680, True),
        (0.02, 8, 100, 4.295381, False),
        (0.02, 9, 100, 5.769614, True),
        (0.02, 12, 200, 4.100478, False),
        (0.02, 13, 200, 5.274304, True),
        (0.02, 22, 500, 3.808956, False),
        (0.02, 23, 500, 4.648203, True),
        (0.02, 38, 1000, 4.517227, False),
        (0.02, 39, 1000, 5.194340, True),
        (0.02, 150, 5000, 8.196888, True),
        (0.02, 720, 30000, 7.690014, True),
        (0.005, 3, 20, 5.385686, True),
        (0.005, 4, 100, 4.105157, False),
        (0.005, 5, 100, 6.103288, True),
        (0.05, 14, 100, 4.528193, False),
        (0.05, 15, 100, 5.692197, True),
        (0.5, 9, 10, 2.918262, False),
        (0.5, 10, 10, 5.226235, True),
    ],
)
def test_the_sequential_test_gives_the_published_evidence(
    rate: float, failed: int, devices: int, expected: float, stops: bool
) -> None:
    verdict = SequentialFailureTest(rate).check(started(failed, devices))
    assert verdict.evidence["value"] == pytest.approx(expected, abs=2e-6)
    assert verdict.decision is (Decision.BREACH if stops else Decision.CONTINUE)
    assert SequentialFailureTest(rate).check(done(failed, devices)) == verdict


def test_the_sequential_test_does_not_underflow_at_ten_million_healthy_devices() -> None:
    assert FLOOR <= log_e(0, 10_000_000, 0.02) < 0
    verdict = SequentialFailureTest(0.02).check(done(0, 10_000_000))
    assert verdict.decision is Decision.CONTINUE
    assert verdict.undecided is None


@pytest.mark.parametrize(
    ("rate", "unproven", "devices", "expected", "goes"),
    [
        (0.05, 0, 20, 0.639089, False),
        (0.05, 0, 81, 2.973652, False),
        (0.05, 0, 82, 3.015376, True),
        (0.05, 1, 129, 2.995523, False),
        (0.05, 1, 130, 3.033582, True),
        (0.05, 14, 500, 1.889522, False),
        (0.05, 200, 5000, 3.325695, True),
        (0.10, 0, 40, 3.028567, True),
        (0.10, 2, 100, 4.280217, True),
        (0.10, 3, 100, 2.900477, False),
    ],
)
def test_the_gate_gives_the_published_evidence(
    rate: float, unproven: int, devices: int, expected: float, goes: bool
) -> None:
    gate = EnoughSuccess(rate)
    assert gate.log_bound == pytest.approx(2.995732, abs=1e-6)
    for progress in (started(0, devices), done(unproven, devices)):
        if progress.success or unproven == devices:
            verdict = gate.check(progress)
            assert verdict.evidence["value"] == pytest.approx(expected, abs=2e-6)
            assert verdict.decision is (Decision.GO if goes else Decision.WAIT)
    unfinished = TaskProgress(total=devices, processing=unproven, success=devices - unproven)
    assert gate.check(unfinished).evidence["value"] == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(("rate", "least"), [(0.2, 19), (0.1, 40), (0.05, 82), (0.02, 208)])
def test_the_gate_knows_how_many_devices_it_takes_to_pass(rate: float, least: int) -> None:
    assert EnoughSuccess(rate).smallest_passing_sample() == least


@pytest.mark.parametrize(
    ("min_sample", "failed", "devices", "stops"),
    [(20, 2, 10, False), (20, 2, 20, True), (100, 9, 100, False), (100, 10, 100, True)],
)
def test_the_percentage_rule_stops_where_aws_does(
    min_sample: int, failed: int, devices: int, stops: bool
) -> None:
    rule = MaxFailureRate(0.1, min_sample=min_sample)
    decision = rule.check(started(failed, devices)).decision
    assert decision is (Decision.BREACH if stops else Decision.CONTINUE)


def test_the_bound_of_one_percent_is_log_hundred() -> None:
    assert SequentialFailureTest(0.02).log_bound == pytest.approx(math.log(100))
