"""The task group as a DAG's author sees it: what it is made of, and what it refuses."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pendulum
import pytest
from airflow.providers.common.compat.sdk import DAG, TaskGroup
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from iotda_provider.guards import Overdue, SequentialFailureTest
from iotda_provider.operators.release import StagedRollout, create_task_ids, staged_rollout
from iotda_provider.operators.release import task_group as module

ASKS = pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="asking a person needs Airflow 3.1")


UPGRADE: dict[str, Any] = {
    "devices": ["aa"],
    "task_type": "firmwareUpgrade",
    "document": {"package_ids": ["bb"]},
}


def make(**given: Any) -> tuple[Any, StagedRollout]:
    with DAG("release", start_date=pendulum.datetime(2026, 1, 1), schedule=None) as dag:
        arguments = {**UPGRADE, "rules": SequentialFailureTest(0.02), **given}
        return dag, staged_rollout(**arguments)


def test_the_waves_are_unrolled_to_a_maximum() -> None:
    dag, rollout = make(max_waves=3, waves=["5%", "100%"])
    steps = {f"rollout.wave_{n}_{step}" for n in (1, 2, 3) for step in STEPS}
    assert set(dag.task_ids) == steps | {"rollout.plan", "rollout.outcome"}
    assert rollout.group.group_id == "rollout"
    assert rollout.outcome.task_id == "rollout.outcome"


STEPS = ("create", "confirm", "watch", "gate", "stop")


def test_a_wave_is_reached_only_through_the_gate_of_the_one_before() -> None:
    dag, _ = make(max_waves=3, waves="5%, 50%, 100%")
    assert dag.get_task("rollout.wave_1_create").upstream_task_ids == {"rollout.plan"}
    assert dag.get_task("rollout.wave_2_create").upstream_task_ids == {"rollout.wave_1_gate"}
    assert dag.get_task("rollout.wave_2_confirm").upstream_task_ids == {"rollout.wave_2_create"}
    assert dag.get_task("rollout.wave_2_confirm").trigger_rule == "all_success"


def test_a_stop_waits_for_no_other_wave() -> None:
    """With a common one a person's no would wait until all later waves are skipped."""
    dag, _ = make(max_waves=3, waves="5%, 50%, 100%")
    for wave in (1, 2, 3):
        stop = dag.get_task(f"rollout.wave_{wave}_stop")
        assert stop.upstream_task_ids == {f"rollout.wave_{wave}_gate"}
        assert stop.downstream_task_ids == {"rollout.outcome"}


@ASKS
def test_a_person_stands_between_two_waves_where_one_may_be_asked() -> None:
    dag, _ = make(max_waves=2, waves="5%, 100%", approval="when unproven")
    assert dag.get_task("rollout.wave_2_create").upstream_task_ids == {
        "rollout.wave_1_gate",
        "rollout.wave_1_ask",
    }
    first, last = dag.get_task("rollout.wave_1_ask"), dag.get_task("rollout.wave_2_ask")
    assert first.downstream_task_ids == {"rollout.wave_2_create", "rollout.wave_1_stop"}
    assert last.downstream_task_ids == {"rollout.outcome", "rollout.wave_2_stop"}
    # Silence holds.
    assert first.response_timeout is None
    assert first.defaults is None


@ASKS
def test_who_may_answer_is_passed_on_to_every_question() -> None:
    dag, _ = make(approval="before every wave", assigned_users=["7", {"id": "8", "name": "Erika"}])
    for wave in (1, 2):
        assert dag.get_task(f"rollout.wave_{wave}_ask").assigned_users == [
            {"id": "7", "name": "7"},
            {"id": "8", "name": "Erika"},
        ]
    dag, _ = make(approval="before every wave")
    assert not dag.get_task("rollout.wave_1_ask").assigned_users


@ASKS
def test_silence_stops_only_where_the_dag_says_so() -> None:
    dag, _ = make(
        approval="before every wave", on_no_answer="stop", answer_within=timedelta(hours=2)
    )
    ask = dag.get_task("rollout.wave_1_ask")
    assert ask.response_timeout == timedelta(hours=2)
    assert ask.defaults == ["Stop the release"]


@ASKS
@pytest.mark.parametrize("progress", [None, {"total": 9, "success": 5, "fail": 1, "processing": 3}])
def test_a_question_gives_its_counts_in_words(progress: dict[str, int] | None) -> None:
    import jinja2

    class Left:
        def xcom_pull(self, task_id: str) -> dict[str, Any]:
            return {"summary": "Wave 1 is unproven.", "progress": progress}

    dag, _ = make(approval="before every wave")
    body = dag.get_task("rollout.wave_1_ask").body
    said = jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(body).render(ti=Left())
    counts = "5 succeeded, 1 failed, 3 running, 0 waiting, of 9" if progress else "0 succeeded, 0"
    assert said.startswith(f"Wave 1 is unproven.\n\n{counts}")
    assert not set("{}[]'") & set(said.replace("can't", ""))


