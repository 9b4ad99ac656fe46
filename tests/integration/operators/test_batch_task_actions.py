"""Confirming, retrying, deleting and listing batch tasks over real HTTP against the emulator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException

from iotda_provider.emulator import Emulator
from iotda_provider.exceptions import IoTDAConfigError, IoTDANotFoundError, TargetFailuresError
from iotda_provider.operators.batch_task.actions import (
    ConfirmBatchTaskOperator,
    DeleteBatchTaskOperator,
    ListBatchTasksOperator,
    RetryBatchTaskOperator,
)

HELD, FAILING = "aaaaaaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbbbbbb"


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """Two tasks: one whose 250 devices wait for confirmation, one whose 10 have all failed."""
    scenario = {
        "devices": 260,
        "failure_rate": 1,
        "failure_after": 30,
        "batch_tasks": [
            {"task_id": HELD, "task_name": "held", "targets": 250, "need_confirm": True},
            {
                "task_id": FAILING,
                "task_name": "failing",
                "targets": [f"device-{n:05}" for n in range(250, 260)],
            },
        ],
    }
    with Emulator(scenario, speed=0) as emulator:
        emulator.advance(60)
        monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(emulator.airflow_connection))
        yield emulator


def execute(operator: Any) -> tuple[Any, dict[str, Any]]:
    """Execute an operator outside of Airflow; its return value, and the XComs that it pushed."""
    xcoms: dict[str, Any] = {}
    ti = SimpleNamespace(
        map_index=-1, task_id="t", xcom_push=lambda key, value: xcoms.update({key: value})
    )
    return operator.execute({"ti": ti}), xcoms


def asked(emulator: Emulator, verb: str) -> list[Any]:
    """The calls whose path ended with a verb."""
    return [entry for entry in emulator.journal() if entry["path"].endswith(f"/{verb}")]


def confirm(**parameters: Any) -> ConfirmBatchTaskOperator:
    return ConfirmBatchTaskOperator(task_id="confirm", batch_task_id=HELD, **parameters)


def test_confirming_250_targets_takes_three_calls_and_gives_250_results(emulator: Emulator) -> None:
    targets = [f"device-{n:05}" for n in range(250)]
    result, xcoms = execute(confirm(targets=targets))
    assert (result["outcome"], result["requested"], result["succeeded"]) == ("confirmed", 250, 250)
    assert xcoms["succeeded_targets"] == targets
    assert len(asked(emulator, "confirm")) == 3


@pytest.mark.parametrize("nothing", [[], "[]"])
def test_confirming_an_empty_list_never_becomes_confirming_all(
    emulator: Emulator, nothing: Any
) -> None:
    result, _ = execute(confirm(targets=nothing))
    assert result["requested"] == 0
    assert not emulator.journal()


def test_a_rendered_none_never_becomes_confirming_all(emulator: Emulator) -> None:
    operator = confirm(targets="{{ nothing }}")
    operator.targets = "None"
    with pytest.raises(IoTDAConfigError, match="targets was rendered to None"):
        execute(operator)
    assert not emulator.journal()


def test_confirming_all_is_said_by_leaving_targets_out(emulator: Emulator) -> None:
    result, _ = execute(confirm())
    assert (result["requested"], result["succeeded"], result["failed"]) == (250, 250, 0)
    assert len(asked(emulator, "confirm")) == 1


def test_an_unknown_target_can_fail_the_confirmation(emulator: Emulator) -> None:
    operator = confirm(targets=["device-00001", "stranger"], on_target_failure="fail")
    with pytest.raises(TargetFailuresError, match=r"1 of 2 target.*not confirmed.*014219"):
        execute(operator)


def test_retrying_all_starts_every_failed_target_again_once(emulator: Emulator) -> None:
    result, _ = execute(RetryBatchTaskOperator(task_id="retry", batch_task_id=FAILING))
    assert (result["outcome"], result["requested"], result["succeeded"]) == ("retried", 10, 10)
    assert result["progress"]["fail"] == 0
    assert len(asked(emulator, "retry")) == 1


def test_a_running_task_is_not_deleted_and_the_error_says_why(emulator: Emulator) -> None:
    with pytest.raises(IoTDAConfigError, match="only a task that has ended can be deleted"):
        execute(DeleteBatchTaskOperator(task_id="delete", batch_task_id=HELD))


def test_deleting_twice_is_harmless_unless_the_dag_says_otherwise(emulator: Emulator) -> None:
    def delete(**parameters: Any) -> Any:
        return execute(
            DeleteBatchTaskOperator(task_id="delete", batch_task_id=FAILING, **parameters)
        )[0]

    assert delete() == {"batch_task_id": FAILING, "outcome": "deleted"}
    assert delete()["outcome"] == "already_gone"
    with pytest.raises(AirflowSkipException):
        delete(if_missing="skip")
    with pytest.raises(IoTDANotFoundError):
        delete(if_missing="fail")


@pytest.mark.parametrize("body", [{}, {"error_code": "APIG.0101", "error_msg": "no such API"}])
def test_a_404_that_is_not_of_the_platform_deletes_nothing(emulator: Emulator, body: Any) -> None:
    emulator.add_fault("status", status=404, body=body, call="delete_batch_task")
    with pytest.raises(IoTDANotFoundError):
        execute(DeleteBatchTaskOperator(task_id="delete", batch_task_id=FAILING))


def test_listing_is_bounded_and_says_so(emulator: Emulator, tmp_path: Any) -> None:
    path = tmp_path / "tasks.jsonl"
    rows, xcoms = execute(
        ListBatchTasksOperator(
            task_id="list", task_type="firmwareUpgrade", max_tasks=1, report_path=str(path)
        )
    )
    assert [row["batch_task_id"] for row in rows] == [FAILING]
    assert xcoms["truncated"] is True
    written = [json.loads(line)["batch_task_id"] for line in path.read_text().splitlines()]
    assert written == [FAILING, HELD]


def test_listing_without_a_type_asks_for_each_that_upgrades(emulator: Emulator) -> None:
    rows, _ = execute(ListBatchTasksOperator(task_id="list"))
    assert {row["batch_task_id"] for row in rows} == {FAILING, HELD}
    asked = {entry["query"]["task_type"] for entry in emulator.journal("list_batch_tasks")}
    assert asked == {"firmwareUpgrade", "softwareUpgrade", "moduleUpgrade"}


def test_listing_takes_a_status(emulator: Emulator) -> None:
    rows, xcoms = execute(
        ListBatchTasksOperator(task_id="list", task_type="firmwareUpgrade", status="Fail")
    )
    assert [row["batch_task_id"] for row in rows] == [FAILING]
    assert xcoms["truncated"] is False
