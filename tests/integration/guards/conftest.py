"""Guards over emulated fleets: the emulator's time moves while the guard sleeps, and only then."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from iotda_provider.emulator import Emulator

START = 1_790_000_000.0
"""When a rollout begins, in seconds since the epoch, as the guard's clock has it."""


class Fleet:
    """One emulated fleet, and the time that its guards live in.

    :param emulator: stands still but for :meth:`sleep`
    """

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self.now = 0.0
        self._plans: list[tuple[float, Callable[[], Any]]] = []

    def sleep(self, seconds: float) -> None:
        """Let time pass, for the fleet and for its guards; what was planned happens on time."""
        until = self.now + seconds
        while self._plans and self._plans[0][0] <= until:
            at, act = self._plans.pop(0)
            self._to(max(at, self.now))
            act()
        self._to(until)

    def _to(self, moment: float) -> None:
        if moment > self.now:
            self.emulator.advance(moment - self.now)
            self.now = moment

    def at(self, seconds: float, act: Callable[[], Any]) -> None:
        """Plan something for a moment while a guard watches."""
        self._plans.append((seconds, act))
        self._plans.sort(key=lambda item: item[0])

    def time(self) -> float:
        """The guards' clock."""
        return START + self.now

    def monotonic(self) -> float:
        """The guards' other clock."""
        return self.now

    @property
    def task_ids(self) -> list[str]:
        """The ids of the fleet's batch tasks, the oldest first."""
        return sorted(self.emulator.instance.world._ids)

    @property
    def task_id(self) -> str:
        """The id of the only batch task."""
        (task_id,) = self.task_ids
        return task_id

    def command(self, name: str, **arguments: Any) -> Any:
        """What a person does in the console."""
        return self.emulator._on_loop(lambda: self.emulator.instance.run(name, **arguments))

    def progress(self, task_id: str | None = None) -> dict[str, int]:
        """The counts of a task at this moment."""
        world = self.emulator.instance.present()
        return dict(world.task(task_id or self.task_id).progress())

    def calls(self, call: str = "*") -> list[Any]:
        """The requests that were made."""
        return self.emulator.journal(call)

    def run(self, sensor: Any, ti: Any, **context: Any) -> dict[str, Any]:
        """Run a guard to its end; its XComs, with the result among them."""
        value = sensor.execute({"ti": ti, **context})
        if value is not None:
            ti.xcom_push("return_value", value)
        return ti.xcoms


class TaskInstance:
    """A running task instance as far as guards look at it."""

    def __init__(self) -> None:
        self.dag_id, self.run_id, self.task_id, self.map_index = "dag", "run", "guard", -1
        self.try_number = 1
        self.xcoms: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        """Keep what is pushed, as JSON as Airflow does."""
        self.xcoms[key] = json.loads(json.dumps(value))


@pytest.fixture
def ti() -> TaskInstance:
    """The running task instance."""
    return TaskInstance()


@pytest.fixture
def fleet(
    iotda_emulator_factory: Callable[..., Emulator], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Fleet]:
    """Makes an emulated fleet, with a connection to it in force as ``iotda_default``.

    A firmware upgrade of all its devices has just begun, unless ``batch_tasks`` says otherwise.
    """

    def make(scenario: dict[str, Any] | None = None, **options: Any) -> Fleet:
        scenario = {"batch_tasks": [{"task_name": "rollout", "targets": "all"}], **(scenario or {})}
        emulator = iotda_emulator_factory(scenario, **{"speed": 0, "seed": 7, **options})
        connection = emulator.airflow_connection
        monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(connection))
        made = Fleet(emulator)
        for module in ("iotda_provider.sensors.rollout_guard.time",):
            monkeypatch.setattr(module, made)
        return made

    return make


__all__ = ["START", "Fleet", "TaskInstance", "fleet", "ti", "time"]
