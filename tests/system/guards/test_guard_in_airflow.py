"""Guards in real Airflow, in the worker and deferred."""

from __future__ import annotations

import json

import pytest

TASK = "0123456789abcdef01234567"
ROLLOUT = {"task_id": TASK, "task_name": "rollout", "targets": "all"}
BAD = {
    "devices": 300,
    "failure_rate": 0.4,
    "dispatch_rate": 1.0,
    "failure_after": 5,
    "batch_tasks": [ROLLOUT],
}
GOOD = {"devices": 50, "failure_rate": 0.0, "success_after": 30, "batch_tasks": [ROLLOUT]}

GUARD = """
guard = RolloutGuardSensor(
    task_id="guard", batch_task_id=TASK, rules=SequentialFailureTest(0.02), stop_on_breach=True,
    poke_interval=0.1, deferrable={deferrable},
)
branch = BranchOnVerdictOperator(
    task_id="verdict", verdict=guard.output, if_breached="collect", if_completed="well"
)
collect = CollectFailedSubtasksOperator(task_id="collect", batch_task_id=TASK)
branch >> [collect, EmptyOperator(task_id="well")]
"""


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "triggerer"])
@pytest.mark.iotda_emulator(scenario=BAD, speed=0)
def test_a_bad_rollout_is_stopped_and_its_failures_collected(run_tasks, deferrable):
    run = run_tasks(GUARD.format(deferrable=deferrable))

    assert run.states == {
        "guard": "success",
        "verdict": "success",
        "collect": "success",
        "well": "skipped",
    }
    result = run.xcom("guard")
    assert (result["verdict"], result["status"]) == ("breached", "Stopped")
    assert result["stop"]["outcome"] == "stopped"
    assert run.xcom("guard", "summary") == result["summary"]
    assert "evidence against the rollout" in result["summary"]
    assert run.xcom("verdict", "branch") == ["collect"]
    assert len(run.xcom("collect")) == result["progress"]["fail"]
    assert {row["failure_class"] for row in run.xcom("collect")} == {"firmware"}
    header, first, *_ = run.xcom("guard", "audit")
    assert header["audit"] == "iotda-guard"
    assert first["decision"] == "continue"
    about = run.xcom("guard", "rollout")
    assert (about["kind"], about["batch_task_names"]) == ("guard", ["rollout"])
    live = run.xcom("guard", "live")
    assert (live["verdict"], live["decision"], live["due"]) == ("breached", "breach", None)
    assert live["progress"]["fail"] == result["progress"]["fail"]
    assert len(json.dumps(live)) < 2000


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "triggerer"])
@pytest.mark.iotda_emulator(scenario=GOOD, speed=0)
def test_a_good_rollout_is_left_alone(run_tasks, deferrable):
    run = run_tasks(GUARD.format(deferrable=deferrable))

    assert run.states["well"] == "success"
    assert run.states["collect"] == "skipped"
    assert run.xcom("guard")["verdict"] == "completed"
    assert run.xcom("guard")["stop"] is None


@pytest.mark.iotda_emulator(scenario=GOOD, speed=0)
def test_a_guard_that_was_skipped_skips_its_branch_and_a_join_goes_on_elsewhere(run_tasks):
    run = run_tasks("""
        from airflow.providers.common.compat.sdk import AirflowSkipException

        @task
        def nothing_to_guard():
            raise AirflowSkipException("no rollout")

        guard = RolloutGuardSensor(task_id="guard", batch_task_id=TASK, rules=MaxFailures(1))
        branch = BranchOnVerdictOperator(
            task_id="verdict", verdict=guard.output, if_breached="bad", if_completed="good"
        )
        paths = [EmptyOperator(task_id="bad"), EmptyOperator(task_id="good")]
        elsewhere = EmptyOperator(task_id="elsewhere")
        join = EmptyOperator(task_id="join", trigger_rule="none_failed_min_one_success")
        nothing_to_guard() >> guard >> branch >> paths >> join
        elsewhere >> join
    """)

    skipped = ("nothing_to_guard", "guard", "verdict", "bad", "good")
    assert {run.states[name] for name in skipped} == {"skipped"}
    assert run.states["join"] == "success"


@pytest.mark.iotda_emulator(scenario=GOOD, speed=0)
def test_a_join_behind_the_verdicts_paths_runs_whichever_was_taken(run_tasks):
    run = run_tasks(
        GUARD.format(deferrable=False)
        + """
join = EmptyOperator(task_id="join", trigger_rule="none_failed_min_one_success")
[collect, branch.dag.get_task("well")] >> join
"""
    )

    assert (run.states["well"], run.states["collect"]) == ("success", "skipped")
    assert run.states["join"] == "success"
