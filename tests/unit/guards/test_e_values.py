"""Log e-values: right against integration at 30 digits, and sane wherever one looks."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iotda_provider.guards import Decision, SequentialFailureTest, Undecided
from iotda_provider.guards import sequential as sequential_module
from iotda_provider.guards.e_values import FLOOR, log_e, log_g, log_mean
from iotda_provider.models import TaskProgress

# Made by `python benchmarks/guard_vectors.py`, which integrates the definition numerically.
VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())

rates = st.floats(min_value=1e-9, max_value=1 - 1e-9)
sizes = st.one_of(st.integers(1, 500), st.integers(1, 10_000_000))


@st.composite
def counts(draw: st.DrawFn) -> tuple[int, int]:
    devices = draw(sizes)
    return draw(st.integers(0, devices)), devices


@pytest.mark.parametrize("kind", ["e", "g"])
def test_evidence_agrees_with_numerical_integration_up_to_ten_million(kind: str) -> None:
    function = {"e": log_e, "g": log_g}[kind]
    wrong = [
        (hits, devices, rate, function(hits, devices, rate), expected)
        for which, hits, devices, rate, expected in VECTORS
        if which == kind
        and not math.isclose(function(hits, devices, rate), expected, rel_tol=1e-9, abs_tol=2e-7)
    ]
    assert not wrong
    assert max(devices for _, _, devices, _, _ in VECTORS) == 10_000_000


@settings(deadline=None)
@given(counts(), rates)
def test_evidence_is_a_number_no_lower_than_its_floor(count: tuple[int, int], rate: float) -> None:
    for function in (log_e, log_g):
        assert FLOOR <= function(*count, rate) < math.inf


@settings(deadline=None)
@given(counts(), rates)
def test_evidence_grows_with_each_failure_and_shrinks_with_each_success(
    count: tuple[int, int], rate: float
) -> None:
    hits, devices = count
    here = log_e(hits, devices, rate)
    slack = 1e-6 * (1 + abs(here))
    if hits < devices:
        assert log_e(hits + 1, devices, rate) >= here - slack
        assert log_g(hits + 1, devices, rate) <= log_g(hits, devices, rate) + slack
    assert log_e(hits, devices + 1, rate) <= here + slack


def test_no_devices_are_no_evidence() -> None:
    assert log_e(0, 0, 0.02) == pytest.approx(0, abs=1e-12)
    assert log_g(0, 0, 0.05) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("rate", [0.02, 0.3])
def test_evidence_is_a_fair_bet_at_the_tolerated_rate(rate: float) -> None:
    """Its mean over all outcomes of n devices is at most 1: that is what an e-value is."""
    for devices in (1, 7, 60):
        mean = sum(
            math.comb(devices, failed)
            * rate**failed
            * (1 - rate) ** (devices - failed)
            * math.exp(log_e(failed, devices, rate))
            for failed in range(devices + 1)
        )
        assert mean <= 1 + 1e-9


@settings(deadline=None)
@given(st.lists(st.floats(-700, 700), min_size=1, max_size=6))
def test_the_mean_in_log_space_is_the_mean(logs: list[float]) -> None:
    shares = [1 / len(logs)] * len(logs)
    assert max(logs) - math.log(len(logs)) - 1e-9 <= log_mean(shares, logs) <= max(logs) + 1e-9


def test_the_mean_of_something_that_is_no_number_is_no_number() -> None:
    assert math.isnan(log_mean([0.5, 0.5], [1.0, math.nan]))


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_what_is_no_number_never_decides(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequential_module, "log_e", lambda *_: value)
    verdict = SequentialFailureTest(0.02, hold_at=10).check(TaskProgress(total=100, fail=100))
    assert verdict.decision is Decision.CONTINUE
    assert verdict.undecided is (Undecided.EVIDENCE if math.isnan(value) else None)
    assert "value" not in verdict.evidence
    json.dumps(verdict.to_dict(), allow_nan=False)
