"""A user's kill stops the batch task only where stop_on_kill asks for it; a restart never does."""

from __future__ import annotations

import asyncio
import importlib.metadata
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.triggers.base import BaseTrigger

from iotda_provider.airflow_support import user_kills
from iotda_provider.airflow_support.supervisor import ask
from iotda_provider.exceptions import IoTDAApiError
from iotda_provider.guards import MaxFailures
from iotda_provider.procedures import batch_tasks
from iotda_provider.sensors.batch_task import BatchTaskSensor, RolloutGuardSensor
from iotda_provider.triggers import base
from iotda_provider.triggers.batch_task import BatchTaskTrigger

TASK_ID = "0123456789abcdef01234567"
AIRFLOW_2 = importlib.metadata.version("apache-airflow").startswith("2.")
pytestmark = [
    pytest.mark.iotda_emulator(
        scenario={"devices": 3, "batch_tasks": [{"task_id": TASK_ID}], "success_after": 1e9}
    ),
    pytest.mark.usefixtures("iotda_connection"),
]

since_3_3 = pytest.mark.skipif(
    not hasattr(BaseTrigger, "on_kill"), reason="Airflow tells triggers of kills since 3.3"
)


since_3 = pytest.mark.skipif(
    AIRFLOW_2, reason="a triggerer of Airflow 2 reads the database, as tests/system/restarts sees"
)


def task_instance(map_index: int = -1) -> Any:
    return SimpleNamespace(
        dag_id="dag", run_id="run", task_id="task", map_index=map_index, try_number=1
    )


def by_a_user(monkeypatch: pytest.MonkeyPatch, killed: bool) -> None:
    """Let it be known who has ended the task instance."""

    async def was_killed(task_instance: Any) -> bool:
        return killed

    monkeypatch.setattr(user_kills, "was_killed", was_killed)


def trigger(**parameters: Any) -> BatchTaskTrigger:
    return BatchTaskTrigger(batch_task_id=TASK_ID, poll_interval=0.05, **parameters)


def stops(emulator: Any) -> int:
    return len(emulator.journal("stop_batch_task"))


async def cancelled(run: Callable[[], Any], emulator: Any, *message: str) -> None:
    """Cancel a coroutine once its trigger has looked at the task."""
    task = asyncio.ensure_future(run())
    while not emulator.journal("show_batch_task"):
        assert not task.done()
        await asyncio.sleep(0.01)
    task.cancel(*message)
    with pytest.raises(asyncio.CancelledError):
        await task


async def drain(watching: BatchTaskTrigger) -> None:
    async for _ in watching.run():
        raise AssertionError("there is nothing to tell")


@since_3_3
@pytest.mark.parametrize("killed", [True, False])
@pytest.mark.parametrize("stop_on_kill", [True, False])
async def test_in_airflows_own_runner(
    iotda_emulator: Any, monkeypatch: pytest.MonkeyPatch, killed: bool, stop_on_kill: bool
) -> None:
    """Airflow calls it a user's action, too, where another triggerer has taken over."""
    from airflow.jobs.triggerer_job_runner import TriggerRunner

    by_a_user(monkeypatch, killed)
    runner = TriggerRunner()  # type: ignore[no-untyped-call]
    watching = trigger(stop_on_kill=stop_on_kill)
    runner.triggers[1] = {"name": "trigger", "events": 0}  # type: ignore[typeddict-item]

    await cancelled(
        lambda: runner.run_trigger(1, watching), iotda_emulator, "__airflow_user_action__"
    )

    assert stops(iotda_emulator) == (killed and stop_on_kill)


@since_3_3
async def test_a_triggerer_that_stops_stops_nothing(iotda_emulator: Any) -> None:
    from airflow.jobs.triggerer_job_runner import TriggerRunner

    runner = TriggerRunner()  # type: ignore[no-untyped-call]
    runner.triggers[1] = {"name": "trigger", "events": 0}  # type: ignore[typeddict-item]

    await cancelled(lambda: runner.run_trigger(1, trigger(stop_on_kill=True)), iotda_emulator)

    assert stops(iotda_emulator) == 0


