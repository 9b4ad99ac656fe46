"""Between a breach and its stop a guard waits for nothing but the platform."""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from iotda_provider.exceptions import IoTDAAuthError
from iotda_provider.guards import MaxFailures
from iotda_provider.hooks import iotda_async
from iotda_provider.hooks.iotda_async import IoTDAAsyncHook
from iotda_provider.rollout_guard import GuardPlan
from iotda_provider.rollout_guard.memory_store import TriggererMemoryStore
from iotda_provider.triggers.rollout_guard import RolloutGuardTrigger

BAD = {"devices": 200, "failure_rate": 0.5, "failure_after": 60, "success_after": 600}


class Hanging:
    """An Airflow that answers nothing from the first look on, until the platform was asked for a
    stop so many times.

    :ivar in_vain: how many calls have waited for that for so long that they have given up
    """

    def __init__(self) -> None:
        self.fleet: Any = None
        self.stops = 1
        self.in_vain = 0

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        ends = time.monotonic() + 60
        if not self.fleet.calls("show_batch_task"):
            return
        while len(self.fleet.calls("stop_batch_task")) < self.stops:
            if time.monotonic() > ends:
                self.in_vain += 1
                raise TimeoutError
            time.sleep(0.01)


@pytest.fixture
def hanging(ti: Any, monkeypatch: pytest.MonkeyPatch) -> Hanging:
    made = Hanging()
    monkeypatch.setattr("tests.passing_time.HANGS", 0.5)
    for module in ("memory_store", "worker"):
        monkeypatch.setattr(f"iotda_provider.rollout_guard.{module}.SECONDS_BEFORE_STOP", 0.1)
    monkeypatch.setattr("iotda_provider.rollout_guard.triggerer.SECONDS_WITHOUT_MEMORY", 0.5)
    monkeypatch.setattr(TriggererMemoryStore, "_get_memories", made)
    monkeypatch.setattr(TriggererMemoryStore, "_set_memory", made)
    monkeypatch.setattr("iotda_provider.masking.airflow_masker.mask_secret", made)
    keep, push = ti.store.set, ti.xcom_push
    monkeypatch.setattr(ti.store, "set", lambda *args: (made(), keep(*args)))
    monkeypatch.setattr(ti, "xcom_push", lambda *args, **named: (made(), push(*args, **named)))
    return made


def test_a_stop_goes_out_where_airflow_hangs(
    fleet: Any, ti: Any, hanging: Hanging, deferrable: bool
) -> None:
    bad = hanging.fleet = fleet(BAD)
    hanging.stops = 0 if deferrable else 1  # or it never gets as far as the triggerer
    guard = bad.guard(stop_on_breach=True)

    try:
        result = guard.execute(ti.context)
    except TaskDeferred as deferral:
        hanging.stops = 1
        result = bad.trigger(deferral.trigger, ti)["result"]

    assert (result["verdict"], result["stop"]["outcome"]) == ("breached", "stopped")
    assert len(bad.calls("stop_batch_task")) == 1
    assert not hanging.in_vain


