"""Airflow's masker knows the secrets of connections, and the signatures that are handed out."""

from __future__ import annotations

import asyncio
import importlib
import re
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from iotda_provider.masking import airflow_masker


@pytest.fixture
def masked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the masker is told."""
    told: list[str] = []
    monkeypatch.setattr(airflow_masker, "mask_secret", told.append)
    monkeypatch.setattr(airflow_masker, "_mask_here", told.append)
    return told


@pytest.fixture
def answering(fake: Any) -> Callable[..., None]:
    """Lets the fake answer for whatever task it is asked about, and call a function first."""
    reply = type(fake.answers[0])

    def start(look: Callable[[Any], Any] = lambda seen: None) -> None:
        def answer(seen: Any) -> Any:
            look(seen)
            return reply(body={"task_id": seen.path.rsplit("/", 1)[-1], "status": "Processing"})

        fake.answer(answer)

    return start


def signature_of(seen: Any) -> str:
    (found,) = re.findall(r"Signature=(\w+)", seen.headers["Authorization"])
    return str(found)


def read_tasks(client: Any, count: int) -> None:
    for number in range(count):  # each path has a signature of its own
        client.get_batch_task(f"{number:024}")


def test_the_masker_learns_no_signature_that_stays_inside(
    client: Any, fake: Any, answering: Any, masked: Any
) -> None:
    answering()
    read_tasks(client, 3)
    assert "secret-key" in masked
    assert not {signature_of(seen) for seen in fake.seen} & set(masked)


def test_signature_that_is_handed_out_is_always_masked(
    client: Any, fake: Any, answering: Any, masked: Any
) -> None:
    answering()
    client.run("v5/iot/{project_id}/batchtasks/1")
    assert signature_of(fake.seen[0]) in masked


class TasksSupervisor:
    """The process that writes a task's log; in some versions it does not answer on a loop."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def send(self, message: Any) -> None:
        self.told.append(message.value)

    async def asend(self, message: Any) -> None:
        raise NotImplementedError


class TriggerersSupervisor(TasksSupervisor):
    """The process that writes a trigger's log: asked in any other way, it blocks the loop."""

    def send(self, message: Any) -> None:
        raise AssertionError("blocks the loop")

    async def asend(self, message: Any) -> None:
        self.told.append(message.value)


@pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="Airflow 2 has no supervising process")
@pytest.mark.parametrize("client", ["asynchronous"], indirect=True)
@pytest.mark.parametrize("kind", [TasksSupervisor, TriggerersSupervisor])
def test_supervisor_that_writes_the_log_is_told(
    kind: Any,
    client: Any,
    fake: Any,
    answering: Any,
    masked: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    importlib.import_module("airflow.sdk.execution_time.comms")
    runner: Any = ModuleType("airflow.sdk.execution_time.task_runner")
    runner.SUPERVISOR_COMMS = supervisor = kind()
    monkeypatch.setitem(sys.modules, runner.__name__, runner)
    answering()
    read_tasks(client, 1)
    assert {"secret-key"} <= set(supervisor.told) <= set(masked)


@pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="Airflow 2 has no supervising process")
def test_conversation_with_the_supervisor_is_not_broken_off(
    masked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before Airflow 3.3 the next question would get its answer, and the triggerer would end."""
    importlib.import_module("airflow.sdk.execution_time.comms")
    said: list[str] = []

    async def slowly() -> None:
        asked, may_answer, over = asyncio.Event(), asyncio.Event(), asyncio.Event()

        class Slow(TriggerersSupervisor):
            async def asend(self, message: Any) -> None:
                asked.set()
                await may_answer.wait()
                said.append(message.value)
                over.set()

        runner: Any = ModuleType("airflow.sdk.execution_time.task_runner")
        runner.SUPERVISOR_COMMS = Slow()
        monkeypatch.setitem(sys.modules, runner.__name__, runner)

        async def obtain() -> None:
            async with airflow_masker.on_event_loop():
                airflow_masker.mask("a secret")

        task = asyncio.ensure_future(obtain())
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        may_answer.set()
        await over.wait()

    asyncio.run(asyncio.wait_for(slowly(), 30))
    assert said == ["a secret"]
