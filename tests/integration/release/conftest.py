"""The operators of a staged rollout over real HTTP against the emulator, outside of Airflow.

Time passes while they sleep, and a little at each request, however busy the machine is: devices
that end their upgrades by the real clock would be further than a test says, now and then.
"""

from __future__ import annotations

import asyncio
import copy
import importlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from tests.airflow_values import as_json, as_state, as_xcom
from tests.passing_time import Sleepers

from iotda_provider.emulator import Emulator
from iotda_provider.emulator.common.clock import Clock
from iotda_provider.guards import SequentialFailureTest
from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.hooks.iotda_async import IoTDAAsyncHook
from iotda_provider.operators.release.confirm import ConfirmWaveOperator
from iotda_provider.operators.release.create import CreateWaveOperator
from iotda_provider.operators.release.outcome import RolloutOutcomeOperator
from iotda_provider.operators.release.plan import PlanWavesOperator
from iotda_provider.operators.release.reconcile import ReconcileReleaseOperator
from iotda_provider.operators.release.watch import WatchWaveOperator
from iotda_provider.release import confirm_chunks

PACKAGE = "a1b2c3d4e5f60718293a4b5c"
DOCUMENT = {"package_ids": [PACKAGE]}
RULES = SequentialFailureTest(0.02)
#: Seconds that a request takes, at least.
REQUEST = 0.002
#: Whoever waits for something of a release, or asks what time it is.
WAITING = [
    *(f"operators.release.{name}" for name in ("at_rest", "wave", "create", "confirm")),
    *(f"operators.release.{name}" for name in ("outcome", "watch", "window")),
    *(f"release.{name}" for name in ("triggerer", "worker")),
    *(f"triggers.{name}" for name in ("base", "release")),
    *(
        "hooks.procedure_io",
        "transport.blocking",
        "transport.asynchronous",
        "sensors.rollout_guard",
    ),
    *("rollout_guard.live_in_worker", "triggers.live_in_triggerer"),
]


class Time:
    """The time in which releases and their platforms live, in the place of ``time``."""

    def __init__(self) -> None:
        self._now = time.time()
        self._lock = threading.Lock()

    def time(self) -> float:
        """The moment, in seconds since 1970."""
        return self._now

    monotonic = time

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        with self._lock:
            self._now += max(0.0, seconds)

    def go_to(self, moment: float) -> None:
        """Let time pass until then, if that is not over."""
        with self._lock:
            self._now = max(moment, self._now)

    def at_request(self) -> float:
        """The platform's clock, which is looked at for each request."""
        self.sleep(REQUEST)
        return self._now


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> Time:
    """The time in which a test's releases live; their hooks repeat calls at once."""
    monkeypatch.setattr("iotda_provider.transport.retrying.random.uniform", lambda low, high: low)
    made = Time()
    sleepers = Sleepers(made.time, made.go_to, monkeypatch)
    for name in WAITING:
        module = importlib.import_module(f"iotda_provider.{name}")
        for kind, instead in (("time", made), ("asyncio", sleepers)):
            if hasattr(module, kind):
                monkeypatch.setattr(module, kind, instead)
    return made


class XComs(dict[tuple[str, str], Any]):
    """The XComs of one DAG run by task and key, in the place of Airflow's ``XCom``, too."""

    def put(self, task_id: str, key: str, value: Any) -> None:
        """Keep a value as JSON, as Airflow does."""
        self[task_id, key] = as_xcom(value)

    def set(self, key: str, value: Any, *, task_id: str, **ids: Any) -> None:
        """Keep any task's value."""
        assert ids == {"dag_id": "dag", "run_id": "run", "map_index": -1}
        self.put(task_id, key, value)

    def get_one(self, *, key: str, task_id: str, **ids: Any) -> Any:
        """Any task's value."""
        assert ids == {"dag_id": "dag", "run_id": "run", "map_index": -1}
        return self.pulled(task_id, key)

    def pulled(self, task_id: str, key: str) -> Any:
        """A task's value, made anew each time."""
        return copy.deepcopy(self.get((task_id, key)))

    def forget(self, task_id: str) -> None:
        """What Airflow does when a task starts again."""
        for key in [key for key in self if key[0] == task_id]:
            del self[key]


