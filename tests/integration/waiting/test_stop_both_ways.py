"""A stop ends the same way whether it is waited for in the worker or in the triggerer."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar

import pytest
from airflow.providers.common.compat.notifier import BaseNotifier
from tests.airflow_values import TIMED_OUT
from tests.integration.waiting.conftest import TaskInstance

from iotda_provider.exceptions import (
    BatchTaskTimeoutError,
    IoTDANotFoundError,
    IoTDATransportError,
    TargetFailuresError,
)
from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.operators.batch_task import StopBatchTaskOperator
from iotda_provider.rollout_guard.memory_store import TriggererMemoryStore
from iotda_provider.transport.rate_limit import RateLimit

TASK_ID = "0123456789abcdef01234567"
#: Stopped when it was looked at a few times.
SOON: dict[str, Any] = {"stop_after": 50}
#: Stopping for as long as a test looks.
NEVER: dict[str, Any] = {"stop_after": 1e6, "stopping_timeout": 1e6}


def stop(**parameters: Any) -> StopBatchTaskOperator:
    return StopBatchTaskOperator(**{"batch_task_id": TASK_ID, "poll_interval": 0.01, **parameters})


def rollout(devices: int = 5, **switches: Any) -> pytest.MarkDecorator:
    """A mark: a rollout that takes for ever, unless it is stopped."""
    scenario = {
        "devices": devices,
        "batch_tasks": [{"task_id": TASK_ID}],
        "success_after": 1e9,
        "switches": switches,
    }
    return pytest.mark.iotda_emulator(scenario=scenario)


def stops_sent(emulator: Any) -> int:
    return len(emulator.journal("stop_batch_task"))


@rollout(**SOON)
def test_a_whole_task(run: Any, iotda_emulator: Any) -> None:
    ended = run(stop)

    assert ended.error is None
    assert {name: ended.result[name] for name in ("outcome", "status", "requested")} == {
        "outcome": "stopped",
        "status": "Stopped",
        "requested": 5,
    }
    assert (ended.result["succeeded"], ended.result["failed"]) == (5, 0)
    assert ended.xcoms["failed_targets"] == []
    assert ended.deferred == (run.way == "triggerer")
    assert stops_sent(iotda_emulator) == 1


@rollout(stop_after=400)
def test_people_see_how_it_stands_and_how_it_has_ended(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[Any, str, Any]] = []
    monkeypatch.setattr("iotda_provider.triggers.live_in_triggerer._routine", RateLimit(1000.0))
    monkeypatch.setattr(
        TriggererMemoryStore,
        "_set_xcom",
        lambda state, key, value: written.append((state._owner["task_id"], key, value)),
    )
    push = TaskInstance.xcom_push

    def note(ti: TaskInstance, key: str, value: Any) -> None:
        push(ti, key, value)
        written.append((ti.task_id, key, value))

    monkeypatch.setattr(TaskInstance, "xcom_push", note)

    run(stop)

    *under_way, last = [value for task, key, value in written if (task, key) == ("task", "live")]
    assert len(under_way) >= (2 if run.way == "triggerer" else 1)
    for record in under_way:
        assert record["sentence"].startswith("STOPPING: ")
        assert record["stop"]["accepted_at"]
        assert (record["verdict"], record["due"] > record["looked_at"]) == (None, True)
    assert last["sentence"].startswith("STOPPED: ")
    assert (last["verdict"], last["status"], last["due"]) == ("stopped", ["Stopped"], None)
    assert last["progress"]["stopped"] == 5


@rollout(all_answer="results", **SOON)
def test_a_whole_task_whose_answer_has_rows(run: Any) -> None:
    ended = run(stop)

    assert (ended.result["outcome"], ended.result["succeeded"]) == ("stopped", 5)
    assert len(ended.xcoms["succeeded_targets"]) == 5


@rollout(**SOON)
def test_some_targets_of_a_task_that_somebody_else_stops(run: Any, iotda_emulator: Any) -> None:
    type(run)("worker")(stop, wait_for_completion=False)

    ended = run(stop, targets=["device-00001", "device-00002"])

    assert (ended.result["outcome"], ended.result["status"]) == ("stopped", "Stopped")
    assert (ended.result["requested"], ended.result["succeeded"]) == (2, 2)
    assert ended.xcoms["succeeded_targets"] == ["device-00001", "device-00002"]
    assert stops_sent(iotda_emulator) == 1


@rollout(**SOON)
def test_targets_are_not_waited_for_by_anybody(run: Any) -> None:
    ended = run(stop, targets=["device-00001", "elsewhere"])

    assert (ended.result["outcome"], ended.result["succeeded"]) == ("stopped", 1)
    assert [row["target"] for row in ended.xcoms["failed_targets"]] == ["elsewhere"]
    assert ended.deferred == 0


@rollout(**NEVER)
def test_its_timeout(run: Any) -> None:
    ended = run(stop, timeout=0.3)

    assert isinstance(ended.error, BatchTaskTimeoutError)
    assert f"Batch task {TASK_ID} is not" in str(ended.error)
    assert ended.xcoms["return_value"]["outcome"] == "stopping"
    assert ended.xcoms["return_value"]["status"] == "Stopping"


@rollout(**NEVER)
def test_its_execution_timeout(run: Any) -> None:
    ended = run(stop, execution_timeout=timedelta(seconds=0.5), poll_interval=30)

    assert ended.said[0] == "AirflowTaskTimeout"


@pytest.fixture
def no_triggerer(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No triggerer comes to a deferred task, so that Airflow's own limit resumes it."""

    def resumption(operator: Any, method: str, kwargs: Any, context: Any) -> Any:
        return lambda: operator.resume_execution("__fail__", TIMED_OUT, context)

    monkeypatch.setattr(run, "resumption", resumption)


