"""Stopping in real Airflow: what is mapped, rendered, pushed, failed and skipped."""

from __future__ import annotations

import pytest

TASK, OTHER = "0123456789abcdef01234567", "0123456789abcdef01234568"
IN_TASK, STRANGER = "device-00001", "e495cf17-ff79-4294-8f64-4d367919d665"


def rollouts(*task_ids, **scenario):
    """A mark: these batch tasks run on five devices that never finish."""
    tasks = [{"task_id": task_id} for task_id in task_ids]
    scenario = {"devices": 5, "success_after": 1e7, "batch_tasks": tasks, **scenario}
    return pytest.mark.iotda_emulator(scenario=scenario)


def stops(emulator):
    """The stops that were sent, each by its task and body."""
    return [
        (entry["path"].split("/")[-2], entry["body"])
        for entry in emulator.journal("stop_batch_task")
    ]


@rollouts(TASK)
def test_vendors_example_ends_in_one_failed_row_and_one_succeeded_target_and_is_branched_on(
    iotda_emulator, run_tasks
):
    run = run_tasks(f"""
        stop = StopBatchTaskOperator(
            task_id="stop", batch_task_id=TASK, targets=["{STRANGER}", "{IN_TASK}"]
        )
        branch = BranchOnTargetFailuresOperator(
            task_id="branch",
            failures="{{{{ ti.xcom_pull(task_ids='stop', key='failed_targets') }}}}",
            requested="{{{{ ti.xcom_pull(task_ids='stop')['requested'] }}}}",
            if_none="fine", if_some="repair", if_all="alarm",
        )
        stop >> branch >> [EmptyOperator(task_id=t) for t in ("fine", "repair", "alarm")]
    """)

    assert run.xcom("stop", "failed_targets") == [
        {
            "target": STRANGER,
            "error_code": "IOTDA.014219",
            "error_msg": "Invalid input. The target is not in the task",
            "failure_class": "unknown",
        }
    ]
    assert run.xcom("stop", "succeeded_targets") == [IN_TASK]
    about = run.xcom("stop", "rollout")
    assert (about["kind"], about["batch_task_ids"]) == ("stop", [TASK])
    result = run.xcom("stop")
    assert (result["outcome"], result["requested"]) == ("stopped", 2)
    assert (result["succeeded"], result["failed"], result["failed_truncated"]) == (1, 1, False)
    assert run.xcom("branch", "branch") == ["repair"]
    assert run.states == {
        "stop": "success",
        "branch": "success",
        "fine": "skipped",
        "repair": "success",
        "alarm": "skipped",
    }
    assert stops(iotda_emulator) == [(TASK, {"targets": [STRANGER, IN_TASK]})]


@rollouts(TASK)
@pytest.mark.parametrize(
    "targets",
    [
        "found",
        "\"{{ ti.xcom_pull(task_ids='find') }}\"",
        "\"{{ ti.xcom_pull(task_ids='find') | tojson }}\"",
    ],
    ids=["xcom", "jinja", "json"],
)
def test_targets_of_an_upstream_task_are_stopped(iotda_emulator, run_tasks, targets):
    run = run_tasks(f"""
        @task
        def find():
            return ["device-00003", "device-00001"]
        found = find()
        stop = StopBatchTaskOperator(task_id="stop", batch_task_id=TASK, targets={targets})
        found >> stop
    """)

    assert run.xcom("stop", "succeeded_targets") == ["device-00003", "device-00001"]
    assert stops(iotda_emulator) == [(TASK, {"targets": ["device-00003", "device-00001"]})]


@rollouts(TASK)
def test_upstream_tasks_that_find_nothing_or_push_nothing_never_stop_the_whole_task(
    iotda_emulator, run_tasks
):
    run = run_tasks("""
        @task
        def find(value):
            return value
        nobody, nothing = find(value=[]), find(value=None)
        for name, targets in {
            "nobody": nobody,
            "nothing": nothing,
            "wrong_key": "{{ ti.xcom_pull(task_ids='find', key='wrong') }}",
            "empty": "{{ params.get('targets', '') }}",
        }.items():
            stop = StopBatchTaskOperator(task_id=name, batch_task_id=TASK, targets=targets)
            [nobody, nothing] >> stop
    """)

    assert {name: run.states[name] for name in ("nobody", "nothing", "wrong_key", "empty")} == {
        "nobody": "success",
        "nothing": "failed",
        "wrong_key": "failed",
        "empty": "failed",
    }
    assert run.xcom("nobody")["requested"] == 0
    assert stops(iotda_emulator) == []
    assert "targets was rendered to None" in run.log


