"""The fault table of docs/reliability.md: each cell is a test, and the two can't differ.

A fault is put before one of the platform's answers, over real HTTP. Whatever comes of it, the
platform has done what was asked in effect once, or not at all, and the user knows which.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout
from tests.airflow_values import as_xcom

from iotda_provider.exceptions import (
    IoTDAAuthError,
    IoTDAError,
    IoTDAServerError,
    IoTDAThrottledError,
    IoTDATransportError,
)
from iotda_provider.guards import MaxFailures
from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.operators.batch_task.actions import (
    ConfirmBatchTaskOperator,
    RetryBatchTaskOperator,
)
from iotda_provider.operators.batch_task.create import CreateBatchTaskOperator
from iotda_provider.operators.batch_task.stop import StopBatchTaskOperator
from iotda_provider.sensors.batch_task import BatchTaskSensor, RolloutGuardSensor
from iotda_provider.transport import pipeline

DOCUMENT = Path(__file__).parents[3] / "docs" / "reliability.md"
TASK_ID = "0123456789abcdef01234567"
WANTED = ["device-00000", "device-00002"]
#: Seconds, of the platform, and of whoever waits for an answer that is not going to come.
NO_ANSWER_IN_TIME, SOON = 60, 0.3

# --- outcomes, in the words of the document -------------------------------------------------------

DONE = "done"
READ_BACK = "done, read back"
NOT_DONE = "reported as not done"
ERROR = "error"
WAITS = "waits on"
GOES_ON = "goes on guarding"


@dataclass(frozen=True)
class Fault:
    """What happens to the answers of a call.

    :param rule: the emulator's rule
    :param outcomes: what comes of it for each operation, in the order of ``OPERATIONS``
    """

    name: str
    rule: dict[str, Any]
    outcomes: tuple[str, ...]


def fault(name: str, *outcomes: str, kind: str, **rule: Any) -> Fault:
    return Fault(name, {"kind": kind, **rule}, outcomes)


OPERATIONS = ("stop all", "stop targets", "create", "confirm", "retry", "wait", "guard")
#: In the order of OPERATIONS.
ONCE = (DONE, DONE, READ_BACK, DONE, READ_BACK, WAITS, GOES_ON)
NOT_ACTED_ONCE = (DONE, DONE, DONE, DONE, NOT_DONE, WAITS, GOES_ON)
ALWAYS = (READ_BACK, READ_BACK, READ_BACK, READ_BACK, READ_BACK, ERROR, ERROR)
NEVER_ACTED = (ERROR, NOT_DONE, ERROR, NOT_DONE, NOT_DONE, ERROR, ERROR)
REFUSED = (ERROR, ERROR, ERROR, ERROR, ERROR, ERROR, ERROR)
FAULTS = (
    fault("acted, connection closed", *ONCE, kind="lost", count=1),
    fault("acted, answer cut off", *ONCE, kind="truncate", count=1),
    fault("acted, answer is no JSON", *ONCE, kind="malformed", count=1),
    fault("acted, a proxy's page", *ONCE, kind="html", acted=True, count=1),
    fault("acted, HTTP 500", *ONCE, kind="status", status=500, acted=True, count=1),
    fault(
        "acted, no answer in time",
        *(READ_BACK, READ_BACK, READ_BACK, READ_BACK, READ_BACK, WAITS, GOES_ON),
        kind="latency",
        seconds=NO_ANSWER_IN_TIME,
        acted=True,
        count=1,
    ),
    fault(
        "acted, one attempt hangs",
        *(DONE, DONE, READ_BACK, DONE, READ_BACK, WAITS, GOES_ON),
        kind="latency",
        seconds=20,
        acted=True,
        count=1,
    ),
    fault("connection reset before acting", *NOT_ACTED_ONCE, kind="reset", count=1),
    fault("HTTP 503 before acting", *NOT_ACTED_ONCE, kind="status", status=503, count=1),
    fault(
        "HTTP 429, `Retry-After: 0`",
        *(DONE, DONE, DONE, DONE, DONE, WAITS, GOES_ON),
        kind="throttle",
        retry_after=0,
        count=1,
    ),
    fault("acted, every answer lost", *ALWAYS, kind="lost"),
    fault("acted, HTTP 502 every time", *ALWAYS, kind="html", status=502, acted=True),
    fault("HTTP 503 every time", *NEVER_ACTED, kind="status", status=503),
    fault("connection reset every time", *NEVER_ACTED, kind="reset"),
    fault("HTTP 429 every time", *NEVER_ACTED, kind="throttle", retry_after=0),
    fault("HTTP 401 or 403", *REFUSED, kind="status", status=403, body={}),
)
CELLS = [
    pytest.param(row, operation, outcome, id=f"{row.name} - {operation}")
    for row in FAULTS
    for operation, outcome in zip(OPERATIONS, row.outcomes, strict=True)
]
TROUBLE = (IoTDATransportError, IoTDAServerError, IoTDAThrottledError, IoTDAAuthError)


# --- operations -----------------------------------------------------------------------------------


class TaskInstance:
    dag_id, run_id, task_id, map_index, try_number = "dag", "run", "task", -1, 1

    def __init__(self) -> None:
        self.xcoms: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = as_xcom(value)

    def xcom_pull(self, *args: Any, **kwargs: Any) -> Any:
        return None


class World:
    """A platform with one rollout of four devices, and a fault before one of its calls."""

    def __init__(self, emulator: Any, rule: dict[str, Any]) -> None:
        self.emulator = emulator
        self.rule = rule
        self.lets_pass: dict[str, int] = {}
        self.ti = TaskInstance()

    def strike(self, call: str, **more: Any) -> None:
        rule = {**self.rule, **more}
        self.emulator.add_fault(rule.pop("kind"), call=call, **rule)
        self.lets_pass[call] = rule.get("after", 0)

    def is_next(self, call: Any) -> bool:
        """Whether a call is the next one that the fault hits."""
        return any(
            name == name_of(call) and not fault["fired"] and fault["seen"] >= self.lets_pass[name]
            for fault in self.emulator.faults()
            for name in fault["call"]
        )

    def run(self, operator: Any) -> Any:
        return operator.execute({"ti": self.ti})

    def sent(self, call: str) -> int:
        return len(self.emulator.journal(call))

    def answered(self, call: str) -> bool:
        """Whether the last answer of a call was one."""
        entries = self.emulator.journal(call)
        return bool(entries) and not entries[-1]["faults"]

    @contextmanager
    def ends_after_looks(self, looks: int) -> Iterator[None]:
        """All devices succeed once somebody has looked so many times."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.01):
                if self.sent("show_batch_task") >= looks:
                    self.emulator.advance(100_000)
                    return

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def statuses(self) -> dict[str, str]:
        self.emulator.clear_faults()
        with IoTDAHook() as hook:
            return {row.target: str(row.status) for row in hook.iter_subtasks(TASK_ID)}


