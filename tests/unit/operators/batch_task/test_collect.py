"""Which devices failed and why: bounded in XCom, whole in a file."""

from __future__ import annotations

import json
from typing import Any

import pytest

from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.operators.batch_task import CollectFailedSubtasksOperator

CODES = {"IOTDA.014016": "offline", "IOTDA.005010": "installation failed", "X": "odd"}


def failed(*codes: str, start: int = 0) -> dict[str, Any]:
    """A page of failed subtasks."""
    rows = [
        {
            "target": f"device-{number}",
            "status": "Fail",
            "error": {"error_code": code, "error_msg": CODES[code]},
        }
        for number, code in enumerate(codes, start)
    ]
    return {"task_details": rows, "page": {"count": len(rows)}}


@pytest.fixture
def collect(iotda, run) -> Any:
    """Runs the operator over a prepared page of failures; its XComs."""

    def execute(page: dict[str, Any], **parameters: Any) -> dict[str, Any]:
        task = iotda.task("Stopped", fail=len(page["task_details"]))
        iotda.answers("GET", f"/{iotda.task_id}", {"batchtask": task, **page})
        given = {"batch_task_id": iotda.task_id, **parameters}
        return run(CollectFailedSubtasksOperator(task_id="collect", **given))

    return execute


def test_rows_say_who_failed_why_and_of_which_class(collect):
    xcoms = collect(failed("IOTDA.014016", "IOTDA.005010", "X"))

    assert xcoms["return_value"] == [
        {
            "target": "device-0",
            "error_code": "IOTDA.014016",
            "error_msg": "offline",
            "failure_class": "environment",
        },
        {
            "target": "device-1",
            "error_code": "IOTDA.005010",
            "error_msg": "installation failed",
            "failure_class": "firmware",
        },
        {
            "target": "device-2",
            "error_code": "X",
            "error_msg": "odd",
            "failure_class": "unknown",
        },
    ]
    assert xcoms["failed"] == 3
    assert xcoms["truncated"] is False
    assert xcoms["failures_by_class"] == {"environment": 1, "firmware": 1, "unknown": 1}


def test_a_rollout_without_failures_returns_an_empty_list(collect):
    xcoms = collect(failed())

    assert (xcoms["return_value"], xcoms["failed"], xcoms["truncated"]) == ([], 0, False)


def test_only_failures_are_asked_for(collect, iotda):
    collect(failed("X"))

    (request,) = iotda.requests
    assert request.qs["task_detail_status"] == ["fail"]


def test_the_returned_list_is_bounded_and_the_file_is_not(collect, tmp_path):
    path = tmp_path / "failed.jsonl"

    xcoms = collect(failed(*["X"] * 40), max_xcom_targets=10, report_path=str(path))

    assert len(xcoms["return_value"]) == 10
    assert (xcoms["failed"], xcoms["truncated"]) == (40, True)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["target"] for row in rows] == [f"device-{number}" for number in range(40)]


def test_it_never_returns_more_than_a_mapped_task_may_take(collect, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "3")

    assert len(collect(failed(*["X"] * 5))["return_value"]) == 3


def test_one_class_may_be_collected_alone_and_classes_overridden(collect):
    page = failed("IOTDA.014016", "IOTDA.005010", "X")

    xcoms = collect(page, only_class="environment", failure_classes={"X": "environment"})

    assert [row["target"] for row in xcoms["return_value"]] == ["device-0", "device-2"]


def test_a_rollout_over_several_tasks_is_collected_as_one(iotda, run):
    for number, task_id in enumerate(("aa", "bb")):
        task = {**iotda.task("Stopped", fail=1), "task_id": task_id}
        iotda.answers("GET", f"/{task_id}", {"batchtask": task, **failed("X", start=number)})

    xcoms = run(CollectFailedSubtasksOperator(task_id="collect", batch_task_id=["aa", "bb"]))

    assert [row["target"] for row in xcoms["return_value"]] == ["device-0", "device-1"]


@pytest.mark.parametrize("ids", ["None", [], "[]"])
def test_no_task_at_all_is_an_error(run, iotda, ids):
    with pytest.raises(IoTDAConfigError, match="batch_task_id"):
        run(CollectFailedSubtasksOperator(task_id="collect", batch_task_id=ids))


def test_an_unknown_class_is_refused_when_the_dag_is_parsed():
    with pytest.raises(ValueError, match="only_class"):
        CollectFailedSubtasksOperator(task_id="collect", batch_task_id="ab", only_class="bad")