async def test_cleaning_up_stops_nothing(iotda_emulator: Any) -> None:
    await trigger(stop_on_kill=True).cleanup()

    assert stops(iotda_emulator) == 0


@pytest.mark.parametrize("killed", [True, False])
@pytest.mark.parametrize("stop_on_kill", [True, False])
async def test_where_airflow_does_not_tell(
    iotda_emulator: Any, monkeypatch: pytest.MonkeyPatch, killed: bool, stop_on_kill: bool
) -> None:
    by_a_user(monkeypatch, killed)
    monkeypatch.setattr(base, "_AIRFLOW_CALLS_ON_KILL", False)

    await cancelled(lambda: drain(trigger(stop_on_kill=stop_on_kill)), iotda_emulator)

    assert stops(iotda_emulator) == (killed and stop_on_kill)


@since_3
@pytest.mark.parametrize(
    ("state", "xcom", "killed"),
    [
        ("deferred", 1, False),  # another triggerer has taken over, or this one stops
        ("deferred", 2, True),  # cleared, and waits again already
        ("deferred", None, False),  # without a number: deferred by an older version, or no worker
        ("deferred", "2", False),  # somebody has edited it
        ("failed", None, True),
        ("success", None, True),
        ("success", {"status": "Success"}, False),  # another triggerer saw it end
        ("skipped", None, True),
        (None, None, True),  # cleared
        ("queued", None, True),  # cleared, and on its way already
        ("up_for_retry", None, False),
    ],
)
@pytest.mark.parametrize("map_index", [-1, 2])
async def test_what_airflow_3_answers(
    monkeypatch: pytest.MonkeyPatch, state: str | None, xcom: Any, killed: bool, map_index: int
) -> None:
    from airflow.sdk.execution_time import comms, task_runner

    class Airflow:
        async def asend(self, message: Any) -> Any:
            if isinstance(message, comms.GetXCom):
                key = "waiting_try" if state == "deferred" else "return_value"
                assert (message.key, message.map_index) == (key, map_index)
                return comms.XComResult(key=message.key, value=xcom)
            key = "task" if map_index < 0 else f"task_{map_index}"
            return comms.TaskStatesResult(task_states={"run": {key: state}})

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Airflow(), raising=False)

    assert await user_kills.was_killed(task_instance(map_index)) is killed


@since_3
async def test_what_airflow_3_does_not_answer_is_no_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.execution_time import task_runner

    class Airflow:
        async def asend(self, message: Any) -> Any:
            raise ConnectionError("no")

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Airflow(), raising=False)

    assert not await user_kills.was_killed(task_instance())


async def test_a_question_to_the_supervisor_is_never_broken_off() -> None:
    """Before Airflow 3.3 its answer would be taken for the next one's."""
    answered, may_answer = asyncio.Event(), asyncio.Event()

    class Supervisor:
        async def asend(self, message: str) -> None:
            await may_answer.wait()
            answered.set()

    asking = asyncio.ensure_future(ask(Supervisor(), "?"))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    may_answer.set()

    await asyncio.wait_for(answered.wait(), 60)


@pytest.mark.parametrize(
    ("state", "next_method", "try_number", "killed"),
    [
        ("deferred", "resume", 1, False),  # the triggerer stops, or another one has taken over
        ("deferred", "resume", 2, True),  # cleared, and waits again already
        ("failed", "resume", 1, True),
        ("failed", None, 1, False),  # by itself
        ("success", "resume", 1, True),
        ("success", None, 1, False),
        ("skipped", "resume", 1, True),
        (None, None, 1, True),  # cleared
        ("queued", None, 1, True),  # cleared, and on its way already
        ("scheduled", "resume", 1, False),  # the trigger has timed out, or another one has fired
        ("running", "resume", 1, False),
        ("up_for_retry", None, 1, False),
    ],
)
def test_what_airflow_2_has_in_its_database(
    state: str | None, next_method: str | None, try_number: int, killed: bool
) -> None:
    row = SimpleNamespace(state=state, next_method=next_method, try_number=try_number)

    assert user_kills._row_says(row, 1) is killed


def test_a_deleted_run_was_killed() -> None:
    assert user_kills._row_says(None, 1)


