"""The false-stop bound over the emulator, delays included; the thousand fleets are a benchmark."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).resolve().parents[3] / "benchmarks" / "bench_guards_emulator.py"


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    """The benchmark, which makes the fleets and guards them, and imports another one beside it."""
    spec = importlib.util.spec_from_file_location("bench_guards_emulator", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FILE.parent)
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        yield module


@pytest.mark.parametrize("arrival", ["at once", "staggered", "stopped by hand"])
def test_healthy_fleets_go_on_and_faulty_ones_are_stopped(bench: Any, arrival: str) -> None:
    healthy = bench.measure(bench.HEALTHY, arrival, 10, 60.0, with_aws=False)
    faulty = bench.measure(bench.FAULTY, arrival, 5, 60.0, with_aws=False)

    assert healthy.stopped == 0
    assert faulty.stopped == 5


def test_the_percentage_of_finished_devices_stops_the_same_healthy_fleets(bench: Any) -> None:
    assert bench.measure(bench.HEALTHY, "at once", 2, 60.0).aws == 2