@rollouts(TASK)
def test_native_rendering_makes_no_whole_task_of_nothing(iotda_emulator, run_tasks):
    run = run_tasks(
        """
        @task
        def find():
            return {"some": ["device-00002"], "empty": [], "nothing": None}
        found = find()
        for name in ("some", "empty", "nothing", "absent"):
            found >> StopBatchTaskOperator(
                task_id=name, batch_task_id=TASK,
                targets="{{ ti.xcom_pull(task_ids='find').get('" + name + "') }}",
            )
        """,
        ", render_template_as_native_obj=True",
    )

    assert {name: state for name, state in run.states.items() if name != "find"} == {
        "some": "success",
        "empty": "success",
        "nothing": "failed",
        "absent": "failed",
    }
    assert stops(iotda_emulator) == [(TASK, {"targets": ["device-00002"]})]


@rollouts(TASK)
def test_mapped_targets_stop_what_each_names_and_none_is_no_whole_task(iotda_emulator, run_tasks):
    run = run_tasks("""
        StopBatchTaskOperator.partial(task_id="stop", batch_task_id=TASK).expand(
            targets=[["device-00002"], [], None]
        )
    """)

    assert run.states == {"stop[0]": "success", "stop[1]": "success", "stop[2]": "failed"}
    assert stops(iotda_emulator) == [(TASK, {"targets": ["device-00002"]})]
    assert "only the DAG itself can mean the whole task" in run.log


@rollouts(TASK)
def test_rows_of_expand_kwargs_that_leave_targets_out_or_none_are_no_whole_task(
    iotda_emulator, run_tasks
):
    run = run_tasks("""
        @task
        def find():
            named = {"batch_task_id": TASK, "targets": ["device-00002"]}
            return [named, {"batch_task_id": TASK, "targets": None}, {"batch_task_id": TASK}]
        StopBatchTaskOperator.partial(task_id="stop").expand_kwargs(find())
    """)

    assert {name: state for name, state in run.states.items() if name != "find"} == {
        "stop[0]": "success",
        "stop[1]": "failed",
        "stop[2]": "failed",
    }
    assert stops(iotda_emulator) == [(TASK, {"targets": ["device-00002"]})]


@rollouts(TASK, OTHER)
@pytest.mark.parametrize(
    "mapped",
    [
        "partial(task_id='stop').expand(batch_task_id=[TASK, OTHER])",
        "partial(task_id='stop', targets=None).expand(batch_task_id=[TASK, OTHER])",
        "partial(task_id='stop', targets=None).expand_kwargs(found)",
        "partial(task_id='stop').expand_kwargs([{'batch_task_id': t} for t in (TASK, OTHER)])",
    ],
    ids=["left out", "None", "None over an XCom", "left out of literal rows"],
)
def test_whole_tasks_are_stopped_mapped_where_the_dag_says_so(iotda_emulator, run_tasks, mapped):
    mapped = mapped.replace("'stop'", "'stop', poll_interval=0.1")
    run = run_tasks(f"""
        @task
        def find():
            return [{{"batch_task_id": TASK}}, {{"batch_task_id": OTHER}}]
        found = find()
        StopBatchTaskOperator.{mapped}
    """)

    assert (run.states["stop[0]"], run.states["stop[1]"]) == ("success", "success")
    assert run.xcom("stop", map_index=1)["status"] == "Stopped"
    assert run.xcom("stop", map_index=1)["succeeded"] == 5
    assert sorted(stops(iotda_emulator)) == [(TASK, {}), (OTHER, {})]


@rollouts(TASK, OTHER)
def test_in_a_mapped_task_group_targets_left_out_mean_the_whole_task_and_mapped_none_does_not(
    iotda_emulator, run_tasks
):
    run = run_tasks("""
        @task_group
        def whole(batch_task_id):
            StopBatchTaskOperator(task_id="stop", batch_task_id=batch_task_id, poll_interval=0.1)
        @task_group
        def some(targets):
            StopBatchTaskOperator(task_id="stop", batch_task_id=OTHER, targets=targets)
        whole.expand(batch_task_id=[TASK])
        some.expand(targets=[None, ["device-00002"]])
    """)

    assert run.states == {
        "whole.stop[0]": "success",
        "some.stop[0]": "failed",
        "some.stop[1]": "success",
    }
    assert sorted(stops(iotda_emulator)) == [(TASK, {}), (OTHER, {"targets": ["device-00002"]})]


