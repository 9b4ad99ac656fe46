"""A release whose DAG is paused: Airflow starts none of its tasks, and people are told."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from airflow.providers.common.compat.notifier import BaseNotifier

from iotda_provider.airflow_support.guard_runs import VARIABLE
from iotda_provider.models import BatchTask
from iotda_provider.operators.guard_runs import FindUnguardedRolloutsOperator
from iotda_provider.procedures.create_once import stamp_of, stamped_name
from iotda_provider.release import under_way
from iotda_provider.release.other_releases import ReleaseNote

LOG = logging.getLogger("airflow.task")
STAMP = stamp_of("production", "dag", "run", "create", -1)
OF_RELEASE = stamped_name("release", STAMP, of_release=True)
PAUSED_DAG, RUNNING_DAG = "firmware_release", "other_release"


class Hook:
    """A platform with one batch task, which is under way."""

    def __init__(self, name: str) -> None:
        self.name = name

    def list_batch_tasks(self, *, task_type: str, status: str) -> list[BatchTask]:
        """Each of them on the list of its type and status."""
        if (task_type, status) != ("firmwareUpgrade", "Processing"):
            return []
        counts = {"total": 5, "waitting": 3, "processing": 2}
        facts = {"task_id": "5c8fb0d3", "task_type": task_type, "status": status}
        return [BatchTask.from_wire({**facts, "task_name": self.name, "task_progress": counts})]


class TaskInstance:
    """A task instance of Airflow 3.2 or later.

    :ivar paused: what Airflow says of the paused DAG; an error is raised
    """

    dag_id, run_id, task_id, map_index, try_number = "rollout_guard", "r", "look", -1, 1

    def __init__(self, paused: Any = True) -> None:
        self.paused = paused
        self.kept: dict[str, Any] = {}

    def get_dag(self, dag_id: str) -> Any:
        """The DAG, as far as it is asked about."""
        if isinstance(self.paused, Exception):
            raise self.paused
        return SimpleNamespace(is_paused=dag_id == PAUSED_DAG and self.paused)

    def get_dr_count(self, *, run_ids: list[str], states: Any = None, **_: Any) -> int:
        """Each guard run is there, and none has ended."""
        return 0 if states else len(run_ids)

    def get_ti_count(self, *, run_ids: list[str], **_: Any) -> int:
        """All guards watch."""
        return len(run_ids)

    def xcom_pull(
        self, *, task_ids: str, key: str, include_prior_dates: bool, map_indexes: int
    ) -> Any:
        """What was left."""
        return self.kept.get(key)

    def xcom_push(self, *, key: str, value: Any) -> None:
        """Leave it."""
        self.kept[key] = value


class Chat(BaseNotifier):
    """Keeps what it says."""

    template_fields = ("text",)
    said: ClassVar[list[str]] = []

    def __init__(self, text: str = "{{ message }}") -> None:
        super().__init__()
        self.text = text

    def notify(self, context: Any) -> None:
        """Say it."""
        self.said.append(self.text)


def look(ti: TaskInstance, monkeypatch: pytest.MonkeyPatch, name: str = OF_RELEASE) -> Any:
    operator = FindUnguardedRolloutsOperator(task_id="look", notifiers=[Chat()])
    monkeypatch.setattr(operator, "hook", lambda: nullcontext(Hook(name)))
    return operator.execute({"ti": ti})  # type: ignore[typeddict-item]


@pytest.fixture(autouse=True)
def releases(variables: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two are under way."""
    Chat.said.clear()
    records = SimpleNamespace(get_one=lambda **which: None)
    monkeypatch.setattr("iotda_provider.operators.guard_liveness._xcom", lambda: records)
    variables[VARIABLE] = "secret"
    for dag_id in (PAUSED_DAG, RUNNING_DAG):
        note = ReleaseNote(dag_id, dag_id, "run", "2.0.0", None, ("0000000a-0000",))
        under_way.enter(note, LOG)


def test_people_are_told_once_an_hour_that_nobody_may_guard_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ti = TaskInstance()
    for _ in range(3):
        assert look(ti, monkeypatch) == []

    (said,) = Chat.said
    assert said.startswith("OVERDUE: 1 rollout(s) MAY BE UNGUARDED. The release of version 2.0.0")
    assert "by firmware_release, run run" in said
    assert "its DAG is paused" in said
    assert RUNNING_DAG not in said


@pytest.mark.parametrize("paused", [False, OSError("down")])
def test_a_release_that_runs_or_an_airflow_that_is_down_is_no_alarm(
    paused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert look(TaskInstance(paused), monkeypatch) == []
    assert Chat.said == []


def test_a_paused_release_that_is_over_is_no_alarm(
    monkeypatch: pytest.MonkeyPatch, variables: Any
) -> None:
    variables.runs_over.add((PAUSED_DAG, "run"))
    look(TaskInstance(), monkeypatch)
    assert Chat.said == []


def test_without_a_batch_task_of_a_release_nobody_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    look(TaskInstance(AssertionError("asked")), monkeypatch, "nightly")
    assert Chat.said == []


def test_airflow_3_1_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(TaskInstance, "get_dag")
    assert look(TaskInstance(), monkeypatch) == []
    assert Chat.said == []
