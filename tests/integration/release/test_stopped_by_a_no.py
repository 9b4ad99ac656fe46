"""A person's no stops a release at once, whatever its devices or its batch task are doing."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from iotda_provider.guards import SequentialFailureTest
from iotda_provider.operators.release import staged_rollout
from iotda_provider.release.gate import STOP

TASK_ID = "5c8fb9d0e2f14a5b9c0d1e2f"
DAY = 86400


@pytest.fixture
def stop(deferrable: bool) -> Any:
    """The task that follows a no to the first wave."""
    with DAG("release"):
        rollout = staged_rollout(
            batch_task_id=TASK_ID, rules=SequentialFailureTest(0.02), deferrable=deferrable
        )
    return rollout.group.children["rollout.wave_1_stop"]


@pytest.fixture
def refused(rollout: Any) -> Any:
    """A release whose first wave installs for days when somebody says no."""
    run = rollout(
        success_after=2 * DAY,
        switches={
            "stop_installing": "finish",
            "install_share": 1.0,
            "stopping_timeout": 10 * DAY,
        },
    )
    run.plan("10%, 100%")
    run.confirm(1)
    run.xcoms.put("watch_1", "return_value", {"verdict": "unproven", "summary": "It is."})
    run.xcoms.put("gate_1", "branch", ["ask_1"])
    run.xcoms.put("ask_1", "answer", {"option": STOP, "by": "ann"})
    return run


def test_nobody_waits_for_devices_that_install_for_days(refused: Any, stop: Any) -> None:
    before = refused.time.time()
    assert refused.run(stop)["outcome"] == "stopping"
    assert refused.stops == 1
    assert refused.time.time() - before < 60
    assert refused.outcome()["verdict"] == "refused"


def test_a_batch_task_that_was_deleted_needs_no_stop(refused: Any, stop: Any, logged: Any) -> None:
    instance = refused.emulator.instance
    for command in ("stop", "delete_task"):
        refused.emulator._on_loop(lambda command=command: instance.run(command, task_id=TASK_ID))
        refused.emulator.advance(20 * DAY)
    assert refused.run(stop) == {"batch_task_id": TASK_ID, "outcome": "gone"}
    assert "nothing left to stop" in logged()
    assert refused.outcome()["verdict"] == "refused"
