"""What guards write in an outage: a line a minute each, in their own logs."""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
from collections import Counter
from typing import Any

import pytest

from iotda_provider.guards import MaxFailures
from iotda_provider.hooks.iotda_async import IoTDAAsyncHook
from iotda_provider.rollout_guard import GuardPlan
from iotda_provider.rollout_guard.memory_store import TriggererMemoryStore
from iotda_provider.triggers.rollout_guard import RolloutGuardTrigger

GUARDS = 4
MINUTES = 5
whose = contextvars.ContextVar("whose", default="nobody's")


class SharedTime:
    """The clock of some guards, which goes on when all of them sleep."""

    def __init__(self, start: float) -> None:
        self.start = start
        self.now = 0.0
        self.first_minute = asyncio.Event()
        self._sleeping: list[tuple[float, asyncio.Future[None]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    def time(self) -> float:
        return self.start + self.now

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        awake = asyncio.get_running_loop().create_future()
        self._sleeping.append((self.now + seconds, awake))
        if len(self._sleeping) == GUARDS:
            self.now = min(until for until, _ in self._sleeping)
            if self.now >= 60:
                self.first_minute.set()
            due = [future for until, future in self._sleeping if until <= self.now]
            self._sleeping = [(until, f) for until, f in self._sleeping if until > self.now]
            for future in due:
                future.set_result(None)
        await awake


class Lines(logging.Handler):
    """Collects log lines with the context in which they were written."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.seen: list[tuple[str, str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append((whose.get(), record.name, record.getMessage()))


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Any:
    made, root = Lines(), logging.getLogger()
    monkeypatch.setattr(IoTDAAsyncHook, "log", logging.getLogger("the hook"))
    root.addHandler(made)
    yield made
    root.removeHandler(made)


def away(*args: Any) -> Any:
    raise ConnectionError("Airflow's API is away")


@pytest.mark.parametrize("deferrable", ["triggerer"], indirect=True)
async def test_each_guard_writes_a_line_a_minute_in_an_outage_and_nobody_writes_for_others(
    fleet: Any, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"rollout-{n}" for n in range(GUARDS)]
    tasks = [{"task_name": name.replace("-", "_"), "targets": "all"} for name in names]
    made = fleet({"devices": 20, "success_after": 36_000, "batch_tasks": tasks})
    connection = made.emulator.airflow_connection
    connection["extra"]["max_attempts"] = 2
    monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(connection))
    monkeypatch.setattr("iotda_provider.transport.retrying.random.uniform", lambda low, high: low)
    shared = SharedTime(made.start)
    for module in (
        "triggers.rollout_guard",
        "rollout_guard.memory_store",
        "rollout_guard.triggerer",
    ):
        monkeypatch.setattr(f"iotda_provider.{module}.time", shared)
    monkeypatch.setattr("iotda_provider.triggers.rollout_guard.asyncio", shared)
    for call in ("_get_memories", "_set_memory", "_set_xcom"):
        monkeypatch.setattr(TriggererMemoryStore, call, away)

    async def guard(name: str, task_id: str) -> None:
        whose.set(name)
        plan = GuardPlan(
            batch_task_ids=(task_id,),
            rules=(MaxFailures(5),),
            stop_on_breach=True,
            poll_interval=20.0,
            deadline=shared.start + 60.0 * (MINUTES + 2),
        )
        owner = {"dag_id": "dag", "run_id": name, "task_id": "guard", "map_index": -1}
        trigger = RolloutGuardTrigger(plan=plan.to_dict(), owner=owner)
        trigger._log = logging.getLogger(name)
        async for _ in trigger.run():
            return

    guards = [
        asyncio.ensure_future(guard(name, task_id))
        for name, task_id in zip(names, made.task_ids, strict=True)
    ]
    await shared.first_minute.wait()
    lines.seen.clear()
    began = shared.now
    made.emulator.add_fault("throttle", call="*", retry_after=0, count=1_000_000)
    await asyncio.gather(*guards)

    assert shared.now - began >= 60 * MINUTES
    assert {(context, logger) for context, logger, _ in lines.seen} == {(n, n) for n in names}
    written = Counter(context for context, _, _ in lines.seen)
    # One about the platform, and one about Airflow; and two at the end.
    assert max(written.values()) <= 2 * (MINUTES + 2) + 2