@pytest.mark.parametrize("stop_on_kill", [True, False])
@pytest.mark.parametrize(
    "sensor",
    [
        lambda **more: BatchTaskSensor(batch_task_id=TASK_ID, **more),
        lambda **more: RolloutGuardSensor(batch_task_id=TASK_ID, rules=MaxFailures(5), **more),
    ],
)
@pytest.mark.usefixtures("variables")
def test_the_worker_leaves_the_number_of_the_try_that_waits(
    sensor: Any, stop_on_kill: bool
) -> None:
    ti, xcoms = task_instance(), {}
    ti.xcom_push = lambda key, value: xcoms.update({key: value})
    ti.xcom_pull = lambda **which: None
    waiting = sensor(task_id="wait", deferrable=True, stop_on_kill=stop_on_kill)

    with pytest.raises(TaskDeferred):
        waiting.execute({"ti": ti})

    assert xcoms.get("waiting_try") == (1 if stop_on_kill else None)


async def test_nobody_is_known_to_have_killed_a_trigger_without_a_task() -> None:
    assert not await user_kills.was_killed(None)


async def test_a_stop_that_fails_is_said(
    iotda_emulator: Any, lines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    iotda_emulator.add_fault("status", status=403, body={}, call="stop_batch_task")

    by_a_user(monkeypatch, True)
    await trigger(stop_on_kill=True).on_kill()

    assert "could not be stopped" in lines()


@pytest.mark.parametrize("stop_on_kill", [True, False])
def test_in_the_worker(iotda_emulator: Any, stop_on_kill: bool) -> None:
    sensor = BatchTaskSensor(task_id="wait", batch_task_id=TASK_ID, stop_on_kill=stop_on_kill)

    sensor.on_kill()

    assert stops(iotda_emulator) == stop_on_kill


def test_what_is_left_of_a_split_rollout_is_stopped_in_the_worker(iotda_emulator: Any) -> None:
    guard = RolloutGuardSensor(
        task_id="guard",
        batch_task_id=["ab" * 12, TASK_ID],  # somebody has deleted the first one
        rules=MaxFailures(5),
        stop_on_kill=True,
        deferrable=False,
    )

    guard.on_kill()

    assert stops(iotda_emulator) == 2


async def by_the_trigger() -> None:
    await trigger(stop_on_kill=True).on_kill()


async def by_the_sensor() -> None:
    BatchTaskSensor(task_id="wait", batch_task_id=TASK_ID, stop_on_kill=True).on_kill()


async def by_the_guard() -> None:
    RolloutGuardSensor(
        task_id="guard", batch_task_id=TASK_ID, rules=MaxFailures(5), stop_on_kill=True
    ).on_kill()


@pytest.mark.parametrize("kill", [by_the_trigger, by_the_sensor, by_the_guard])
async def test_a_stop_is_asked_for_until_the_task_has_begun(
    iotda_emulator: Any, monkeypatch: pytest.MonkeyPatch, kill: Any
) -> None:
    """The platform refuses it while the task is Initializing."""
    by_a_user(monkeypatch, True)
    monkeypatch.setattr(batch_tasks, "_INITIALIZING_PAUSES", (0.0,) * 5)
    iotda_emulator.add_fault("status", status=400, body={}, call="stop_batch_task", count=3)

    await kill()

    assert stops(iotda_emulator) == 4


async def test_one_that_has_not_begun_keeps_no_other_from_its_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = "a" * 24, "b" * 24
    asked: list[str] = []
    pauses: list[float] = []

    async def stop(io: Any, batch_task_id: str) -> None:
        asked.append(batch_task_id)
        if batch_task_id == first:
            raise IoTDAApiError(400, "IOTDA.014218", "it is Initializing")

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(batch_tasks, "stop_batch_task", stop)
    io: Any = SimpleNamespace(pause=pause)
    came = await batch_tasks.stop_whole_tasks(io, [first, second])

    assert asked[:3] == [first, second, first]
    assert asked.count(second) == 1
    assert came[second] is None
    assert isinstance(came[first], IoTDAApiError)
    assert 20 <= sum(pauses) < base._KILL_SECONDS
