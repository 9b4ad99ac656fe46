"""Kill -9 of the task's process before, during and after each of its calls, and then a retry.

Whatever the first try had done, the second one ends as if nothing had happened: nothing is lost,
and nothing is done twice.
"""

from __future__ import annotations

import json
import multiprocessing
import runpy
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from iotda_provider.hooks.iotda import IoTDAHook

pytestmark = pytest.mark.slow

TASK_ID = "0123456789abcdef01234567"
ATTEMPT = Path(__file__).with_name("attempt.py")
STOP = ("iotda_provider.operators.batch_task.stop", "StopBatchTaskOperator")
CREATE = ("iotda_provider.operators.batch_task.create", "CreateBatchTaskOperator")
CONFIRM = ("iotda_provider.operators.batch_task.actions", "ConfirmBatchTaskOperator")
RETRY = ("iotda_provider.operators.batch_task.actions", "RetryBatchTaskOperator")
#: More calls than any of the operators makes here.
MOST_CALLS = 12

# Airflow is imported once, and each try is forked from there.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(
    ["iotda_provider.hooks.iotda", *(module for module, _ in (STOP, CREATE, CONFIRM))]
)


class Task:
    """One task instance, try by try.

    :param has_store: whether Airflow has a task state store, as since 3.3
    """

    def __init__(self, emulator: Any, folder: Path, has_store: bool) -> None:
        self.emulator = emulator
        self.out = folder / "out.json"
        self.store = str(folder / "store.json")
        self.has_store = has_store
        self.tries = 0

    def attempt(
        self, operator: tuple[str, str], parameters: dict[str, Any], kill: Any = None
    ) -> Any:
        """One try: its outcome, or None where it was killed."""
        self.tries += 1
        self.out.unlink(missing_ok=True)
        spec = {
            "operator": operator,
            "parameters": parameters,
            "connection": self.emulator.airflow_connection,
            "try_number": self.tries,
            "store": self.store,
            "has_store": self.has_store,
            "out": str(self.out),
            "kill": kill,
        }
        process = _processes.Process(target=runpy.run_path, args=(str(ATTEMPT), {"SPEC": spec}))
        process.start()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            return None
        assert process.exitcode == 0
        return json.loads(self.out.read_text())


Start = Callable[..., Task]


@pytest.fixture
def start(iotda_emulator_factory: Any, tmp_path: Path, monkeypatch: Any) -> Start:
    """A new platform and a new task instance."""
    count = 0

    def start(store: bool, speed: float = 100, **scenario: Any) -> Task:
        nonlocal count
        count += 1
        emulator = iotda_emulator_factory({"devices": 4, **scenario}, speed=speed)
        monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(emulator.airflow_connection))
        folder = tmp_path / str(count)
        folder.mkdir()
        return Task(emulator, folder, store)

    return start


def each_kill(
    begin: Callable[[], Task], when: str, operator: tuple[str, str], parameters: dict[str, Any]
) -> Any:
    """Kill the first try at each of its calls in turn, each time on a new platform.

    Yields the task instance with the outcome of its second try.
    """
    for number in range(1, MOST_CALLS + 1):
        task = begin()
        if when == "during":
            task.emulator.add_fault("latency", call="*", seconds=0.4, acted=True)
        first = task.attempt(operator, parameters, [number, when])
        task.emulator.clear_faults()
        if first is not None:
            assert number > 1
            return
        yield task, task.attempt(operator, parameters)
    raise AssertionError("it makes more calls than this test looks at")


during_each_call = pytest.mark.parametrize("when", ["before", "during", "after"])
with_and_without_a_store = pytest.mark.parametrize("store", [True, False], ids=["3.3", "before"])