def name_of(call: Any) -> str:
    """What the emulator calls a call about batch tasks."""
    last = call.path.rsplit("/", 1)[-1]
    if call.method == "GET":
        return "list_batch_tasks" if last == "batchtasks" else "show_batch_task"
    return "create_batch_task" if last == "batchtasks" else f"{last}_batch_task"


def stop_all(world: World) -> str:
    world.strike("stop_batch_task")
    operator = StopBatchTaskOperator(
        task_id="task", batch_task_id=TASK_ID, poll_interval=0.02, retries=0
    )
    try:
        result = world.run(operator)
    except TROUBLE:
        assert set(world.statuses().values()) == {"Processing"}
        return ERROR
    assert (result["outcome"], result["requested"], result["succeeded"]) == ("stopped", 4, 4)
    assert set(world.statuses().values()) == {"Stopped"}
    return DONE if world.answered("stop_batch_task") else READ_BACK


def on_targets(world: World, operator: Any, call: str, done: set[str]) -> str:
    world.strike(call)
    before = world.sent("show_batch_task")
    try:
        world.run(operator)
    except TROUBLE:
        assert world.sent("show_batch_task") == before + 1
        return ERROR
    answered = world.answered(call)
    succeeded = world.ti.xcoms["succeeded_targets"]
    failed = [row["target"] for row in world.ti.xcoms["failed_targets"]]
    assert sorted(succeeded + failed) == WANTED
    # A stop takes a moment to show.
    world.emulator.advance(10)
    reached = sorted(target for target, status in world.statuses().items() if status in done)
    assert reached == succeeded
    if failed:
        assert failed == WANTED
        return NOT_DONE
    return DONE if answered else READ_BACK


def stop_targets(world: World) -> str:
    operator = StopBatchTaskOperator(task_id="task", batch_task_id=TASK_ID, targets=WANTED)
    return on_targets(world, operator, "stop_batch_task", {"Stopped"})


def confirm(world: World) -> str:
    operator = ConfirmBatchTaskOperator(task_id="task", batch_task_id=TASK_ID, targets=WANTED)
    return on_targets(world, operator, "confirm_batch_task", {"Processing"})


def retry(world: World) -> str:
    world.emulator.advance(100_000)
    operator = RetryBatchTaskOperator(task_id="task", batch_task_id=TASK_ID, targets=WANTED)
    outcome = on_targets(world, operator, "retry_batch_task", {"Waitting", "Processing"})
    # A request that the emulator has not answered yet is not in its journal.
    assert world.sent("retry_batch_task") <= 1 or world.rule["kind"] == "throttle"
    return outcome


