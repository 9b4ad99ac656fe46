"""Which rollouts get a guard is decided by what the platform has really said."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest

from iotda_provider.airflow_support.guard_runs import VARIABLE
from iotda_provider.exceptions import IoTDAError
from iotda_provider.models import BatchTask
from iotda_provider.operators import guard_runs
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


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of the XComs that looks push, and their heartbeats."""
    done: list[str] = []
    monkeypatch.setattr(TaskInstance, "xcom_push", lambda ti, key, value: done.append(key))
    monkeypatch.setattr(guard_runs, "send_heartbeat", lambda *given: done.append("heartbeat"))
    return done


@pytest.fixture
def look(iotda: Any, variables: Any, done: list[str]) -> Any:
    """The guards that a look starts; the platform says ``answer`` of all lists but ``others``."""

    def guards(answer: Any, **others: Any) -> list[Any]:
        variables[VARIABLE] = "secret"
        iotda.answers("GET", "", answer)
        for kind, other in others.items():
            iotda.answers("GET", f"?task_type={kind}&status=Processing", other)
        operator = FindUnguardedRolloutsOperator(
            task_id="running_rollouts", heartbeat_url="https://hc.example.com/x"
        )
        return operator.execute({"ti": TaskInstance()})  # type: ignore[typeddict-item]

    return guards


NONE = {"batchtasks": [], "page": {"count": 0}}
UNSEEN = {"batchtasks": [], "page": {"count": 1}}
DOWN = {"status_code": 503, "text": ""}
PROXY = {"status_code": 404, "text": "<html></html>"}
BROKEN = {**TASK, "task_name": "rollout", "task_progress": BEGUN}


def test_without_a_rollout_there_is_nothing_to_guard(look: Any) -> None:
    assert look(NONE) == []


@pytest.mark.parametrize("unread", [UNSEEN, DOWN], ids=["counted, not shown", "down"])
@pytest.mark.parametrize("kind", ["firmwareUpgrade", "softwareUpgrade"])
def test_a_list_that_can_not_be_read_is_no_list_without_rollouts(
    look: Any, unread: Any, kind: str
) -> None:
    with pytest.raises(IoTDAError, match="Could not list batch tasks"):
        look(NONE, **{kind: unread})


@pytest.mark.parametrize(
    "unread", [UNSEEN, DOWN, PROXY], ids=["counted, not shown", "down", "a proxy's 404"]
)
def test_the_rollouts_of_other_lists_get_their_guards_before_that_fails(
    look: Any, logged: Any, unread: Any
) -> None:
    (guard,) = look(unread, firmwareUpgrade={"batchtasks": [BROKEN], "page": {"count": 1}})
    assert guard["conf"] == {"batch_task_id": TASK["task_id"]}
    assert "A softwareUpgrade that is Processing may have NO GUARD" in logged()


@pytest.mark.parametrize(("unread", "is_whole"), [(NONE, True), (DOWN, False)])
def test_a_look_at_a_part_of_the_rollouts_leaves_nothing_and_sends_no_heartbeat(
    look: Any, done: list[str], unread: Any, is_whole: bool
) -> None:
    look(unread, firmwareUpgrade={"batchtasks": [BROKEN], "page": {"count": 1}})
    assert bool(done) is ("heartbeat" in done) is is_whole


def test_a_platform_that_refuses_the_list_is_asked_once(look: Any, iotda: Any) -> None:
    with pytest.raises(IoTDAError, match="403"):
        look({"status_code": 403, "json": {}})
    assert len(iotda.requests) == 1
