"""How late failures are reported in the waves of a release: recorded, learned from, and checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from iotda_provider.guards import ReportingDelay, SequentialFailureTest
from iotda_provider.guards.lab.cli import main

#: Failures are reported after 200 to 400 s, when the wave has started.
LATE = {"distribution": "uniform", "min": 200, "max": 400}


def released(rollout: Any, rule: SequentialFailureTest) -> Any:
    run = rollout(speed=1, failure_rate=0.08, failure_after=LATE, success_after=600)
    run.plan(waves="25%, 100%", rules=rule, gate=0.5)
    for wave in (1, 2):
        run.confirm(wave, rules=rule, poll_interval=10)
        gate = {"gate": 0.5, "poll_interval": 10, "wave_timeout": 3000}
        result = run.watch(wave, rules=rule, **gate)
        assert result["verdict"] == "passed"
    run.result = result
    return run


def test_the_last_wave_says_whether_failures_came_sooner_than_assumed(rollout: Any) -> None:
    slow = ReportingDelay({0: 0, 2000: 1}, floor=0)
    run = released(rollout, SequentialFailureTest(0.1, 1e-9, reporting=slow))
    assert "FAILURES CAME SOONER THAN ASSUMED" in run.result["summary"]
    assert "ASSUMED" not in run.xcoms["watch_1", "return_value"]["summary"]


def test_its_delays_are_learned_from(
    rollout: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = released(rollout, SequentialFailureTest(0.1, 1e-9))
    (header,) = run.xcoms["watch_2", "delays"]
    assert header["verdict"] == "passed"
    assert header["delays"]["failures"] > 20
    # From the last start of a wave, and at most two looks and the wave's start shorter.
    assert max(header["delays"]["seconds"]) in range(200, 401)
    file = tmp_path / "delays.json"
    file.write_text(json.dumps([header]))
    assert main(["fit", str(file)]) == 0
    assert "reporting=ReportingDelay(" in capsys.readouterr().out
