"""Every wave as a trial, in real Airflow: one release of good firmware, and one of bad.

Outages, and fleets that sleep: tests/integration/release/test_trials.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.system.virtual_time import pass_with_looks, share_time

from iotda_provider.emulator import Emulator

DAG_FILE = Path(__file__).parent / "dags" / "trial_rollout.py"
PACKAGE = {"package_id": "a1b2c3d4e5f60718293a4b5c", "version": "2.0.0"}
PERIOD = {"distribution": "uniform", "min": 600, "max": 3000}
FIVE_PERCENT = {"asleep_share": 0.05, "sleep_period": PERIOD}


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Emulator]]:
    """Starts a fleet whose time, and that of its releases, passes with the looks at it."""
    running: list[Emulator] = []

    def start(**scenario: Any) -> Emulator:
        whole = {"devices": 900, "success_after": 60, "packages": [PACKAGE], **scenario}
        emulator = Emulator(whole, speed=0, seed=3)
        emulator.start()
        running.append(emulator)
        emulator.advance(5)
        pass_with_looks(emulator, 60)
        share_time(emulator, monkeypatch)
        monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(emulator.airflow_connection))
        return emulator

    yield start
    for emulator in running:
        emulator.close()


def test_harmless_firmware_goes_through_the_trial(run_dag: Any, fleet: Any) -> None:
    fleet(**FIVE_PERCENT)
    run = run_dag(DAG_FILE)
    assert run.state == "success", run.log[-4000:]
    assert run.xcom("rollout.outcome")["verdict"] == "released"
    for wave in (1, 2):
        said = run.xcom(f"rollout.wave_{wave}_watch")["trial"]
        assert said["decision"] == "no worse"
        assert said["treated"]["unknown"] + said["control"]["unknown"] == 0


def test_firmware_that_takes_devices_offline_reaches_one_wave(run_dag: Any, fleet: Any) -> None:
    bad = {**PACKAGE, "takes_offline": 0.3, "takes_offline_after": 60}
    emulator = fleet(packages=[bad], **FIVE_PERCENT)
    run = run_dag(DAG_FILE)
    outcome = run.xcom("rollout.outcome")
    assert (outcome["verdict"], outcome["rule"], outcome["wave"]) == ("rejected", "DeviceTrial", 1)
    assert "updated devices are offline" in outcome["summary"]
    assert ": worse, P = " in outcome["summary"]
    assert outcome["exposed"] == 200
    assert run.states["rollout.wave_1_stop"] == "success"
    confirmed = [entry["body"]["targets"] for entry in emulator.journal("confirm_batch_task")]
    assert sum(map(len, confirmed)) == 200
