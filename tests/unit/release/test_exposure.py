"""How much of a fleet a bad release reaches; the benchmark's simulation with fewer seeds."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("bench_release_exposure")


def test_a_bad_release_reaches_at_most_three_percent_of_the_fleet(benchmark: Any) -> None:
    found = [benchmark.release(10_000, 0.1, seed=seed, gate_rate=0.1) for seed in range(30)]
    assert {one.ended for one in found} <= {"breached", "unproven"}
    assert sum(one.exposed for one in found) / (10_000 * len(found)) <= 0.03


def test_a_perfect_release_reaches_everybody(benchmark: Any) -> None:
    found = benchmark.release(2_000, 0.0, seed=1, gate_rate=0.1, waves="5%, 25%, 100%")
    assert (found.exposed, found.ended) == (2_000, "released")
