"""Rollouts of which many guard runs have failed: nobody has to do anything for the next one."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from iotda_provider.airflow_support.guard_runs import VARIABLE, guard_run_id
from iotda_provider.exceptions import IoTDANotFoundError, IoTDATransportError
from iotda_provider.models import BatchTask
from iotda_provider.operators import guard_runs
from iotda_provider.operators.guard_runs import (
    FindUnfinishedOfReleaseOperator,
    FindUnguardedRolloutsOperator,
)

TASK_ID = "5c8fb0d3c1a2e45678901234"
TASK = BatchTask.from_wire(
    {
        "task_id": TASK_ID,
        "task_name": "rollout",
        "task_type": "firmwareUpgrade",
        "status": "Processing",
        "task_progress": {"total": 5, "processing": 5},
    }
)
NEXT = guard_run_id("secret", TASK_ID, 6)
NOW = 1_790_000_000.0


class Hook:
    def list_batch_tasks(self, *, task_type: str, status: str) -> list[BatchTask]:
        return [TASK] if (task_type, status) == ("firmwareUpgrade", "Processing") else []

    def get_batch_task(self, batch_task_id: str) -> BatchTask:
        return TASK


class TaskInstance:
    """Of whose rollout five guard runs have failed; it keeps its XComs from look to look."""

    dag_id, run_id, task_id, map_index = "dag", "run", "look", -1

    def __init__(self) -> None:
        self.failed = {guard_run_id("secret", TASK_ID, number) for number in range(1, 6)}
        self.xcoms: dict[str, Any] = {}

    def get_dr_count(self, dag_id: str, run_ids: list[str], states: list[str] | None) -> int:
        if states is not None and "failed" not in states:
            return 0
        return len(self.failed & set(run_ids))

    def get_ti_count(self, **_: Any) -> int:
        return 0

    def xcom_pull(self, *, key: str, **_: Any) -> Any:
        return self.xcoms.get(key)

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value


@pytest.fixture(autouse=True)
def _secret(variables: Any) -> None:
    variables[VARIABLE] = "secret"


def test_the_next_guard_starts_after_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    operator = FindUnguardedRolloutsOperator(task_id="look")
    monkeypatch.setattr(operator, "hook", lambda: nullcontext(Hook()))
    ti, started = TaskInstance(), []
    for minutes in (0, 30, 59, 60):
        now = NOW + 60 * minutes
        clock = SimpleNamespace(time=lambda now=now: now, monotonic=lambda now=now: now)
        monkeypatch.setattr(guard_runs, "time", clock)
        started.append([row["trigger_run_id"] for row in operator.execute({"ti": ti})])  # type: ignore[typeddict-item]

    assert started == [[], [], [], [NEXT]]


def test_what_a_release_leaves_is_looked_at_once_and_gets_it_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    operator = FindUnfinishedOfReleaseOperator(task_id="look", batch_task_id=[TASK_ID])
    monkeypatch.setattr(operator, "hook", lambda: nullcontext(Hook()))
    monkeypatch.setattr(operator, "_by_stamp", lambda hook, context: [])

    rows = operator.execute({"ti": TaskInstance()})  # type: ignore[typeddict-item]

    assert [row["trigger_run_id"] for row in rows] == [NEXT]


@pytest.mark.parametrize(
    ("code", "guarded"), [("IOTDA.014217", []), ("APIG.0101", [NEXT]), (None, [NEXT])]
)
def test_only_the_platforms_own_404_ends_a_releases_batch_task(
    monkeypatch: pytest.MonkeyPatch, code: str | None, guarded: list[str]
) -> None:
    class Missing(Hook):
        def get_batch_task(self, batch_task_id: str) -> BatchTask:
            raise IoTDANotFoundError(404, code, "Not Found")

    operator = FindUnfinishedOfReleaseOperator(task_id="look", batch_task_id=[TASK_ID])
    monkeypatch.setattr(operator, "hook", lambda: nullcontext(Missing()))
    monkeypatch.setattr(operator, "_by_stamp", lambda hook, context: [])

    rows = operator.execute({"ti": TaskInstance()})  # type: ignore[typeddict-item]

    assert [row["trigger_run_id"] for row in rows] == guarded


class WithoutLists(Hook):
    """A platform that does not answer with its lists of batch tasks."""

    def list_batch_tasks(self, *, task_type: str, status: str) -> list[BatchTask]:
        raise IoTDATransportError("Could not list batch tasks: connecting timed out")


@pytest.fixture
def at_the_end(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Finds what goes on of a release at its end, while the lists can't be read."""
    monkeypatch.setattr(guard_runs, "own_stamps", lambda *given: {"A" * 26: "create"})

    def execute(batch_task_id: Any) -> list[Any]:
        operator = FindUnfinishedOfReleaseOperator(task_id="look", batch_task_id=batch_task_id)
        monkeypatch.setattr(operator, "hook", lambda: nullcontext(WithoutLists()))
        return operator.execute({"ti": TaskInstance()})  # type: ignore[typeddict-item]

    return execute


def test_what_nobody_can_tell_is_not_that_nothing_of_a_release_goes_on(at_the_end: Any) -> None:
    for none in ("[]", "", None):
        with pytest.raises(IoTDATransportError, match="Could not list batch tasks"):
            at_the_end(none)


def test_a_known_batch_task_gets_its_guard_though_others_can_not_be_found(at_the_end: Any) -> None:
    assert [row["trigger_run_id"] for row in at_the_end([TASK_ID])] == [NEXT]
