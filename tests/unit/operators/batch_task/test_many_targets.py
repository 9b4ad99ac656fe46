"""Any number of targets: asked for in blocks, told in the same memory, and none of them lost."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotda_provider.exceptions import (
    IoTDAAuthError,
    IoTDATransportError,
    TaskNotStoppableError,
)
from iotda_provider.models import TargetResult, TargetResults
from iotda_provider.operators.batch_task import StopBatchTaskOperator
from iotda_provider.operators.batch_task import targets as target_operators
from iotda_provider.operators.batch_task.targets import in_batches

ERRORS = (
    IoTDATransportError("no answer"),
    TaskNotStoppableError("it has ended", None),
    IoTDAAuthError(status_code=401, error_code="IAM.1", error_msg="expired", request_id=None),
)


class Log:
    def info(self, *said: Any) -> None:
        pass

    warning = error = exception = info


@given(
    count=st.integers(1, 30),
    size=st.integers(1, 10),
    failing=st.dictionaries(st.integers(1, 10), st.sampled_from(ERRORS)),
)
def test_every_target_has_one_result_in_its_place(
    count: int, size: int, failing: dict[int, Exception]
) -> None:
    targets = [f"d{number}" for number in range(count)]
    asked: list[list[str]] = []

    def ask(block: list[str]) -> TargetResults:
        asked.append(block)
        if (error := failing.get(len(asked) - 1)) is not None:
            raise error
        return TargetResults(TargetResult(target, True) for target in block)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target_operators, "BATCH", size)
        results = list(in_batches(ask, targets, Log()))

    assert [result.target for result in results] == targets
    assert [target for block in asked for target in block] == targets
    assert all(len(block) <= size for block in asked)
    for position, result in enumerate(results):
        error = failing.get(position // size)
        assert result.succeeded is (error is None)
        assert result.error_msg == (None if error is None else str(error))


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_of_the_first_block_is_raised_at_once(error: Exception) -> None:
    def ask(block: list[str]) -> TargetResults:
        raise error

    with pytest.raises(type(error)):
        in_batches(ask, ["d1", "d2"], Log())


def test_a_task_that_ends_between_two_blocks_loses_no_result(
    iotda: Any, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target_operators, "BATCH", 2)
    iotda.shows(iotda.task(), iotda.task("Success"))
    iotda.stops(
        {"targets": [{"target": target, "status": "success"} for target in ("d1", "d2")]},
        {"status_code": 400, "json": {"error_code": "IOTDA.014218", "error_msg": "ended"}},
    )
    path = tmp_path / "failed.jsonl"
    operator = StopBatchTaskOperator(
        task_id="stop",
        batch_task_id="5c8f9e2d7a6b4c3d1e0f9a8b",
        targets=["d1", "d2", "d3", "d4"],
        report_path=str(path),
    )

    xcoms = run(operator)

    assert xcoms["succeeded_targets"] == ["d1", "d2"]
    assert (xcoms["return_value"]["succeeded"], xcoms["return_value"]["failed"]) == (2, 2)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["target"] for row in rows] == ["d3", "d4"]
    assert "has already ended as Success" in rows[0]["error_msg"]


def test_results_take_the_same_memory_however_many_there_are(ti: Any, tmp_path: Path) -> None:
    operator = StopBatchTaskOperator(
        task_id="stop",
        batch_task_id="5c8f9e2d7a6b4c3d1e0f9a8b",
        report_path=str(tmp_path / "failed.jsonl"),
    )

    def peak(count: int) -> int:
        results = (
            TargetResult(f"device-{n:010}", False, "IOTDA.014219", "The target is not in the task")
            for n in range(count)
        )
        tracemalloc.start()
        told = operator.push_targets({"ti": ti}, "stopped", None, count, results)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert told.failed == count
        return highest

    few = peak(2_000)
    # Another thread's memory may be counted, too, but not each time.
    assert any(peak(10_000) < few + 200_000 for _ in range(3))
