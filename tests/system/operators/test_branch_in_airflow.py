"""Branching in real Airflow: who runs, who is skipped, and what the paths may be."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.iotda_emulator(scenario={"devices": 1})

ROW = '{"target": "a", "error_code": "IOTDA.014219", "error_msg": "not in the task"}'


def test_a_task_group_is_a_path_and_a_join_behind_the_branch_runs(run_tasks):
    run = run_tasks(f"""
        branch = BranchOnTargetFailuresOperator(
            task_id="branch", failures=[{ROW}], if_none="fine", if_some="repair"
        )
        with TaskGroup("repair") as repair:
            first, second = EmptyOperator(task_id="first"), EmptyOperator(task_id="second")
            last = EmptyOperator(task_id="last")
            [first, second] >> last
        fine = EmptyOperator(task_id="fine")
        join = EmptyOperator(task_id="join", trigger_rule="none_failed_min_one_success")
        branch >> [repair, fine] >> join
    """)

    assert run.states == {
        "branch": "success",
        "repair.first": "success",
        "repair.second": "success",
        "repair.last": "success",
        "fine": "skipped",
        "join": "success",
    }
    assert run.xcom("branch", "branch") == ["repair"]


def test_following_nothing_skips_all_and_pushes_an_empty_choice(run_tasks):
    run = run_tasks("""
        branch = BranchOnTargetFailuresOperator(task_id="branch", failures=[], if_some="repair")
        branch >> EmptyOperator(task_id="repair")
    """)

    assert run.states == {"branch": "success", "repair": "skipped"}
    assert run.xcom("branch", "branch") == []


def test_several_paths_are_followed_together(run_tasks):
    run = run_tasks(f"""
        other = {{"target": "b", "error_code": "IOTDA.014016", "error_msg": "offline"}}
        branch = BranchOnTargetFailuresOperator(
            task_id="branch", failures=[{ROW}, other], if_some="repair",
            by_error_code={{"IOTDA.014219": "forget"}}, by_failure_class={{"environment": "again"}},
        )
        branch >> [EmptyOperator(task_id=t) for t in ("forget", "again", "repair")]
    """)

    assert run.states == {
        "branch": "success",
        "forget": "success",
        "again": "success",
        "repair": "skipped",
    }


def test_a_mapped_branch_fails_instead_of_running_every_path(run_tasks):
    run = run_tasks(f"""
        BranchOnTargetFailuresOperator.partial(
            task_id="branch", if_some="repair", if_none="fine"
        ).expand(failures=[[{ROW}]]) >> [EmptyOperator(task_id=t) for t in ("repair", "fine")]
    """)

    assert run.states["branch[0]"] == "failed"
    assert (run.states["repair"], run.states["fine"]) == ("upstream_failed", "upstream_failed")
    assert "can't run mapped" in run.log


def test_a_branch_inside_a_mapped_task_group_fails_too(run_tasks):
    run = run_tasks(f"""
        @task_group
        def rollout(failures):
            branch = BranchOnTargetFailuresOperator(
                task_id="branch", failures=failures, if_some="rollout.repair"
            )
            branch >> EmptyOperator(task_id="repair")
        rollout.expand(failures=[[{ROW}]])
    """)

    assert run.states == {
        "rollout.branch[0]": "failed",
        "rollout.repair[0]": "upstream_failed",
    }


def test_failures_that_a_skipped_task_never_pushed_fail_the_branch(run_tasks):
    run = run_tasks("""
        branch = BranchOnTargetFailuresOperator(
            task_id="branch", if_none="fine",
            failures="{{ ti.xcom_pull(task_ids='nobody', key='failed_targets') }}",
        )
        branch >> EmptyOperator(task_id="fine")
    """)

    assert run.states == {"branch": "failed", "fine": "upstream_failed"}
    assert "failures was rendered to None" in run.log
