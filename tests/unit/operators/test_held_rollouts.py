"""A held rollout needs no guard until a device has started, by counts that were really sent."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest

from iotda_provider.airflow_support.guard_runs import VARIABLE
from iotda_provider.models import BatchTask
from iotda_provider.operators.guard_runs import FindUnguardedRolloutsOperator

TASK = {
    "task_id": "5c8fb0d3c1a2e45678901234",
    "task_type": "firmwareUpgrade",
    "status": "Processing",
    "need_confirm": True,
}
HELD = {"total": 5, "waitting": 5}
BEGUN = {"total": 5, "waitting": 4, "processing": 1}


class Hook:
    """A platform with one batch task.

    :param listed: what its list says of the counts; the details say ``counts``
    """

    def __init__(self, listed: dict[str, Any], counts: dict[str, int]) -> None:
        self.listed, self.counts = listed, counts

    def list_batch_tasks(self, *, task_type: str, status: str) -> list[BatchTask]:
        if (task_type, status) != (TASK["task_type"], TASK["status"]):
            return []
        return [BatchTask.from_wire({**TASK, **self.listed})]

    def get_batch_task(self, batch_task_id: str) -> BatchTask:
        return BatchTask.from_wire({**TASK, "task_progress": self.counts})


class TaskInstance:
    dag_id, run_id, task_id, map_index = "dag", "run", "running_rollouts", -1

    def get_dr_count(self, **_: Any) -> int:
        return 0

    def xcom_pull(self, **_: Any) -> None:
        return None

    def xcom_push(self, **_: Any) -> None:
        return None


@pytest.mark.parametrize(
    "listed",
    [
        {},
        {"task_progress": None},
        {"task_progress": {}},
        {"task_progress": HELD, "need_confirm": None},
    ],
    ids=["left out", "null", "empty", "need_confirm is null"],
)
@pytest.mark.parametrize(("counts", "guards"), [(HELD, 0), (BEGUN, 1), ({}, 1), ({"total": 0}, 1)])
def test_a_list_that_does_not_say_it_is_not_believed(
    listed: dict[str, Any],
    counts: dict[str, int],
    guards: int,
    variables: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    variables[VARIABLE] = "secret"
    operator = FindUnguardedRolloutsOperator(task_id="running_rollouts")
    monkeypatch.setattr(operator, "hook", lambda: nullcontext(Hook(listed, counts)))

    assert len(operator.execute({"ti": TaskInstance()})) == guards