class TaskInstance:
    """A running task instance as far as the operators look at it."""

    dag_id, run_id, map_index = "dag", "run", -1

    def __init__(self, xcoms: XComs, task_id: str, try_number: int) -> None:
        self._xcoms = xcoms
        self.task_id, self.try_number = task_id, try_number

    def xcom_push(self, key: str, value: Any) -> None:
        """Keep a value of its own."""
        self._xcoms.put(self.task_id, key, value)

    def xcom_pull(self, task_ids: str, key: str = "return_value", map_indexes: int = -1) -> Any:
        """A value that a task has left."""
        return self._xcoms.pulled(task_ids, key)


class Store(dict[str, Any]):
    """Airflow's task state store, which survives tries."""

    def get(self, key: str, default: Any = None) -> Any:
        """A value, made anew each time."""
        return copy.deepcopy(super().get(key, default))

    def set(self, key: str, value: Any) -> None:
        """Keep a value as JSON."""
        self[key] = as_state(value)

    def delete(self, key: str) -> None:
        """Forget a value."""
        self.pop(key, None)


def remade(trigger: Any) -> Any:
    """A trigger made anew out of its arguments, as a triggerer does."""
    classpath, arguments = trigger.serialize()
    module, _, name = classpath.rpartition(".")
    return getattr(importlib.import_module(module), name)(**as_json(arguments))


def fired(trigger: Any) -> Any:
    """The event of a trigger, made anew out of its arguments."""

    async def first() -> Any:
        async for event in remade(trigger).run():
            return as_json(event.payload)
        raise AssertionError("the trigger ended without an event")

    return asyncio.run(first())


