"""The state file: what is kept over a restart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from iotda_provider.emulator.common.errors import ApiError, ScenarioError
from iotda_provider.emulator.state.instance import Instance, Settings


@pytest.fixture
def reopen(tmp_path: Path) -> Iterator[Callable[..., Instance]]:
    """Opens instances on one state file, each closing the one before as a crash would."""
    opened: list[Instance] = []

    def make(scenario: Any = None, **options: Any) -> Instance:
        if opened:
            opened[-1].close()
        settings = {"ak": "a", "sk": "s", "project_id": "p", "speed": 0.0, **options}
        opened.append(Instance(scenario, Settings(state=tmp_path / "state", **settings)))
        return opened[-1]

    yield make
    opened[-1].close()


def everything(instance: Instance) -> Any:
    world = instance.present()
    rows = [
        [world.describe_row(task, row) for row in range(len(task))]
        for task in world._tasks.values()
    ]
    devices = world.devices()
    return (
        world.now,
        world.start,
        [world.describe(task) for task in world._tasks.values()],
        rows,
        [devices.full(device) for device in range(len(world.fleet))],
        [group.describe() for group in world.groups.by_id.values()],
        [package.describe() for package in world.library.packages.values()],
        instance.faults.describe(),
    )


def test_a_restarted_instance_is_the_same_world(reopen: Callable[..., Instance]) -> None:
    scenario = {
        "devices": 60,
        "failure_rate": 0.3,
        "hang_rate": 0.1,
        "offline_share": 0.2,
        "online_after": 900,
        "success_after": {"distribution": "lognormal", "median": 600, "sigma": 1},
        "batch_tasks": [{"created_ago": 300}],
        "faults": [{"kind": "reset", "count": 2}],
    }
    one = reopen(scenario, seed=3)
    body = {
        "task_name": "t",
        "task_type": "softwareUpgrade",
        "targets": ["device-00001", "stranger", "device-00030"],
        "document": {"package_ids": ["abc"]},
        "task_policy": {"retry_count": 2, "retry_interval": 5},
    }
    task = one.run("create_task", body=body)
    one.advance(100)
    with pytest.raises(ApiError):
        one.run("delete_task", task_id=task.task_id)
    group = one.run("create_group", name="g", rule=None)
    one.run("add_member", group_id=group.group_id, device_id="device-00009")
    one.run("remove_device", device_id="device-00030")
    one.add_fault({"kind": "latency", "call": "show_*"})
    one.faults.hits("show_batch_task", "a")
    one.journal.add({"call": "show_batch_task"})
    one.run("stop", task_id=task.task_id, targets=["device-00001"])
    one.advance(500)
    before = everything(one)
    two = reopen(seed=3)
    assert everything(two) == before
    assert two.journal.entries() == [{"n": 1, "call": "show_batch_task"}]
    two.advance(90_000)
    later = everything(two)
    assert later != before
    assert everything(reopen(scenario, seed=3)) == later


def test_a_scenario_that_was_refused_leaves_the_state_file_free(tmp_path: Path) -> None:
    settings = Settings("a", "s", "p", state=tmp_path / "state")
    for wrong in ({"devises": 1}, {"batch_tasks": [{"task_name": "a-b"}]}, {"faults": [{}]}):
        with pytest.raises(ScenarioError):
            Instance(wrong, settings)
    Instance({"devices": 1}, settings).close()


def test_another_seed_is_another_world(reopen: Callable[..., Instance]) -> None:
    reopen({"devices": 5}, seed=1)
    with pytest.raises(ScenarioError, match="made with the seed 1, not 2"):
        reopen(seed=2)