@during_each_call
def test_a_creation_leaves_one_task(start: Start, when: str) -> None:
    parameters = {
        "task_name": "canary",
        "task_type": "firmwareUpgrade",
        "targets": ["device-00001"],
        "document": {"package_ids": ["32822e5744a45ede319d2c50"]},
    }
    for _, outcome in each_kill(lambda: start(store=False), when, CREATE, parameters):
        with IoTDAHook() as hook:
            (made,) = [task for task in hook.list_batch_tasks() if "_af" in task.task_name]
        assert outcome["xcoms"]["batch_task_id"] == made.task_id
        assert outcome["result"]["surplus"] == []


@with_and_without_a_store
@during_each_call
def test_a_stop_of_a_whole_task(start: Start, when: str, store: bool) -> None:
    def begin() -> Task:
        return start(
            store=store,
            batch_tasks=[{"task_id": TASK_ID}],
            success_after=1e9,
            switches={"stop_after": 30},
        )

    parameters = {"batch_task_id": TASK_ID, "poll_interval": 0.05, "if_ended": "fail"}
    for task, outcome in each_kill(begin, when, STOP, parameters):
        result = outcome["result"]
        assert (result["outcome"], result["status"]) == ("stopped", "Stopped")
        assert (result["requested"], result["succeeded"], result["failed"]) == (4, 4, 0)
        assert stops_in_effect(task) == 1


def stops_in_effect(task: Task) -> int:
    end = time.monotonic() + 10
    # A call is in the journal once it is answered, even to a caller that was killed meanwhile.
    while not (calls := task.emulator.journal("stop_batch_task")) and time.monotonic() < end:
        time.sleep(0.02)
    return sum(entry["status"] == 200 for entry in calls)


@with_and_without_a_store
@during_each_call
def test_a_stop_of_some_targets(start: Start, when: str, store: bool) -> None:
    def begin() -> Task:
        return start(store=store, batch_tasks=[{"task_id": TASK_ID}], success_after=1e9)

    wanted = ["device-00001", "device-00003"]
    parameters = {"batch_task_id": TASK_ID, "targets": wanted}
    for task, outcome in each_kill(begin, when, STOP, parameters):
        assert outcome["xcoms"]["succeeded_targets"] == wanted
        assert outcome["xcoms"]["failed_targets"] == []
        assert outcome["result"]["requested"] == 2
        task.emulator.advance(60)  # a stop that was accepted takes a moment
        assert statuses()["Stopped"] == set(wanted)


@during_each_call
def test_a_confirmation_of_some_targets(start: Start, when: str) -> None:
    def begin() -> Task:
        return start(
            store=False,
            batch_tasks=[{"task_id": TASK_ID, "need_confirm": True}],
            success_after=1e9,
        )

    wanted = ["device-00001", "device-00003"]
    parameters = {"batch_task_id": TASK_ID, "targets": wanted}
    for _, outcome in each_kill(begin, when, CONFIRM, parameters):
        assert outcome["xcoms"]["succeeded_targets"] == wanted
        assert statuses()["Waitting"] == {"device-00000", "device-00002"}


@during_each_call
def test_a_retry_of_some_targets(start: Start, when: str) -> None:
    def begin() -> Task:
        task = start(
            store=False,
            batch_tasks=[{"task_id": TASK_ID}],
            failure_rate=1,
            speed=0,  # so that what is retried has not failed again
        )
        task.emulator.advance(100_000)
        assert len(statuses()["Fail"]) == 4
        return task

    wanted = ["device-00001", "device-00003"]
    parameters = {"batch_task_id": TASK_ID, "targets": wanted}
    for _, outcome in each_kill(begin, when, RETRY, parameters):
        assert outcome["xcoms"]["succeeded_targets"] == wanted
        assert statuses()["Fail"] == {"device-00000", "device-00002"}


def statuses() -> dict[str, set[str]]:
    """The targets by where they stand."""
    found: dict[str, set[str]] = {}
    with IoTDAHook() as hook:
        for row in hook.iter_subtasks(TASK_ID):
            found.setdefault(str(row.status), set()).add(row.target)
    return found
