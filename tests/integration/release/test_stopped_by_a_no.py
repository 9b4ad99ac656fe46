"""A person's no stops a release at once, whatever its devices or its batch task are doing."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from iotda_provider.exceptions import IoTDAError, IoTDANotFoundError
from iotda_provider.operators.release.stop import StopReleaseOperator
from iotda_provider.release.gate import STOP

DAY = 86400


@pytest.fixture
def deferrable() -> bool:
    """A stop waits for nothing."""
    return False


@pytest.fixture
def stop() -> Any:
    """The task that follows a no to the first wave."""
    return StopReleaseOperator(task_id="stop_1", create_task_id="create_1")


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
    run.said("unproven")
    run.xcoms.put("gate_1", "branch", ["ask_1"])
    run.xcoms.put("ask_1", "answer", {"option": STOP, "by": "ann"})
    return run


def test_nobody_waits_for_devices_that_install_for_days(refused: Any, stop: Any) -> None:
    before = refused.time.time()
    assert refused.run(stop)["outcomes"] == {refused.task_of(): "stopped"}
    assert refused.stops == 1
    assert refused.xcoms["stop_1", "rollout"]["kind"] == "stop"
    assert refused.xcoms["stop_1", "live"]["stop"]["accepted_at"]
    # Once more, it is still no error.
    assert refused.run(stop)["outcomes"] == {refused.task_of(): "stopped"}
    assert refused.time.time() - before < 60
    assert refused.outcome()["verdict"] == "refused"


def test_a_batch_task_that_was_deleted_needs_no_stop(refused: Any, stop: Any) -> None:
    instance = refused.emulator.instance
    for command in ("stop", "delete_task"):
        act = partial(instance.run, command, task_id=refused.task_of())
        refused.emulator._on_loop(act)
        refused.emulator.advance(20 * DAY)
    task_id = refused.task_of()
    outcomes = {task_id: "gone"}
    assert refused.run(stop) == {"batch_task_ids": [task_id], "outcomes": outcomes}
    assert refused.outcome()["verdict"] == "refused"


def test_a_proxys_404_is_not_the_end_of_a_batch_task(refused: Any, stop: Any) -> None:
    page = {"kind": "html", "status": 404, "call": "stop_batch_task"}
    refused.emulator.add_fault(count=3, **page)
    assert refused.run(stop)["outcomes"] == {refused.task_of(): "stopped"}
    assert refused.stops == 4, "it may pass by itself"

    refused.emulator.add_fault(**page)
    with pytest.raises(IoTDANotFoundError, match="a proxy or load balancer may have sent it"):
        refused.run(stop)


def test_all_batch_tasks_are_stopped_and_one_that_can_not_be_ends_in_an_error(refused: Any) -> None:
    stop = StopReleaseOperator(task_id="stop_2", create_task_id="create_2")
    refused.confirm(2)
    first, second = refused.task_ids
    refused.emulator.add_fault("status", call="stop_batch_task", status=403, body={}, count=1)
    with pytest.raises(IoTDAError, match="403"):
        refused.run(stop)
    world = refused.emulator.instance.present()
    assert [world.task(task_id).status.is_stop for task_id in (first, second)] == [False, True]
    assert refused.run(stop)["outcomes"] == {first: "stopped", second: "stopped"}
    world = refused.emulator.instance.present()
    assert all(world.task(task_id).status.is_stop for task_id in (first, second))