class Rollout:
    """One rollout: its platform, and what its tasks have left.

    :param passing: the time in which they all live
    :param deferrable: whether its tasks wait in the triggerer
    :param has_store: whether Airflow has a task state store, as since 3.3
    """

    def __init__(self, emulator: Emulator, passing: Any, deferrable: bool, has_store: bool) -> None:
        self.emulator = emulator
        self.time = passing
        self.deferrable = deferrable
        self.has_store = has_store
        self.xcoms = XComs()
        self.stores: dict[str, Store] = {}
        self.tries: dict[str, int] = {}
        self.deferrals: list[Any] = []
        self.contexts: dict[str, Any] = {}
        self.devices: Any = ()

    def context(self, operator: Any) -> Any:
        """What Airflow hands to the next try of a task."""
        number = self.tries[operator.task_id] = self.tries.get(operator.task_id, 0) + 1
        self.xcoms.forget(operator.task_id)
        context: dict[str, Any] = {"ti": TaskInstance(self.xcoms, operator.task_id, number)}
        if self.has_store:
            context["task_state_store"] = self.stores.setdefault(operator.task_id, Store())
        self.contexts[operator.task_id] = context
        return context

    def run(self, operator: Any) -> Any:
        """Execute an operator as Airflow does, as its next try, in worker and triggerer."""
        context = self.context(operator)
        act: Callable[[Any], Any] = lambda fresh: fresh.execute(context)  # noqa: E731
        while True:
            try:
                result = act(copy.copy(operator))  # self is lost over a deferral
                break
            except TaskDeferred as deferral:
                self.deferrals.append(deferral)
                act = self.resumption(deferral, context)
        if result is not None:
            context["ti"].xcom_push("return_value", result)
        return result

    @staticmethod
    def resumption(deferral: Any, context: Any) -> Callable[[Any], Any]:
        """Runs the trigger, and then what the task goes on with."""
        kwargs = {**(deferral.kwargs or {}), "event": fired(deferral.trigger)}
        return lambda fresh: fresh.resume_execution(deferral.method_name, kwargs, context)

    def plan(self, waves: Any = "10%, 25%, 50%, 100%", gate: Any = 0.1, **given: Any) -> Any:
        """Plan the waves."""
        given = {"devices": self.devices, "keeper_task_id": "outcome", **given}
        return self.run(
            PlanWavesOperator(
                task_id="plan",
                waves=waves,
                gate=gate,
                create_task_ids=[f"create_{n}" for n in range(1, 7)],
                **{"task_type": "firmwareUpgrade", "document": DOCUMENT, **given},
            )
        )

    def creating(self, wave: int = 1, **given: Any) -> CreateWaveOperator:
        """The operator that creates the batch tasks of one wave."""
        return CreateWaveOperator(
            task_id=f"create_{wave}",
            wave=wave,
            plan_task_id="plan",
            create_task_id=f"create_{wave - 1}" if wave > 1 else None,
            task_name="release",
            after=[f"watch_{wave - 1}"],
            keeper_task_id="outcome",
            deferrable=self.deferrable,
            **{
                "task_type": "firmwareUpgrade",
                "document": DOCUMENT,
                "rules": RULES,
                "poll_interval": 0.05,
                **given,
            },
        )

    def create(self, wave: int = 1, **given: Any) -> Any:
        """Create the batch tasks of one wave."""
        return self.run(self.creating(wave, **given))

    def confirming(self, wave: int = 1, **given: Any) -> ConfirmWaveOperator:
        """The operator that confirms one wave."""
        return ConfirmWaveOperator(
            task_id=f"confirm_{wave}",
            wave=wave,
            plan_task_id="plan",
            create_task_id=f"create_{wave}",
            after=[f"watch_{wave - 1}", f"create_{wave}"],
            keeper_task_id="outcome",
            deferrable=self.deferrable,
            **{"rules": RULES, "poll_interval": 0.05, "rehearse_stop": False, **given},
        )

    def confirm(self, wave: int = 1, **given: Any) -> Any:
        """Confirm one wave, whose batch tasks are created before, unless they are there."""
        if (f"create_{wave}", "return_value") not in self.xcoms:
            self.create(wave)
        return self.run(self.confirming(wave, **given))

    def watching(self, wave: int = 1, **given: Any) -> WatchWaveOperator:
        """The operator that watches one wave."""
        return WatchWaveOperator(
            task_id=f"watch_{wave}",
            wave=wave,
            plan_task_id="plan",
            create_task_id=f"create_{wave}",
            confirm_task_id=f"confirm_{wave}",
            after=[f"confirm_{wave}"],
            deferrable=self.deferrable,
            **{"rules": RULES, "gate": 0.1, "poll_interval": 0.05, "wave_timeout": 20, **given},
        )

    def watch(self, wave: int = 1, **given: Any) -> Any:
        """Watch one wave."""
        return self.run(self.watching(wave, **given))

    def outcome(self, waves: int = 1, **given: Any) -> Any:
        """Say how it has ended."""
        kinds = ("confirm", "watch", "gate", "ask", "stop")
        return self.run(
            RolloutOutcomeOperator(
                task_id="outcome",
                plan_task_id="plan",
                steps=[{kind: f"{kind}_{n}" for kind in kinds} for n in range(1, waves + 1)],
                after=[f"watch_{n}" for n in range(1, waves + 1)],
                keeper_task_id="outcome",
                **{"rules": RULES, "poll_interval": 0.05, **given},
            )
        )

    def reconcile(self, outcome: Any, **given: Any) -> Any:
        """Say what came of the devices, by their own versions."""
        return self.run(
            ReconcileReleaseOperator(
                task_id="reconcile",
                outcome=outcome,
                plan_task_id="plan",
                **{"version": "2.0.0", "gate": 0.1, **given},
            )
        )

    def task_of(self, wave: int = 1, part: int = 1) -> Any:
        """The id of one batch task of the release."""
        return self.xcoms[f"create_{wave}", "return_value"]["parts"][part - 1]["batch_task_id"]

    @property
    def task_ids(self) -> list[str]:
        """The ids of all batch tasks that were created."""
        found = self.emulator.instance.present()._tasks.values()
        return [task.task_id for task in found if "_afr" in task.fields["task_name"]]

    def said(self, verdict: str, wave: int = 1) -> None:
        """Put down what a wave's watch has come to."""
        result = {"verdict": verdict, "summary": f"It is {verdict}.", "is_last": True}
        self.xcoms.put(f"watch_{wave}", "return_value", result)

    def counts(self, wave: int = 1) -> dict[str, int]:
        """The platform's counts of a wave's first batch task."""
        found: dict[str, int] = self.emulator.instance.present().task(self.task_of(wave)).progress()
        return found

    def wave(self, number: int) -> list[str]:
        """The devices of one wave."""
        members: list[str] = self.xcoms["plan", f"wave_{number}"]
        return members

    @property
    def confirmations(self) -> list[list[str]]:
        """The targets of every confirmation that was asked for."""
        bodies = [e["body"] for e in self.emulator.journal("confirm_batch_task")]
        assert all(body and body.get("targets") for body in bodies), bodies
        return [body["targets"] for body in bodies]

    @property
    def confirmed(self) -> list[str]:
        """Every device that was confirmed, as often as it was."""
        return [device for targets in self.confirmations for device in targets]

    @property
    def stops(self) -> int:
        """How often a stop was asked for."""
        return len(self.emulator.journal("stop_batch_task"))


