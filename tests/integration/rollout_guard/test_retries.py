"""Retries of the platform hide failures: the shipped rules see failed attempts."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from iotda_provider.airflow_support.task_notes import VariableNotes, owner_of
from iotda_provider.guards import MaxFailures, SequentialFailureTest

FILE = Path(__file__).resolve().parents[3] / "benchmarks" / "bench_retries.py"
KEY = "guard_memory"


class KilledError(BaseException):
    """The death of a guard's process."""


def die() -> None:
    raise KilledError


@pytest.fixture(scope="module")
def bench() -> Any:
    """The benchmark, which has the shipped rules and the fleets."""
    spec = importlib.util.spec_from_file_location("bench_retries", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def retried(interval: int, minutes: float, **more: Any) -> dict[str, Any]:
    """Ten devices a minute that fail their attempts, as a scenario."""
    policy = {"retry_count": 5, "retry_interval": interval}
    return {
        "devices": 3000,
        "dispatch_rate": 10 / 60,
        "failure_rate": 1.0,
        "failure_after": 60 * minutes,
        "batch_tasks": [{"targets": "all", "task_policy": policy}],
        **more,
    }


@pytest.mark.parametrize(("interval", "minutes"), [(60, 2), (60, 30), (1, 2), (1, 10)])
def test_a_guard_with_the_shipped_rules_stops_in_time(
    fleet: Any, ti: Any, bench: Any, interval: int, minutes: int
) -> None:
    bad = fleet(retried(interval, minutes))

    xcoms = bad.run(ti, rules=bench.shipped_rules(), stop_on_breach=True, poke_interval=30)

    result = xcoms["return_value"]
    assert (result["verdict"], result["rule"]) == ("breached", "Combined")
    assert result["evidence"]["devices"] <= bench.AT_MOST[interval][minutes]
    assert result["evidence"]["failed"] == 0
    assert f"{result['evidence']['attempted']} have a failed attempt" in result["summary"]
    assert xcoms["live"]["attempted"] == result["evidence"]["attempted"]
    # Twice in the time that a device waits, and only while one does.
    calls = [c for c in bad.calls("show_batch_task") if "FailWaitRetry" in str(c)]
    assert 0 < len(calls) <= 1 + bad.now / (30 * interval)


@pytest.mark.parametrize(("interval", "minutes"), [(60, 10), (1, 30)])
def test_the_same_without_http(bench: Any, interval: int, minutes: int) -> None:
    fleet = bench.faulty(interval, minutes)
    stopped, started, _ = bench.exposed(bench.shipped_rules(), fleet, poll=5.0)
    assert stopped
    assert started <= bench.AT_MOST[interval][minutes]


def test_final_failures_alone_expose_the_whole_fleet(bench: Any) -> None:
    rules = bench.without_attempts(bench.shipped_rules())
    _, started, _ = bench.exposed(rules, bench.faulty(60, 2), poll=300.0)
    assert started == bench.DEVICES


@pytest.mark.parametrize("interval", [60, 1])
def test_a_healthy_fleet_is_left_alone(bench: Any, interval: int) -> None:
    """The five hundred fleets are a benchmark."""
    rules = bench.shipped_rules()
    for seed in range(2):
        assert not bench.exposed(rules, bench.healthy(interval), seed=seed, poll=300.0)[0]


class TestMemory:
    """Every device fails once and then succeeds, so that only earlier looks know of most."""

    ONCE = {"devices": 100, "repeat_failure_rate": 0.0, "success_after": 600}
    GUARD = {"rules": SequentialFailureTest(0.99, counts="attempts"), "poke_interval": 20}

    @pytest.fixture(params=[True, False], ids=["3.3", "before"])
    def has_store(self, request: Any) -> bool:
        """Whether Airflow has a task state store, as since 3.3."""
        return bool(request.param)

    def test_a_retry_knows_the_devices_that_an_earlier_try_has_seen(
        self, fleet: Any, ti: Any
    ) -> None:
        once = fleet(retried(1, 10, **self.ONCE))
        once.at(18 * 60, die)
        with pytest.raises(KilledError):
            once.run(ti, **self.GUARD)
        ti.new_try()

        xcoms = once.run(ti, **self.GUARD)

        assert xcoms["return_value"]["verdict"] == "completed"
        # What was seen in the last minute before the death, 10 devices, may not be saved.
        assert 85 <= xcoms["return_value"]["evidence"]["attempted"] <= 100

    def test_a_lost_memory_makes_it_count_fewer(self, fleet: Any, ti: Any) -> None:
        once = fleet(retried(1, 10, **self.ONCE))
        once.at(18 * 60, die)
        with pytest.raises(KilledError):
            once.run(ti, **self.GUARD)
        ti.new_try()
        ti.store.clear()
        VariableNotes(owner_of(ti)).delete(KEY)

        xcoms = once.run(ti, **self.GUARD)

        assert xcoms["return_value"]["verdict"] == "completed"
        assert xcoms["return_value"]["evidence"]["attempted"] < 50


def test_the_first_look_warns_of_what_the_policy_hides(
    fleet: Any, ti: Any, deferrable: bool, capsys: Any
) -> None:
    hidden = fleet(retried(60, 2, devices=20))
    hidden.run(ti, rules=MaxFailures(5), stop_on_breach=True, poke_interval=600)

    said = capsys.readouterr().out
    assert said.count("is tried again 5 times") == (2 if deferrable else 1)  # in each process
    assert "counts for MaxFailures only after 6 attempts and 5 h of waiting" in said