@rollout(**NEVER)
@pytest.mark.usefixtures("no_triggerer")
def test_its_timeout_without_a_triggerer(run: Any) -> None:
    ended = run(stop, timeout=0.3)

    assert isinstance(ended.error, BatchTaskTimeoutError)
    assert ended.xcoms["return_value"]["outcome"] == "stopping"
    assert ended.xcoms["return_value"]["status"] == "Stopping"
    assert ended.xcoms["return_value"]["requested"] == 5


@rollout(**NEVER)
@pytest.mark.usefixtures("no_triggerer")
def test_its_execution_timeout_without_a_triggerer(run: Any) -> None:
    ended = run(stop, execution_timeout=timedelta(seconds=0.5), poll_interval=30)

    assert ended.said[0] == "AirflowTaskTimeout"


@rollout(all_answer="results", **SOON)
@pytest.mark.usefixtures("no_triggerer")
def test_a_stop_that_has_come_true_without_a_triggerer(run: Any) -> None:
    ended = run(stop)

    assert ended.error is None
    assert (ended.result["outcome"], ended.result["succeeded"]) == ("stopped", 5)


@rollout(**SOON)
def test_an_outage_is_outlived(run: Any, iotda_emulator: Any, lines: Any) -> None:
    iotda_emulator.add_fault("reset", call="show_batch_task", after=1, count=5)

    ended = run(stop)

    assert (ended.result["outcome"], ended.result["succeeded"]) == ("stopped", 5)
    assert "IoTDA answers again" in lines()
    assert stops_sent(iotda_emulator) == 1


@rollout(**NEVER)
def test_one_that_lasts_longer_than_max_outage_is_an_error(run: Any, iotda_emulator: Any) -> None:
    iotda_emulator.add_fault("reset", call="show_batch_task", after=1)

    ended = run(stop, max_outage=0.2)

    assert isinstance(ended.error, IoTDATransportError)
    assert "longer than max_outage" in str(ended.error)
    assert ended.xcoms["return_value"]["outcome"] == "stopping"


@rollout(**NEVER)
def test_a_task_that_goes_away_is_an_error(run: Any, iotda_emulator: Any) -> None:
    gone = {"error_code": "IOTDA.014217", "error_msg": "gone"}
    iotda_emulator.add_fault("status", status=404, body=gone, call="show_batch_task", after=2)

    ended = run(stop)

    assert isinstance(ended.error, IoTDANotFoundError)
    assert ended.xcoms["return_value"]["requested"] == 5


class KilledError(BaseException):
    """The end of a worker that was killed."""


@pytest.fixture(params=[True, False], ids=["3.3", "before"])
def has_store(request: Any, run: Any) -> bool:
    """Whether Airflow has a task state store, as since 3.3."""
    if not request.param:
        run.store = None
    return bool(request.param)


def killed_after_its_stop(run: Any, patch: Any) -> Any:
    """A try that has sent its stop and is killed before it can tell of it."""

    def die(*_: Any, **__: Any) -> None:
        raise KilledError

    with patch.context() as during:
        during.setattr(StopBatchTaskOperator, "_conclude", die)
        ended = run(stop, wait_for_completion=False)
    assert isinstance(ended.error, KilledError)
    return ended


@rollout(**SOON)
def test_a_retry_knows_its_own_stop(
    run: Any, iotda_emulator: Any, has_store: bool, monkeypatch: Any, variables: Any
) -> None:
    """The worker was killed after the stop; the task has come to rest before the next try."""
    killed_after_its_stop(run, monkeypatch)
    iotda_emulator.advance(100)

    ended = run(stop, try_number=2, if_ended="fail")

    assert ended.error is None
    assert (ended.result["outcome"], ended.result["succeeded"]) == ("stopped", 5)
    assert ended.result["requested"] == 5
    assert stops_sent(iotda_emulator) == 1
    assert not variables


@rollout(**SOON)
def test_a_retry_does_not_claim_somebody_elses_stop(
    run: Any, iotda_emulator: Any, has_store: bool
) -> None:
    """The first try has failed before it could send anything."""
    fault = iotda_emulator.add_fault("status", call="show_batch_task", status=401, body={})
    assert run(stop).error is not None
    iotda_emulator.remove_fault(fault)
    with IoTDAHook() as console:
        console.stop_batch_task(TASK_ID)
    iotda_emulator.advance(100)

    ended = run(stop, try_number=2)

    assert ended.result["outcome"] == "already_ended"