@pytest.fixture(params=["worker", "triggerer"])
def deferrable(request: pytest.FixtureRequest) -> bool:
    """Where the tasks wait: what they do must be the same."""
    return bool(request.param == "triggerer")


@pytest.fixture
def has_store() -> bool:
    """Whether Airflow has a task state store, as since 3.3."""
    return True


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices that are refused are asked for again for half a second, not for two minutes."""
    monkeypatch.setattr(confirm_chunks, "PATIENCE", 0.5)


@pytest.fixture
def logged(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Any:
    """What was logged until now, by whichever way Airflow does that."""
    return lambda: "".join(capsys.readouterr()) + caplog.text


@pytest.fixture
def rollout(
    passing: Any, deferrable: bool, has_store: bool, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Rollout]]:
    """Starts a platform with a fleet and a package, and no batch task."""
    running: list[Emulator] = []

    def start(speed: float = 300, devices: int = 400, *, seed: int = 0, **scenario: Any) -> Rollout:
        whole = {
            "devices": devices,
            "success_after": 60,
            "failure_after": 30,
            "packages": [{"package_id": PACKAGE, "version": "2.0.0"}],
            "switches": {"initializing": 0, "stop_after": 0},
            **scenario,
        }
        emulator = Emulator(whole, speed=speed, seed=seed)
        if isinstance(passing, Time):
            emulator.instance.clock = Clock(
                speed, emulator.instance.world.now, real=passing.at_request
            )
        emulator.start()
        emulator.advance(1)
        running.append(emulator)
        monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(emulator.airflow_connection))
        made = Rollout(emulator, passing, deferrable, has_store)
        made.devices = [f"device-{n:05}" for n in range(devices)]
        own = "iotda_provider.rollout_guard.memory_store.TriggererMemoryStore."
        monkeypatch.setattr("iotda_provider.release.storage._xcom", lambda: made.xcoms)
        monkeypatch.setattr(
            own + "_set_xcom",
            lambda state, key, value: made.xcoms.put(state._owner["task_id"], key, value),
        )
        monkeypatch.setattr(
            own + "_get_xcom",
            lambda state, key: made.xcoms.pulled(state._owner["task_id"], key),
        )
        return made

    yield start
    for emulator in running:
        emulator.close()


class KilledError(BaseException):
    """The end of a worker or a triggerer, at once: nothing may catch it."""


@pytest.fixture
def around_confirmations(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Has functions called with the number of every confirmation, before and after it is sent."""

    def install(before: Callable[[int], None], after: Callable[[int], None]) -> None:
        real, real_async = IoTDAHook.confirm_batch_task, IoTDAAsyncHook.confirm_batch_task
        numbers = iter(range(1, 10_000))

        def confirm(self: IoTDAHook, *args: Any, **kwargs: Any) -> Any:
            number = next(numbers)
            before(number)
            result = real(self, *args, **kwargs)
            after(number)
            return result

        async def confirm_async(self: IoTDAAsyncHook, *args: Any, **kwargs: Any) -> Any:
            number = next(numbers)
            before(number)
            result = await real_async(self, *args, **kwargs)
            after(number)
            return result

        monkeypatch.setattr(IoTDAHook, "confirm_batch_task", confirm)
        monkeypatch.setattr(IoTDAAsyncHook, "confirm_batch_task", confirm_async)

    return install


@pytest.fixture
def kill(around_confirmations: Callable[..., None]) -> Callable[..., None]:
    """Kills whoever confirms at one call, before it is sent or before its answer is read."""

    def at(call: int, *, sent: bool) -> None:
        def die(number: int) -> None:
            if number == call:
                raise KilledError

        def go_on(number: int) -> None:
            pass

        around_confirmations(go_on if sent else die, die if sent else go_on)

    return at
