"""The last two tasks of a release's DAG."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import pendulum
from airflow.providers.common.compat.notifier import BaseNotifier
from airflow.providers.common.compat.sdk import DAG, BaseOperator

from iotda_provider.operators.release.leftovers import guard_what_is_left


class Chat(BaseNotifier):
    """Keeps what people are told."""

    told: ClassVar[list[tuple[str, str]]] = []

    def notify(self, context: Any) -> None:
        """Keep it."""
        self.told.append((context["event"]["kind"], context["event"]["sentence"]))


def told_after(task: str) -> str:
    """What people are told after one of the tasks has failed."""
    with DAG("d", schedule=None, start_date=pendulum.datetime(2026, 1, 1)):
        left = guard_what_is_left(
            create_task_ids=["rollout.wave_1_create"],
            outcome_task_id="rollout.outcome",
            notifiers=[Chat()],
        )
    assert left.unfinished.downstream_task_ids == {left.guard.task_id}
    assert left.unfinished.is_teardown, "which runs also where somebody marks the run as failed"
    given = {
        "unfinished": left.unfinished.on_failure_callback,
        "guard_unfinished": left.guard.partial_kwargs["on_failure_callback"],
    }[task]
    (callback,) = given if isinstance(given, (list, tuple)) else (given,)
    Chat.told.clear()
    ti = SimpleNamespace(dag_id="d", run_id="r1", task_id="t", map_index=0, try_number=1)

    callback({"ti": ti, "task": BaseOperator(task_id="t")})

    ((kind, said),) = Chat.told
    assert kind == "not_guarded"
    assert f"See the log of {task}, and clear it." in said
    return said


def test_people_are_told_where_nobody_can_guard_what_still_runs() -> None:
    said = told_after("guard_unfinished")
    assert "The release r1 is over, a batch task of it still runs" in said
    assert "guard_one_rollout could not be started" in said


def test_people_are_told_where_nobody_can_tell_what_still_runs() -> None:
    said = told_after("unfinished")
    assert "The release r1 is over, and whether a batch task of it still runs can't be" in said