@pytest.mark.parametrize("deferrable", ["worker"], indirect=True)
def test_nor_does_the_first_look_of_a_worker_wait_for_what_an_earlier_try_knew(
    fleet: Any, ti: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = fleet(BAD)
    bad.emulator.advance(120)
    monkeypatch.setattr("iotda_provider.rollout_guard.worker.SECONDS_FOR_RECALL", 0.05)
    get, recalled_after = ti.store.get, []

    def hang(*args: Any) -> Any:
        ends = time.monotonic() + 60
        while not bad.calls("stop_batch_task") and time.monotonic() < ends:
            time.sleep(0.01)
        recalled_after.append(len(bad.calls("stop_batch_task")))
        return get(*args)

    monkeypatch.setattr(ti.store, "get", hang)

    result = bad.run(ti, stop_on_breach=True)["return_value"]

    assert (result["verdict"], result["stop"]["outcome"]) == ("breached", "stopped")
    assert recalled_after
    assert min(recalled_after) == 1, "the stop was there first"
    assert len(bad.calls("stop_batch_task")) == 1


@pytest.mark.parametrize("deferrable", ["worker"], indirect=True)
def test_no_alert_is_waited_for_before_a_stop_is_sent_again(
    fleet: Any, ti: Any, hanging: Hanging
) -> None:
    bad = hanging.fleet = fleet(BAD)
    bad.emulator.add_fault("status", call="stop_batch_task", status=503, body={}, count=1)
    hanging.stops = 2
    told: list[Any] = []

    def on_alert(alert: Any) -> None:
        hanging()
        told.append(alert["kind"])

    result = bad.run(ti, stop_on_breach=True, on_alert=on_alert)["return_value"]

    assert result["stop"]["outcome"] == "stopped"
    assert told == ["stop_failed", "breach", "stopped"]
    assert ti.xcoms["alert"]["kind"] == "stop_failed"
    assert not hanging.in_vain


@pytest.mark.parametrize("deferrable", ["triggerer"], indirect=True)
def test_no_connection_is_looked_up_after_the_first_look(
    fleet: Any, ti: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = fleet(BAD)
    lookup, seen_before = iotda_async.get_async_connection, []

    async def counted(*args: Any, **kwargs: Any) -> Any:
        seen_before.append(len(bad.calls("show_batch_task")))
        return await lookup(*args, **kwargs)

    monkeypatch.setattr(iotda_async, "get_async_connection", counted)
    looks = len(bad.calls("show_batch_task"))

    result = bad.run(ti, stop_on_breach=True, rules=MaxFailures(40))

    assert result["return_value"]["stop"]["outcome"] == "stopped"
    assert len(seen_before) == 1
    assert seen_before[0] <= looks + 1  # the worker's own look, and none of the trigger's


@pytest.mark.parametrize("deferrable", ["triggerer"], indirect=True)
@pytest.mark.parametrize("status", [401, 403])
def test_a_guard_that_is_refused_takes_no_connection_from_one_that_must_stop(
    fleet: Any, ti: Any, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = {"task_name": "refused", "targets": "all"}
    bad = fleet({**BAD, "batch_tasks": [{"task_name": "bad", "targets": "all"}, refused]})
    bad_id, refused_id = bad.task_ids
    lookup, show = iotda_async.get_async_connection, IoTDAAsyncHook.get_batch_task
    lookups, shown = [], []

    async def hanging(*args: Any, **kwargs: Any) -> Any:
        lookups.append(len(shown))
        while len(lookups) > 1 and not bad.calls("stop_batch_task"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return await lookup(*args, **kwargs)

    async def shown_to_some(hook: Any, batch_task_id: str) -> Any:
        shown.append(batch_task_id)
        if shown.count(refused_id) > 1 and batch_task_id == refused_id:
            raise IoTDAAuthError(status)
        return await show(hook, batch_task_id)

    monkeypatch.setattr(iotda_async, "get_async_connection", hanging)
    monkeypatch.setattr(IoTDAAsyncHook, "get_batch_task", shown_to_some)

    event = _run_beside(ti, bad_id, refused_id)

    assert event["result"]["stop"]["outcome"] == "stopped"
    assert shown.count(refused_id) > 1
    assert len(lookups) > 1


@pytest.mark.parametrize("deferrable", ["triggerer"], indirect=True)
def test_a_guard_that_looks_seldom_keeps_no_other_from_new_keys(
    fleet: Any, ti: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seldom = {"task_name": "seldom", "targets": "all"}
    bad = fleet({**BAD, "batch_tasks": [{"task_name": "bad", "targets": "all"}, seldom]})
    bad_id, seldom_id = bad.task_ids
    show, refused = IoTDAAsyncHook.get_batch_task, []
    old = json.loads(os.environ["AIRFLOW_CONN_IOTDA_DEFAULT"])
    new = {**old, "extra": {**old["extra"], "max_attempts": 2}}

    async def shown_with_new_keys(hook: Any, batch_task_id: str) -> Any:
        settings = await hook.get_settings()
        if bad.now > 30 and settings.max_attempts == 1:
            monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(new))
            refused.append(batch_task_id)
            raise IoTDAAuthError(401)
        return await show(hook, batch_task_id)

    monkeypatch.setattr(IoTDAAsyncHook, "get_batch_task", shown_with_new_keys)

    event = _run_beside(ti, bad_id, seldom_id, poll_interval=3600.0)

    assert event["result"]["stop"]["outcome"] == "stopped"
    assert set(refused) == {bad_id}


def _run_beside(ti: Any, batch_task_id: str, other: str, **plan: Any) -> Any:
    """The event of a guard, while another one of the same connection watches, too."""
    trigger, beside = _trigger(ti, batch_task_id), _trigger(ti, other, **plan)

    async def both() -> Any:
        watching = asyncio.ensure_future(anext(beside.run()))
        try:
            return (await anext(trigger.run())).payload
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    with ti.as_own_xcoms():
        return asyncio.run(both())


def _trigger(ti: Any, batch_task_id: str, **more: Any) -> RolloutGuardTrigger:
    plan = GuardPlan(
        batch_task_ids=(batch_task_id,), rules=(MaxFailures(40),), stop_on_breach=True, **more
    )
    owner = {name: getattr(ti, name) for name in ("dag_id", "run_id", "task_id", "map_index")}
    return RolloutGuardTrigger(plan=plan.to_dict(), owner={**owner, "task_id": batch_task_id})
