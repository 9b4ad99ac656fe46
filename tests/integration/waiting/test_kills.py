"""A user's kill stops the batch task only where stop_on_kill asks for it; a restart never does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from airflow.triggers.base import BaseTrigger

from iotda_provider.sensors.batch_task import BatchTaskSensor
from iotda_provider.triggers import base, kills
from iotda_provider.triggers.batch_task import BatchTaskTrigger

TASK_ID = "0123456789abcdef01234567"
pytestmark = [
    pytest.mark.iotda_emulator(
        scenario={"devices": 3, "batch_tasks": [{"task_id": TASK_ID}], "success_after": 1e9},
        speed=100,
    ),
    pytest.mark.usefixtures("iotda_connection"),
]

since_3_3 = pytest.mark.skipif(
    not hasattr(BaseTrigger, "on_kill"), reason="Airflow tells triggers of kills since 3.3"
)


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
@pytest.mark.parametrize("stop_on_kill", [True, False])
async def test_in_airflows_own_runner(iotda_emulator: Any, stop_on_kill: bool) -> None:
    from airflow.jobs.triggerer_job_runner import TriggerRunner

    runner = TriggerRunner()  # type: ignore[no-untyped-call]
    watching = trigger(stop_on_kill=stop_on_kill)
    runner.triggers[1] = {"name": "trigger", "events": 0}  # type: ignore[typeddict-item]

    await cancelled(
        lambda: runner.run_trigger(1, watching), iotda_emulator, "__airflow_user_action__"
    )

    assert stops(iotda_emulator) == stop_on_kill


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
    async def was_killed(task_instance: Any) -> bool:
        return killed

    monkeypatch.setattr(base, "_AIRFLOW_TELLS_OF_KILLS", False)
    monkeypatch.setattr(kills, "was_killed", was_killed)

    await cancelled(lambda: drain(trigger(stop_on_kill=stop_on_kill)), iotda_emulator)

    assert stops(iotda_emulator) == (killed and stop_on_kill)


@pytest.mark.parametrize(
    ("state", "resumes", "killed"),
    [
        ("deferred", True, False),  # the triggerer stops, or another one took over
        ("failed", True, True),
        ("success", True, True),
        ("skipped", True, True),
        (None, False, True),  # cleared
        ("queued", False, True),  # cleared, and on its way already
        ("scheduled", True, False),  # the trigger has timed out
        ("running", True, False),
    ],
)
async def test_what_a_state_says(
    monkeypatch: pytest.MonkeyPatch, state: str | None, resumes: bool, killed: bool
) -> None:
    for name in ("_read_database", "_ask_airflow"):
        monkeypatch.setattr(kills, name, lambda task_instance: (state, resumes))

    assert await kills.was_killed(object()) is killed


async def test_nobody_is_known_to_have_killed_a_trigger_without_a_task() -> None:
    assert not await kills.was_killed(None)


async def test_a_stop_that_fails_is_said(
    iotda_emulator: Any, lines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    iotda_emulator.add_fault("status", status=403, body={}, call="stop_batch_task")

    await trigger(stop_on_kill=True).on_kill()

    assert "could not be stopped" in lines()


@pytest.mark.parametrize("stop_on_kill", [True, False])
def test_in_the_worker(iotda_emulator: Any, stop_on_kill: bool) -> None:
    sensor = BatchTaskSensor(task_id="wait", batch_task_id=TASK_ID, stop_on_kill=stop_on_kill)

    sensor.on_kill()

    assert stops(iotda_emulator) == stop_on_kill