@rollouts(TASK)
@pytest.mark.parametrize(("reaction", "state"), [("fail", "failed"), ("skip", "skipped")])
def test_xcoms_of_a_stop_that_fails_or_skips_are_kept_and_branched_on(
    iotda_emulator, run_tasks, reaction, state
):
    run = run_tasks(f"""
        stop = StopBatchTaskOperator(
            task_id="stop", batch_task_id=TASK, targets=["{STRANGER}", "{IN_TASK}"],
            on_target_failure="{reaction}", retries=2,
        )
        branch = BranchOnTargetFailuresOperator(
            task_id="branch", trigger_rule="all_done",
            failures="{{{{ ti.xcom_pull(task_ids='stop', key='failed_targets') }}}}",
            by_error_code={{"IOTDA.014219": "forget"}}, if_some="repair",
        )
        stop >> branch >> [EmptyOperator(task_id=t) for t in ("forget", "repair")]
    """)

    assert run.states == {
        "stop": state,
        "branch": "success",
        "forget": "success",
        "repair": "skipped",
    }
    assert run.xcom("stop")["failed"] == 1
    assert run.xcom("stop", "succeeded_targets") == [IN_TASK]
    assert len(stops(iotda_emulator)) == 1, "failing on targets is not retried"


@rollouts(TASK)
def test_a_timeout_keeps_the_xcoms_and_fails(iotda_emulator, run_tasks):
    iotda_emulator.add_fault("status", call="stop_batch_task", status=200, body={})
    run = run_tasks("""
        StopBatchTaskOperator(
            task_id="stop", batch_task_id=TASK, timeout=0.2, poll_interval=0.1
        )
    """)

    assert run.states == {"stop": "failed"}
    assert run.xcom("stop")["outcome"] == "stopping"
    assert run.xcom("stop", "failed_targets") == []
    assert "raise timeout to wait for it" in run.log


@rollouts(TASK)
def test_a_long_list_of_failures_is_bounded_in_xcom_whole_in_the_file_and_branched_on_as_all(
    iotda_emulator, run_tasks, tmp_path
):
    path = tmp_path / "failed.jsonl"
    run = run_tasks(f"""
        stop = StopBatchTaskOperator(
            task_id="stop", batch_task_id=TASK, targets=[f"stranger-{{n}}" for n in range(1500)],
            max_xcom_targets=5000, report_path="file://{path}",
        )
        branch = BranchOnTargetFailuresOperator(
            task_id="branch",
            failures="{{{{ ti.xcom_pull(task_ids='stop', key='failed_targets') }}}}",
            requested="{{{{ ti.xcom_pull(task_ids='stop')['requested'] }}}}",
            failed="{{{{ ti.xcom_pull(task_ids='stop')['failed'] }}}}",
            if_some="repair", if_all="alarm",
        )
        stop >> branch >> [EmptyOperator(task_id=t) for t in ("repair", "alarm")]
    """)

    assert len(run.xcom("stop", "failed_targets")) == 1024, "core.max_map_length"
    assert run.xcom("stop")["failed_truncated"] is True
    assert len(path.read_text().splitlines()) == run.xcom("stop")["failed"] == 1500
    assert (run.states["alarm"], run.states["repair"]) == ("success", "skipped")
    assert len(stops(iotda_emulator)) == 15


@rollouts(TASK, batch_tasks=[{"task_id": TASK, "task_type": "moduleUpgrade"}])
def test_a_module_upgrade_an_unknown_task_and_an_impossible_id_fail_with_one_line_each(
    iotda_emulator, run_tasks
):
    run = run_tasks("""
        for name, batch_task_id in {"module": TASK, "unknown": OTHER, "path": "../x"}.items():
            StopBatchTaskOperator(task_id=name, batch_task_id=batch_task_id)
        StopBatchTaskOperator(task_id="connection", batch_task_id=TASK, iotda_conn_id="nowhere")
    """)

    assert set(run.states.values()) == {"failed"}
    assert stops(iotda_emulator) == []
    for line in (
        f"Batch task {TASK} is a moduleUpgrade: the platform stops only",
        f"Could not read batch task {OTHER}: HTTP 404: IOTDA.014217",
        "batch_task_id must be 1 to 24 characters of a-f and 0-9",
        "There is no connection 'nowhere': create it",
    ):
        assert line in run.log


@rollouts(TASK)
def test_no_secret_is_logged_or_pushed(iotda_emulator, run_tasks):
    run = run_tasks("""
        StopBatchTaskOperator(task_id="stop", batch_task_id=TASK, poll_interval=0.1)
        StopBatchTaskOperator(task_id="absent", batch_task_id=OTHER)
    """)

    assert run.states == {"stop": "success", "absent": "failed"}
    assert iotda_emulator.airflow_connection["password"] not in run.log + str(run.xcoms)
