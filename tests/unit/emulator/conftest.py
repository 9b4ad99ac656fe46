"""What the emulator's unit tests share: worlds without HTTP, moved by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from iotda_provider.emulator.common.clock import to_micro
from iotda_provider.emulator.scenario.scenario import Scenario
from iotda_provider.emulator.service.batch_task import Task
from iotda_provider.emulator.service.world import World

START = 1_767_225_600.0  # 2026-01-01


class Hands:
    """A world and short ways to move it."""

    def __init__(self, scenario: dict[str, Any], seed: int = 0) -> None:
        self.world = World(Scenario.read(scenario), seed, START)

    def pass_time(self, seconds: float) -> None:
        """Let virtual seconds pass."""
        self.world.advance(self.world.now + to_micro(seconds))

    def create(self, **fields: Any) -> Task:
        """Create a firmware upgrade, of the whole fleet unless said otherwise."""
        ids = [self.world.fleet.id_of(device) for device in range(self.world.fleet.made)]
        body = {
            "task_name": "canary",
            "task_type": "firmwareUpgrade",
            "targets": ids,
            "document": {"package_ids": ["abc"]},
            **fields,
        }
        task = self.world.commands["create_task"](body=body)
        assert isinstance(task, Task)
        return task

    def do(self, command: str, task: Task, targets: list[str] | None = None) -> Any:
        """Stop, retry or confirm."""
        return self.world.commands[command](task_id=task.task_id, targets=targets)

    def row(self, task: Task, target: str) -> dict[str, Any]:
        """A target's subtask as the API shows it."""
        device = self.world.fleet.find(target)
        assert device is not None
        return self.world.describe_row(task, task.rows_of([device])[device])


@pytest.fixture
def hands() -> Callable[..., Hands]:
    """Makes worlds."""

    def make(seed: int = 0, **scenario: Any) -> Hands:
        return Hands({"devices": 10, **scenario}, seed)

    return make
