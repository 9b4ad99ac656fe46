"""Waiting for a maintenance window, in workers now and then or in the triggerer."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferred,
)

from iotda_provider.sensors.window import MaintenanceWindowSensor
from iotda_provider.triggers.moment import MomentTrigger


def window(begin: float, end: float) -> str:
    """A window from so many hours from now until so many."""
    now = datetime.now(timezone.utc)
    times = [f"{now + timedelta(hours=hours):%H:%M}" for hours in (begin, end)]
    return "-".join(times)


def closed() -> str:
    """One that opens in two hours: of now, for the tests may be collected long before."""
    return window(2, 3)


def opened() -> str:
    """One that is open for another hour."""
    return window(-1, 1)


def context(**plan: Any) -> Any:
    return {"ti": SimpleNamespace(xcom_pull=lambda task_ids: plan or None)}


def sensor(text: Any, **given: Any) -> MaintenanceWindowSensor:
    arguments = {"task_id": "window", "window": text, "deferrable": True, **given}
    return MaintenanceWindowSensor(**arguments)


def deferral(made: MaintenanceWindowSensor) -> Any:
    with pytest.raises(TaskDeferred) as caught:
        made.execute(context())
    return caught.value


@pytest.mark.parametrize("text", [opened, None, ""])
def test_nobody_waits_where_it_is_open(text: Any) -> None:
    text = text() if callable(text) else text
    assert sensor(text).execute(context()) is None
    assert sensor(text, deferrable=False).poke(context())


def test_a_wave_that_was_not_planned_waits_for_nothing() -> None:
    made = sensor(closed(), wave=3, plan_task_id="plan")
    assert made.execute(context(waves=[1, 2])) is None


def test_it_sleeps_until_the_window_opens_and_not_in_a_worker() -> None:
    made = sensor(closed())
    trigger = deferral(made).trigger
    now = datetime.now(timezone.utc).timestamp()
    assert 3600 < trigger.moment - now <= 2 * 3600
    assert not sensor(closed(), deferrable=False).poke(context())


def test_where_it_is_still_closed_it_sleeps_on_within_the_same_time() -> None:
    made = sensor(closed())
    first = deferral(made)
    with pytest.raises(TaskDeferred) as second:
        made.resume_execution("execute_complete", {"event": first.trigger.memo}, context())
    assert second.value.trigger.memo == first.trigger.memo
    later = sensor(opened())
    event = {"event": first.trigger.memo}
    assert later.resume_execution("execute_complete", event, context()) is None


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"timeout": 1}, AirflowSensorTimeout),
        ({"timeout": 1, "soft_fail": True}, AirflowSkipException),
        ({"execution_timeout": timedelta(seconds=1)}, AirflowTaskTimeout),
    ],
)
def test_its_time_ends_it_as_in_a_worker(given: dict[str, Any], error: type[Exception]) -> None:
    made = sensor(closed(), **given)
    trigger = deferral(made).trigger

    async def fire() -> Any:
        return await anext(trigger.run())

    event = asyncio.run(fire()).payload
    with pytest.raises(error):
        made.resume_execution("execute_complete", {"event": event}, context())


def test_its_trigger_comes_back_as_it_was() -> None:
    trigger = MomentTrigger(moment=12.5, memo={"deadline": 1.0, "limit": "timeout"})
    path, arguments = trigger.serialize()
    assert path == "iotda_provider.triggers.moment.MomentTrigger"
    assert MomentTrigger(**json.loads(json.dumps(arguments))).serialize() == (path, arguments)


def test_it_waits_for_a_weekly_window_that_clocks_skip_for_once() -> None:
    assert sensor(closed()).timeout > 16 * 86400