def create(world: World) -> str:
    world.strike("create_batch_task")
    operator = CreateBatchTaskOperator(
        task_id="task",
        task_name="canary",
        task_type="firmwareUpgrade",
        targets=WANTED,
        document={"package_ids": ["32822e5744a45ede319d2c50"]},
    )
    try:
        result = world.run(operator)
    except TROUBLE:
        result = None
    answered = world.answered("create_batch_task")
    world.emulator.clear_faults()
    with IoTDAHook() as hook:
        made = [task.task_id for task in hook.list_batch_tasks() if "_af" in task.task_name]
    if result is None:
        assert made == []
        return ERROR
    assert made == [result["batch_task_id"]]
    return DONE if answered else READ_BACK


def wait(world: World) -> str:
    world.strike("show_batch_task", after=1)
    sensor = BatchTaskSensor(
        task_id="task", batch_task_id=TASK_ID, poke_interval=0.02, max_outage=0.2
    )
    with world.ends_after_looks(4):
        try:
            result = world.run(sensor)
        except TROUBLE:
            return ERROR
    assert result["status"] == "Success"
    return WAITS


def guard(world: World) -> str:
    """A guard that stops: a fault before the stop, and before each look after the first.

    Its time is over soon where the fault never ends.
    """
    world.strike("stop_batch_task")
    world.strike("show_batch_task", after=1)
    sensor = RolloutGuardSensor(
        task_id="task",
        batch_task_id=TASK_ID,
        rules=[MaxFailures(1)],
        stop_on_breach=True,
        poke_interval=0.02,
        max_outage=0.2,
        timeout=60 if "count" in world.rule else 0.5,
    )
    try:
        result = world.run(sensor)
    except (AirflowSensorTimeout, IoTDAError):
        verdict = (world.ti.xcoms.get("return_value") or {}).get("verdict")
        assert verdict != "completed"
        return ERROR
    assert result["verdict"] == "breached"
    assert "Processing" not in world.statuses().values()
    return GOES_ON


RUN: dict[str, Callable[[World], str]] = {
    "stop all": stop_all,
    "stop targets": stop_targets,
    "create": create,
    "confirm": confirm,
    "retry": retry,
    "wait": wait,
    "guard": guard,
}
#: What the four devices do, by the operation that is tried on them.
DEVICES: dict[str, dict[str, Any]] = {
    "wait": {"success_after": 50_000},
    "guard": {"failure_rate": 0.5, "failure_after": 30, "success_after": 1e9},
    "retry": {"failure_rate": 1},
    "confirm": {"success_after": 1e9},
}


def limit_the_attempts_hit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of attempts that the platform keeps waiting, the first alone ends soon, or the whole call.

    All others have time enough, however busy the machine is.
    """
    real = pipeline._attempt

    async def attempt(transport: Any, call: Any, policy: Any, headers: Any) -> Any:
        if not world.is_next(call):
            return await real(transport, call, policy, headers)
        if world.rule["seconds"] == NO_ANSWER_IN_TIME:
            policy._deadline = time.monotonic() + SOON
            return await real(transport, call, policy, headers)
        with monkeypatch.context() as this_one:
            this_one.setattr(policy, "seconds_for", lambda action: SOON)
            return await real(transport, call, policy, headers)

    monkeypatch.setattr("iotda_provider.transport.retrying._LEAST_SECONDS", SOON / 3)
    monkeypatch.setattr(pipeline, "_attempt", attempt)


@pytest.mark.parametrize(("row", "operation", "outcome"), CELLS)
def test_cell(
    iotda_emulator_factory: Any,
    monkeypatch: pytest.MonkeyPatch,
    row: Fault,
    operation: str,
    outcome: str,
) -> None:
    scenario = {
        "devices": 4,
        "batch_tasks": [{"task_id": TASK_ID, "need_confirm": operation == "confirm"}],
        "success_after": 1e9,
        "switches": {"stop_after": 10},
        **DEVICES.get(operation, {}),
    }
    emulator = iotda_emulator_factory(scenario, speed=0 if operation in ("retry", "wait") else 100)
    connection = emulator.airflow_connection
    connection["extra"] |= {"timeout": 60, "max_attempts": 3}
    monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(connection))
    monkeypatch.setattr("iotda_provider.transport.retrying.random.uniform", lambda low, high: low)
    monkeypatch.setattr("iotda_provider.procedures.target_results._STOP_PAUSES", (0.1, 0.2))
    if operation != "retry":
        emulator.advance(5)
    world = World(emulator, row.rule)
    if row.rule["kind"] == "latency":
        limit_the_attempts_hit(world, monkeypatch)

    assert RUN[operation](world) == outcome


def test_the_document_says_the_same() -> None:
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in DOCUMENT.read_text().splitlines()
        if line.startswith("|")
    ]
    table = {row[0]: tuple(row[1:]) for row in rows if len(row) == len(OPERATIONS) + 1}

    assert table.pop("fault") == OPERATIONS
    table = {name: cells for name, cells in table.items() if not re.fullmatch(r":?-+:?", name)}
    assert table == {row.name: row.outcomes for row in FAULTS}
