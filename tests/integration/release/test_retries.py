"""Waves whose batch tasks retry failed devices: the guard sees failed attempts, over all waves."""

from __future__ import annotations

from typing import Any

from iotda_provider.guards import SequentialFailureTest

POLICY = {"retry_count": 5, "retry_interval": 60}


def test_a_wave_is_stopped_by_failed_attempts(rollout: Any, capsys: Any) -> None:
    run = rollout(speed=3000, failure_rate=1.0, failure_after=60)
    run.plan("50%, 100%")
    run.create(1, task_policy=POLICY)
    assert "task_policy: Each failed device is tried again 5 times" in capsys.readouterr().out
    rules = SequentialFailureTest(0.2, counts="attempts")
    result = run.confirm(1, rules=rules)
    if result["verdict"] == "confirmed":
        result = run.watch(1, rules=rules)
    assert (result["verdict"], result["stop"]["outcome"]) == ("breached", "stopped")
    assert "have a failed attempt" in result["summary"]


def test_the_next_waves_guard_knows_which_devices_had_one(rollout: Any) -> None:
    """Every device fails once, and succeeds at its retry."""
    quick = {"failure_after": 60, "success_after": 60}
    run = rollout(speed=600, failure_rate=1.0, repeat_failure_rate=0.0, **quick)
    run.plan("50%, 100%")
    rules = SequentialFailureTest(0.99, counts="attempts")
    run.create(1, task_policy={"retry_count": 1, "retry_interval": 10})
    run.confirm(1, rules=rules)
    assert run.watch(1, rules=rules)["verdict"] == "passed"
    seen = run.xcoms["watch_1", "guard_state"]["retrying"]["counts"]
    assert sum(seen.values()) > 0

    run.create(2, rules=rules)

    left = run.xcoms["create_2", "guard_state"]
    assert left["retrying"]["counts"] == seen
    assert left["state"]["tasks"][run.task_of(1)][5] > 100
