"""Guards over emulated fleets: the emulator's time moves only while the guard sleeps."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from tests.airflow_values import as_json, as_state, as_xcom
from tests.passing_time import Sleepers

from iotda_provider.emulator import Emulator
from iotda_provider.guards import SequentialFailureTest
from iotda_provider.sensors.batch_task import RolloutGuardSensor

START = 1_790_000_000.0
"""When a rollout begins, in seconds since the epoch, as the guard's clock has it."""


class Fleet:
    """One emulated fleet, and the clock of its guards.

    :param emulator: its time moves only in :meth:`sleep`
    """

    start = START

    def __init__(self, emulator: Emulator, deferrable: bool) -> None:
        self.emulator = emulator
        self.deferrable = deferrable
        self.now = 0.0
        self.watched: list[str] = []
        self._plans: list[tuple[float, Callable[[], Any]]] = []

    def sleep(self, seconds: float) -> None:
        """Let time pass, for the fleet and its guards, and do what was planned for that time."""
        self.go_to(self.now + seconds)

    def go_to(self, until: float) -> None:
        """Let time pass until so many seconds after the beginning."""
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
        """Plan a call for a time while a guard watches."""
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
        """A call that a person makes in the console."""
        return self.emulator._on_loop(lambda: self.emulator.instance.run(name, **arguments))

    def progress(self, task_id: str | None = None) -> dict[str, int]:
        """The counts of a task at this moment."""
        world = self.emulator.instance.present()
        return dict(world.task(task_id or self.task_id).progress())

    def calls(self, call: str = "*") -> list[Any]:
        """The requests that were made."""
        return self.emulator.journal(call)

    def guard(self, **parameters: Any) -> RolloutGuardSensor:
        """A guard over the fleet's batch tasks."""
        ids = self.watched = self.watched or self.task_ids
        given = {"task_id": "guard", "batch_task_id": ids[0] if len(ids) == 1 else ids}
        given |= {"rules": SequentialFailureTest(0.02), "deferrable": self.deferrable}
        given |= {"rehearse_stop": False}
        return RolloutGuardSensor(**given | parameters)

    def run(self, ti: TaskInstance, **parameters: Any) -> dict[str, Any]:
        """Run a guard to its end, here or in a triggerer; its XComs, its result among them."""
        context: Any = ti.context
        try:
            value = self.guard(**parameters).execute(context)
        except TaskDeferred as deferral:
            event = self.trigger(deferral.trigger, ti)
            value = self.guard(**parameters).execute_complete(context, event)
        ti.xcom_push("return_value", value)
        return ti.xcoms

    def trigger(self, trigger: Any, ti: TaskInstance) -> Any:
        """Do what a triggerer does: make the trigger from its arguments, run it to its event."""
        path, arguments = trigger.serialize()
        module, _, name = path.rpartition(".")
        made = getattr(import_module(module), name)(**as_json(arguments))

        async def run() -> Any:
            events = made.run()
            event = await anext(events)
            await events.aclose()
            return event.payload

        with ti.as_own_xcoms():
            return as_json(asyncio.run(run()))


class TaskInstance:
    """A running task instance with what guards use of it; ``store`` outlives its tries.

    :param has_store: whether Airflow has one, as since 3.3
    """

    def __init__(self, has_store: bool) -> None:
        self.dag_id, self.run_id, self.task_id, self.map_index = "dag", "run", "guard", -1
        self.xcoms: dict[str, Any] = {}
        self.store = Store()
        self.has_store = has_store

    @property
    def context(self) -> Any:
        """What Airflow hands to the task."""
        return {"ti": self, **({"task_state_store": self.store} if self.has_store else {})}

    def xcom_push(self, key: str, value: Any) -> None:
        """Keep an XCom as JSON, as Airflow does."""
        self.xcoms[key] = as_xcom(value)

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: int) -> Any:
        """One of its own XComs."""
        assert (task_ids, map_indexes) == (self.task_id, self.map_index)
        return copy.deepcopy(self.xcoms.get(key))

    def new_try(self) -> None:
        """Clear what Airflow clears when a task instance starts again."""
        self.xcoms.clear()

    @contextmanager
    def as_own_xcoms(self) -> Iterator[None]:
        """Let its trigger read and write its XComs."""

        def write(state: Any, key: str, value: Any) -> None:
            self.xcom_push(key, value)

        def read(state: Any, key: str) -> Any:
            return copy.deepcopy(self.xcoms.get(key))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "iotda_provider.rollout_guard.memory_store.TriggererMemoryStore._set_xcom", write
            )
            patch.setattr(
                "iotda_provider.rollout_guard.memory_store.TriggererMemoryStore._get_xcom", read
            )
            yield


class Store(dict[str, Any]):
    """Airflow's task state store."""

    def get(self, key: str, default: Any = None) -> Any:
        """A value, made anew each time."""
        return copy.deepcopy(super().get(key, default))

    def set(self, key: str, value: Any) -> None:
        """Keep a value."""
        self[key] = as_state(value)

    def delete(self, key: str) -> None:
        """Forget a value."""
        self.pop(key, None)


@pytest.fixture
def has_store() -> bool:
    """Whether Airflow has a task state store, as since 3.3."""
    return True


@pytest.fixture
def ti(has_store: bool) -> TaskInstance:
    """The running task instance."""
    return TaskInstance(has_store)


@pytest.fixture(params=["worker", "triggerer"])
def deferrable(request: pytest.FixtureRequest) -> bool:
    """Whether guards are deferred: what they do must be the same."""
    return bool(request.param == "triggerer")


@pytest.fixture
def fleet(
    deferrable: bool,
    iotda_emulator_factory: Callable[..., Emulator],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Fleet]:
    """Makes an emulated fleet, with a connection to it in force as ``iotda_default``.

    A firmware upgrade of all its devices has just begun, unless ``batch_tasks`` says otherwise.
    """

    def make(scenario: dict[str, Any] | None = None, **options: Any) -> Fleet:
        scenario = {"batch_tasks": [{"task_name": "rollout", "targets": "all"}], **(scenario or {})}
        emulator = iotda_emulator_factory(scenario, **{"speed": 0, "seed": 7, **options})
        connection = emulator.airflow_connection
        connection["extra"]["max_attempts"] = 1
        monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(connection))
        made = Fleet(emulator, deferrable)
        monkeypatch.setattr("iotda_provider.sensors.rollout_guard.time", made)
        monkeypatch.setattr("iotda_provider.sensors.guard_loop.time", made)
        monkeypatch.setattr("iotda_provider.triggers.rollout_guard.time", made)
        sleepers = Sleepers(made.monotonic, made.go_to, monkeypatch)
        monkeypatch.setattr("iotda_provider.triggers.rollout_guard.asyncio", sleepers)
        monkeypatch.setattr("iotda_provider.triggers.shared_reads._GATHER_SECONDS", 0.0)
        return made

    return make
