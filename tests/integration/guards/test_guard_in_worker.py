"""A guard that stays in its worker, over emulated fleets."""

from __future__ import annotations

from typing import Any

from iotda_provider.guards import SequentialFailureTest
from iotda_provider.sensors.batch_task import RolloutGuardSensor

BAD = {"devices": 200, "failure_rate": 0.3, "dispatch_rate": 1.0}


def guard(fleet: Any, **parameters: Any) -> RolloutGuardSensor:
    given = {"rules": SequentialFailureTest(0.02), "task_id": "guard", "deferrable": False}
    return RolloutGuardSensor(**{"batch_task_id": fleet.task_id, **given, **parameters})


def test_guard_stops_a_bad_rollout_and_says_why(fleet: Any, ti: Any) -> None:
    bad = fleet(BAD)

    result = bad.run(guard(bad, stop_on_breach=True), ti)["return_value"]

    assert result["verdict"] == "breached"
    assert result["rule"] == "SequentialFailureTest"
    assert result["evidence"]["value"] >= result["evidence"]["bound"]
    assert result["status"] == "Stopped"
    assert result["stop"]["outcome"] == "stopped"
    assert result["progress"]["stopped"] > 100
    assert len(bad.calls("stop_batch_task")) == 1


def test_guard_leaves_a_good_rollout_alone(fleet: Any, ti: Any) -> None:
    good = fleet({"devices": 200, "failure_rate": 0.01})

    result = good.run(guard(good, stop_on_breach=True), ti)["return_value"]

    assert result["verdict"] == "completed"
    assert result["stop"] is None
    assert not good.calls("stop_batch_task")
