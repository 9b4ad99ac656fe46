"""A sensor ends the same way whether it waits in its worker or in the triggerer."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from iotda_provider.exceptions import (
    BatchTaskFailedError,
    IoTDAAuthError,
    IoTDANotFoundError,
    IoTDATransportError,
)
from iotda_provider.sensors.batch_task import BatchTaskSensor

TASK_ID = "0123456789abcdef01234567"
TIMEOUT = "AirflowSensorTimeout"


def sensor(**parameters: Any) -> BatchTaskSensor:
    return BatchTaskSensor(**{"batch_task_id": TASK_ID, "poke_interval": 0.01, **parameters})


def rollout(*, looks: float = 8, **scenario: Any) -> pytest.MarkDecorator:
    """A mark: three devices, whose upgrade takes until they were looked at so often."""
    scenario = {
        "devices": 3,
        "batch_tasks": [{"task_id": TASK_ID}],
        "success_after": looks * 10,
        "failure_after": looks * 10,
        **scenario,
    }
    return pytest.mark.iotda_emulator(scenario=scenario)


@rollout(looks=1e4)
def test_the_final_state_is_returned(run: Any, iotda_emulator: Any, after_looks: Any) -> None:
    after_looks(3, lambda: iotda_emulator.advance(1e6))

    ended = run(sensor)

    assert ended.error is None
    assert ended.result["status"] == "Success"
    assert ended.result["progress"]["success"] == 3
    assert ended.deferred == (run.way == "triggerer")


@rollout(looks=0)
def test_what_has_happened_already_needs_no_triggerer(run: Any) -> None:
    run(sensor, target_statuses=["Success"])
    ended = run(sensor, target_statuses=["Success"])

    assert ended.result["status"] == "Success"
    assert ended.deferred == 0


@rollout(failure_rate=1)
@pytest.mark.parametrize("soft_fail", [False, True])
def test_a_failed_rollout_is_an_error_that_carries_it(run: Any, soft_fail: bool) -> None:
    ended = run(sensor, soft_fail=soft_fail)

    in_worker = type(run)("worker")(sensor, soft_fail=soft_fail)
    assert ended.said == in_worker.said
    error = ended.error if not soft_fail else ended.error.__cause__ or ended.error
    assert isinstance(error, BatchTaskFailedError)
    assert f"Batch task {TASK_ID} is Fail: 0 succeeded, 3 failed of 3." in str(error)
    assert error.task is not None
    assert error.task.progress.fail == 3


@rollout()
def test_a_task_that_ends_otherwise_is_an_error(run: Any) -> None:
    ended = run(sensor, target_statuses=["Stopped"])

    assert isinstance(ended.error, BatchTaskFailedError)
    assert "ended as Success and will not become Stopped" in str(ended.error)


@rollout(looks=1e6)
@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({}, "AirflowSensorTimeout"),
        ({"soft_fail": True}, "AirflowSkipException"),
    ],
    ids=["plain", "soft_fail"],
)
def test_its_timeout(run: Any, parameters: dict[str, Any], error: str) -> None:
    ended = run(sensor, timeout=0.3, **parameters)

    assert ended.said[0] == error
    assert ended.deferred == (run.way == "triggerer")


@rollout(looks=1e6)
@pytest.mark.parametrize("soft_fail", [False, True])
def test_its_execution_timeout(run: Any, soft_fail: bool) -> None:
    """While a sensor sleeps, which it nearly always does, soft_fail doesn't skip this in a worker.

    A BaseException, so that nothing on the way takes it for a failure of its own.
    """
    ended = run(
        sensor, execution_timeout=timedelta(seconds=0.5), poke_interval=30, soft_fail=soft_fail
    )

    assert ended.said[0] == "AirflowTaskTimeout"


@rollout(looks=1e6)
def test_what_is_no_error_of_the_platforms(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from iotda_provider.hooks.iotda import IoTDAHook
    from iotda_provider.hooks.iotda_async import IoTDAAsyncHook

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a bug")

    looks = IoTDAHook.get_batch_task, IoTDAAsyncHook.get_batch_task
    left = iter([looks[0]])  # the first look of both
    monkeypatch.setattr(IoTDAHook, "get_batch_task", lambda *given: next(left, broken)(*given))
    monkeypatch.setattr(IoTDAAsyncHook, "get_batch_task", broken)

    if run.way == "worker":  # a trigger that breaks is the triggerer's to tell
        assert run(sensor).said == ("RuntimeError", "a bug")


@pytest.mark.iotda_emulator(scenario={"devices": 1})
def test_an_unknown_task_is_an_error_at_once(run: Any) -> None:
    ended = run(sensor)

    assert isinstance(ended.error, IoTDANotFoundError)
    assert ended.error.status_code == 404
    assert ended.deferred == 0


@rollout(looks=1e6)
def test_a_task_that_goes_away_is_an_error_with_its_facts(run: Any, iotda_emulator: Any) -> None:
    body = {"error_code": "IOTDA.014217", "error_msg": "gone"}
    iotda_emulator.add_fault("status", status=404, body=body, call="show_batch_task", after=2)

    ended = run(sensor)

    assert isinstance(ended.error, IoTDANotFoundError)
    assert (ended.error.status_code, ended.error.error_code) == (404, "IOTDA.014217")
    assert ended.said[1].startswith(f"Could not read batch task {TASK_ID}: HTTP 404")


@rollout(looks=1e6)
def test_a_key_that_is_revoked_is_an_error_at_once(run: Any, iotda_emulator: Any) -> None:
    iotda_emulator.add_fault("status", status=401, body={}, call="show_batch_task", after=2)

    ended = run(sensor)

    assert isinstance(ended.error, IoTDAAuthError)
    assert ended.error.status_code == 401


@rollout(looks=1e4)
@pytest.mark.parametrize("kind", ["reset", "html", "malformed", "truncate", "lost"])
def test_an_outage_is_outlived(
    run: Any, iotda_emulator: Any, after_looks: Any, lines: Any, kind: str
) -> None:
    iotda_emulator.add_fault(kind, call="show_batch_task", after=1, count=9)
    after_looks(11, lambda: iotda_emulator.advance(1e7))

    ended = run(sensor)

    assert ended.result["status"] == "Success"
    assert "IoTDA answers again" in lines() or kind == "html"


@rollout(looks=1e6)
def test_one_that_lasts_longer_than_max_outage_is_an_error(
    run: Any, iotda_emulator: Any, monkeypatch: pytest.MonkeyPatch, lines: Any
) -> None:
    iotda_emulator.add_fault("reset", call="show_batch_task", after=1)

    ended = run(sensor, max_outage=0.2)

    assert isinstance(ended.error, IoTDATransportError)
    assert "longer than max_outage (0 s)" in str(ended.error)
    # Said once a minute, and this took less.
    assert lines().count("Waiting on") == 1


@rollout(looks=1e6)
def test_a_bad_event_is_not_believed(run: Any) -> None:
    made = sensor(task_id="task", deferrable=True)
    good = {"status": "over", "batch_task_ids": [TASK_ID], "task": {"batch_task_id": TASK_ID}}
    for event in (
        None,
        {},
        {"status": "over"},
        good,
        {**good, "batch_task_ids": ["other"]},
        {**good, "status": "fine"},
        {**good, "task": {"batch_task_id": TASK_ID, "status": "Processing", "progress": {}}},
        {"status": "error", "batch_task_ids": [TASK_ID], "error": "oops"},
    ):
        with pytest.raises(Exception, match=r"makes no sense|not over"):
            made.resume_execution("execute_complete", {"event": event}, {})
