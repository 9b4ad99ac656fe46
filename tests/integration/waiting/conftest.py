"""Runs an operator as Airflow does, either waiting in its worker or deferred to a triggerer."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import importlib
import json
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.providers.common.compat.sdk import timeout as airflow_timeout
from tests.airflow_values import as_json, as_state, as_xcom

from iotda_provider.emulator.common.clock import Clock

TASK_ID = "0123456789abcdef01234567"


@pytest.fixture
def iotda_emulator(iotda_emulator: Any) -> Any:
    """An emulator for which ten seconds pass with each request.

    By a clock, what a test is about might be over before its first look, on a busy machine.
    """
    instance = iotda_emulator.instance
    instance.clock = Clock(10, instance.clock.now(), real=lambda: instance.journal._made)
    return iotda_emulator


class TaskInstance:
    """A running task instance as far as operators look at it."""

    def __init__(self, try_number: int = 1) -> None:
        self.dag_id, self.run_id, self.task_id, self.map_index = "dag", "run", "task", -1
        self.try_number = try_number
        self.xcoms: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = as_xcom(value)

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: int) -> Any:
        assert (task_ids, map_indexes) == (self.task_id, self.map_index)
        return copy.deepcopy(self.xcoms.get(key))


class Store(dict[str, Any]):
    """Airflow 3.3's task state store, which survives tries."""

    def get(self, key: str, default: Any = None) -> Any:
        return copy.deepcopy(super().get(key, default))

    def set(self, key: str, value: Any) -> None:
        self[key] = as_state(value)


@dataclass
class Ended:
    """How a task instance ended: with a result or an error, and its XComs either way."""

    result: Any = None
    error: BaseException | None = None
    xcoms: dict[str, Any] = field(default_factory=dict)
    deferred: int = 0

    @property
    def said(self) -> tuple[str, str]:
        """The error's type and text."""
        return type(self.error).__name__, str(self.error)


@contextlib.contextmanager
def limited(operator: Any) -> Iterator[None]:
    """Airflow's ``execution_timeout``, around each stay in a worker."""
    if operator.execution_timeout is None:
        yield
        return
    seconds = operator.execution_timeout.total_seconds()
    with airflow_timeout(seconds):  # type: ignore[no-untyped-call]
        yield


def fired(trigger: Any) -> Any:
    """The event of a trigger, made anew out of its arguments as a triggerer does."""
    classpath, arguments = trigger.serialize()
    module, _, name = classpath.rpartition(".")
    kind = getattr(importlib.import_module(module), name)
    again = kind(**as_json(arguments))

    async def first() -> Any:
        async for event in again.run():
            return as_json(event.payload)
        raise AssertionError("the trigger ended without an event")

    return asyncio.run(first())


class Runner:
    """Runs operators one way.

    :param way: ``worker`` or ``triggerer``

    ``store`` is None for an Airflow below 3.3.
    """

    def __init__(self, way: str) -> None:
        self.way = way
        self.store: Store | None = Store()

    def __call__(self, make: Callable[..., Any], *, try_number: int = 1, **parameters: Any) -> Any:
        """Make an operator and run one try of it."""
        operator = make(task_id="task", deferrable=self.way == "triggerer", **parameters)
        ti = TaskInstance(try_number)
        context: dict[str, Any] = {"ti": ti}
        if self.store is not None:
            context["task_state_store"] = self.store
        ended = Ended(xcoms=ti.xcoms)
        act: Callable[[], Any] = lambda: operator.execute(context)  # noqa: E731
        while True:
            try:
                with limited(operator):
                    ended.result = act()
                return ended
            except TaskDeferred as deferral:
                ended.deferred += 1
                operator = make(task_id="task", deferrable=True, **parameters)  # self is lost
                event = fired(deferral.trigger)
                kwargs = {**as_json(deferral.kwargs or {}), "event": event}
                act = self.resumption(operator, deferral.method_name, kwargs, context)
            except BaseException as error:  # noqa: BLE001 - whatever ends a task
                ended.error = error
                return ended

    def resumption(
        self, operator: Any, method: str, kwargs: dict[str, Any], context: Any
    ) -> Callable[[], Any]:
        return lambda: operator.resume_execution(method, kwargs, context)


@pytest.fixture(params=["worker", "triggerer"])
def run(
    request: pytest.FixtureRequest, iotda_emulator: Any, monkeypatch: pytest.MonkeyPatch
) -> Runner:
    connection = iotda_emulator.airflow_connection
    connection["extra"]["max_attempts"] = 1  # a look that fails is left to the next one
    monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(connection))
    return Runner(request.param)


@pytest.fixture
def after_looks(iotda_emulator: Any) -> Iterator[Callable[..., None]]:
    """Has something done once the task was looked at so many times."""
    over = threading.Event()
    threads: list[threading.Thread] = []

    def start(looks: int, act: Callable[[], object]) -> None:
        def watch() -> None:
            while not over.wait(0.01):
                if len(iotda_emulator.journal("show_batch_task")) >= looks:
                    act()
                    return

        threads.append(threading.Thread(target=watch))
        threads[-1].start()

    yield start
    over.set()
    for thread in threads:
        thread.join()


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> Any:
    """What has been logged so far, however the installed Airflow logs."""
    caplog.set_level(logging.INFO)
    seen: list[str] = []

    def log() -> str:
        seen.extend(capsys.readouterr())
        return "".join(seen) or caplog.text

    return log