@rollout(**SOON)
def test_a_stop_that_has_ended_for_good_leaves_no_variable(
    run: Any, iotda_emulator: Any, has_store: bool, variables: Any
) -> None:
    assert run(stop).result["outcome"] == "stopped"
    assert variables.calls.count("set") == (not has_store)
    assert not variables

    cleared = run(stop, try_number=2)
    assert cleared.result["outcome"] == ("stopped" if has_store else "already_ended")


@rollout(**SOON)
def test_a_stop_does_not_wait_for_its_note(run: Any, iotda_emulator: Any, variables: Any) -> None:
    run.store, variables.is_down = None, True

    ended = run(stop, wait_for_completion=False)

    assert (ended.error, ended.result["outcome"]) == (None, "stopping")
    assert stops_sent(iotda_emulator) == 1


@rollout(**SOON)
def test_somebody_elses_stop_is_not_its_own(run: Any, iotda_emulator: Any) -> None:
    type(run)("worker")(stop, wait_for_completion=False)
    iotda_emulator.advance(100)

    ended = run(stop)

    assert ended.result["outcome"] == "already_ended"


@rollout(all_answer="results", **SOON)
def test_failed_targets_fail_the_task_after_the_wait(run: Any, iotda_emulator: Any) -> None:
    rows = [{"target": f"device-0000{n}", "status": "success"} for n in range(1, 5)]
    rows.append({"target": "device-00005", "status": "failure", "error_code": "IOTDA.000001"})
    iotda_emulator.add_fault(
        "status", status=200, body={"targets": rows}, call="stop_batch_task", acted=True
    )

    ended = run(stop, on_target_failure="fail")

    assert isinstance(ended.error, TargetFailuresError)
    assert "1 of 5 target(s)" in str(ended.error)
    assert "device-00005: IOTDA.000001" in str(ended.error)
    assert ended.xcoms["return_value"]["status"] == "Stopped"


REFUSED: dict[str, Any] = {
    "status": 400,
    "body": {"error_code": "IOTDA.014223", "error_msg": "The task can't be stopped."},
    "call": "stop_batch_task",
    "count": 1,
}


@pytest.mark.parametrize("targets", [None, ["device-00001", "device-00002"]])
@rollout(initializing=1000, **SOON)
def test_a_task_that_cannot_be_stopped_yet_is_asked_again(
    run: Any, iotda_emulator: Any, after_looks: Any, targets: Any
) -> None:
    iotda_emulator.add_fault("status", **REFUSED)
    after_looks(4, lambda: iotda_emulator.advance(1000))

    ended = run(stop, targets=targets)

    assert (ended.error, ended.result["outcome"]) == (None, "stopped")
    assert (ended.result["requested"], ended.result["succeeded"]) == ((2, 2) if targets else (5, 5))
    assert ended.deferred >= (run.way == "triggerer")
    assert stops_sent(iotda_emulator) == 2


@rollout(initializing=1e6)
def test_a_task_that_can_never_be_stopped_is_loud_once_the_time_is_over(
    run: Any, iotda_emulator: Any
) -> None:
    iotda_emulator.add_fault("status", **{**REFUSED, "count": 5})

    ended = run(stop, timeout=0.4)

    assert isinstance(ended.error, BatchTaskTimeoutError)
    assert "could NOT be stopped" in str(ended.error)
    assert ended.xcoms["return_value"]["succeeded"] == 0


@rollout()
def test_a_refusal_of_a_task_that_has_begun_is_an_error_at_once(
    run: Any, iotda_emulator: Any
) -> None:
    iotda_emulator.advance(60)
    iotda_emulator.add_fault("status", **REFUSED)

    ended = run(stop)

    assert "can't be stopped" in str(ended.error)
    assert (ended.deferred, stops_sent(iotda_emulator)) == (0, 1)


class Chat(BaseNotifier):
    """Keeps what it says."""

    template_fields = ("text",)
    said: ClassVar[list[str]] = []

    def __init__(self, text: str = "{{ message }}", fails: bool = False) -> None:
        super().__init__()
        self.text, self.fails = text, fails

    def notify(self, context: Any) -> None:
        """Say it."""
        self.said.append(self.text)
        if self.fails:
            raise RuntimeError("down")


@rollout(**SOON)
def test_people_are_told_of_the_stop_once(run: Any, iotda_emulator: Any) -> None:
    Chat.said.clear()

    ended = run(stop, notifiers=[Chat(fails=True), Chat("{{ event.kind }} {{ try_number }}")])

    assert ended.error is None
    first, second = Chat.said
    assert first.startswith("STOPPED: 5 of 5 devices were stopped. Batch task 0123")
    assert second == "stopped 1"


@rollout()
def test_people_are_told_once_that_a_stop_failed(run: Any, iotda_emulator: Any) -> None:
    iotda_emulator.add_fault("status", call="stop_batch_task", status=403)
    Chat.said.clear()

    ended = run(stop, notifiers=[Chat()])

    assert ended.error is not None
    (said,) = Chat.said
    assert said.startswith(f"STOP FAILED: Batch task {TASK_ID} was not stopped as asked. ")
