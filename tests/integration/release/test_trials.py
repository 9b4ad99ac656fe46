"""Every wave is a trial: whole releases over HTTP, in virtual time, of firmware that harms or not.

``benchmarks/bench_trials.py`` runs more of them: ``IOTDA_RELEASES`` says how many of each kind.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from iotda_provider.trials import DeviceTrial

PACKAGE = "a1b2c3d4e5f60718293a4b5c"
RELEASES = int(os.environ.get("IOTDA_RELEASES", "3"))
FIRST_SEED = int(os.environ.get("IOTDA_FIRST_SEED", "0"))
DEVICES, WAVES = 2000, "400, 1000, 100%"
BAKE, WAVE_TIMEOUT = 900.0, 9000.0
REQUIRED = DeviceTrial(required=True, method="product")
#: As the fixture's, and searches without the platform's limit, which is one of the real clock.
SWITCHES = {"initializing": 0, "stop_after": 0, "search_per_second": None}
#: Each device is offline for a twentieth of the time, at a phase of its own.
PERIOD = {"distribution": "uniform", "min": 600, "max": 3000}
FIVE_PERCENT = {"asleep_share": 0.05, "sleep_period": PERIOD}
BAD = [{"package_id": PACKAGE, "version": "2.0.0", "takes_offline": 0.1, "takes_offline_after": 60}]


def released(
    run: Any, trial: Any = REQUIRED, waves: str = WAVES, seed: str = "seed", **given: Any
) -> dict[str, Any]:
    """Carry out a release up to the gate that does not let it go on; the last wave's result."""
    common = {"poll_interval": 150.0, "rules": '[{"rule": "MaxFailures", "count": 1000}]'}
    timing = {"bake_time": BAKE, "wave_timeout": WAVE_TIMEOUT, "trial": trial, **given}
    plan = run.plan(waves, gate=0.1, seed=seed, **timing)
    for place in range(1, len(plan["waves"]) + 1):
        run.create(place, **common)
        run.confirm(place, **common)
        result: dict[str, Any] = run.watch(place, **{**common, **timing})
        if result["verdict"] != "passed":
            break
    return result


@pytest.fixture(params=[True])
def deferrable(request: pytest.FixtureRequest) -> bool:
    """Wait in the triggerer, but where a test says otherwise."""
    return bool(request.param)


Start = Callable[..., Any]


def many(rollout: Start, kind: str, **scenario: Any) -> list[dict[str, Any]]:
    """The results of many releases, each to a fleet of its own."""
    results = []
    for seed in range(FIRST_SEED, FIRST_SEED + RELEASES):
        run = rollout(speed=1, devices=DEVICES, seed=seed, switches=SWITCHES, **scenario)
        results.append(released(run, seed=f"{kind} {seed}"))
        run.emulator.close()
        if path := os.environ.get("IOTDA_RELEASES_TO"):
            with Path(path).open("a", encoding="utf-8") as file:
                line = {"kind": kind, "seed": seed, "result": results[-1]}
                file.write(json.dumps(line) + "\n")
    return results


def test_harmless_firmware_goes_through(rollout: Start) -> None:
    results = many(rollout, "harmless", **FIVE_PERCENT)
    ended = [(one["verdict"], one["wave"]) for one in results]
    assert sum(verdict == "rejected" for verdict, _ in ended) <= 0.01 * RELEASES, ended
    assert sum(one == ("passed", 3) for one in ended) >= 0.5 * RELEASES, ended


def test_firmware_that_takes_devices_offline_never_reaches_the_last_wave(rollout: Start) -> None:
    results = many(rollout, "bad", packages=BAD, **FIVE_PERCENT)
    ended = [(one["verdict"], one["wave"]) for one in results]
    assert sum(wave < 3 for _, wave in ended) >= 0.95 * RELEASES, ended
    assert sum(verdict == "rejected" for verdict, _ in ended) >= 0.5 * RELEASES, ended
    assert all("worse, P = " in one["summary"] for one in results if one["verdict"] == "rejected")


def test_an_outage_of_both_groups_stops_nothing_and_opens_nothing(rollout: Start) -> None:
    outage = [{"begins": 800, "lasts": 86400}]
    results = many(rollout, "outage", outages=outage, **FIVE_PERCENT)
    assert {(one["verdict"], one["wave"]) for one in results} == {("unproven", 1)}
    assert all("not decided" in one["summary"] for one in results)


def test_in_a_fleet_that_sleeps_nothing_is_stopped(rollout: Start) -> None:
    period = {"distribution": "uniform", "min": 300, "max": 1500}
    sleepy = {"asleep_share": 0.8, "sleep_period": period}
    results = many(rollout, "sleepy", **sleepy)
    assert "rejected" not in {one["verdict"] for one in results}