def test_older_airflow_can_ask_nobody_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AIRFLOW_V_3_1_PLUS", False)
    with pytest.raises(ValueError, match=r"needs Airflow 3\.1"):
        make(approval="when unproven")
    with pytest.raises(ValueError, match=r"needs Airflow 3\.1"):
        make(approval="{{ params.approval }}")
    make(approval="never")


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"waves": "5%, 25%"}, "waves"),
        ({"waves": "1%, 2%, 100%", "max_waves": 2}, "max_waves"),
        ({"max_waves": 0}, "max_waves"),
        ({"gate": 2}, "max_failure_rate"),
        ({"rules": []}, "rules"),
        ({"rules": "[]"}, "rules"),
        ({"chunk": 101}, "chunk"),
        ({"chunk": 0.5}, "chunk"),
        ({"max_in_flight": 0}, "max_in_flight"),
        ({"max_in_flight": 1.5}, "max_in_flight"),
        ({"max_waves": 2.5}, "max_waves"),
        ({"already_current": -1}, "already_current"),
        ({"already_current": "none"}, "already_current"),
        ({"on_no_answer": "stop", "answer_within": 60}, "answer_within"),
        ({"bake_time": -1}, "bake_time"),
        ({"wave_timeout": 0}, "wave_timeout"),
        ({"window": "at night"}, "window"),
        ({"window": "22:00-05:00", "timezone": "Mars"}, "timezone"),
        ({"approval": "sometimes"}, "approval"),
        ({"on_no_answer": "go on"}, "on_no_answer"),
        ({"on_no_answer": "stop"}, "answer_within"),
        ({"answer_within": timedelta(hours=1)}, "answer_within"),
        ({"poll_interval": 0}, "poll_interval"),
        ({"evidence_interval": 0}, "evidence_interval"),
        ({"assigned_users": []}, "assigned_users"),  # which Airflow would take for everybody
        ({"assigned_users": "erika"}, "assigned_users"),
        ({"assigned_users": [7]}, "assigned_users"),
        ({"assigned_users": [""]}, "assigned_users"),
        ({"assigned_users": [{"id": "7"}]}, "assigned_users"),
    ],
)
def test_what_makes_no_sense_is_refused_when_the_dag_is_parsed(
    given: dict[str, Any], names: str
) -> None:
    with pytest.raises(ValueError, match=names):
        make(**given)


def test_rules_may_be_objects_json_or_a_template() -> None:
    make(rules=[SequentialFailureTest(0.02), Overdue(60, 0.02)])
    make(rules='[{"rule": "SequentialFailureTest", "tolerated_rate": 0.02}]')
    make(rules='[{"rule": "SequentialFailureTest", "tolerated_rate": {{ params.rate }}}]')


@pytest.mark.parametrize("deferrable", [True, False])
def test_everything_that_waits_waits_where_the_dag_says(deferrable: bool) -> None:
    dag, _ = make(max_waves=2, waves="5%, 100%", deferrable=deferrable)
    waits = {task.task_id: task.deferrable for task in dag.tasks if hasattr(task, "deferrable")}
    names = ("create", "confirm", "watch")
    steps = [f"wave_{n}_{step}" for n in (1, 2) for step in names]
    assert waits == {f"rollout.{name}": deferrable for name in steps}


def test_what_was_confirmed_is_kept_by_the_first_task_and_the_last() -> None:
    dag, rollout = make(max_waves=2, waves="5%, 100%")
    keepers = {task.task_id: getattr(task, "keeper_task_id", None) for task in dag.tasks}
    assert keepers["rollout.plan"] == keepers["rollout.wave_2_confirm"] == rollout.outcome.task_id
    with DAG("other", start_date=pendulum.datetime(2026, 1, 1), schedule=None), TaskGroup("outer"):
        inner = staged_rollout(**UPGRADE, rules=SequentialFailureTest(0.02))
    assert inner.plan.keeper_task_id == inner.outcome.task_id == "outer.rollout.outcome"
    assert inner.create_task_ids == create_task_ids("outer.rollout")
    assert set(inner.create_task_ids) <= set(inner.group.children)


def test_a_deferred_wave_refuses_an_alert_that_no_triggerer_can_import() -> None:
    def local(alert: Any) -> None:
        """Lives in a test."""

    make(on_alert=local, deferrable=False)
    make(on_alert="json.dumps", deferrable=True)
    with pytest.raises(ValueError, match=r"on_alert: .* move it into a module"):
        make(on_alert=local, deferrable=True)
    # Evidence is asked for in a worker, which knows the DAG's file.
    make(evidence=local, deferrable=True)
