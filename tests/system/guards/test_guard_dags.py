"""The guard DAGs as they are shipped, in real Airflow."""

from __future__ import annotations

from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

DAGS = Path(__file__).resolve().parents[3] / "dags"
TASK, OTHER = "0123456789abcdef01234567", "0123456789abcdef01234568"
PACKAGE = {"package_ids": ["32822e5744a45ede319d2c50"]}
ROLLOUT = {"task_id": TASK, "task_name": "rollout", "targets": "all", "document": PACKAGE}
BROKEN = "IOTDA.005010|Device upgrade failed: installation failed"
OFFLINE = "IOTDA.014016|Operation not allowed. The device is not online."
BAD: dict[str, Any] = {
    "devices": 300,
    "failure_rate": 0.4,
    "failure_after": 5,
    "dispatch_rate": 1.0,
    "batch_tasks": [ROLLOUT],
}
GUARDED = "guard", "verdict", "collect_failures", "why_did_they_fail", "open_ticket", "outcome"


@pytest.fixture
def guard_one(
    time_passes: None, iotda_connection: dict[str, Any], run_dag: Any, tmp_path: Path
) -> Any:
    """Runs ``guard_one_rollout``, which looks more often here."""
    text = (DAGS / "rollout_guard.py").read_text()
    file = tmp_path / "rollout_guard.py"
    file.write_text(text.replace("SECONDS_BETWEEN_LOOKS = 5", "SECONDS_BETWEEN_LOOKS = 0.1"))

    def run(**conf: Any) -> Any:
        return run_dag(file, "guard_one_rollout", {"batch_task_id": TASK, **conf})

    return run


@pytest.mark.iotda_emulator(scenario={**BAD, "failure_mix": {BROKEN: 1}}, speed=0)
def test_bad_firmware_is_stopped_ticketed_and_reported(guard_one):
    run = guard_one()

    assert run.state == "success"
    assert {run.states[name] for name in (*GUARDED, "report_firmware")} == {"success"}
    assert run.states["what_to_retry"] == run.states["retry_environmental"] == "skipped"
    assert run.states["all_is_well"] == "skipped"
    assert run.xcom("guard")["stop"]["outcome"] == "stopped"
    assert "TICKET" in run.log
    assert len(run.xcom("report_firmware")) == len(run.xcom("collect_failures"))


@pytest.mark.iotda_emulator(scenario={**BAD, "failure_mix": {OFFLINE: 2, BROKEN: 1}}, speed=0)
def test_environmental_failures_are_tried_again_when_a_person_confirms(guard_one, iotda_emulator):
    run = guard_one()

    assert {run.states[name] for name in ("report_firmware", "what_to_retry")} == {"success"}
    again = run.xcom("retry_environmental")
    rows = run.xcom("collect_failures")
    environmental = {row["target"] for row in rows if row["failure_class"] == "environment"}
    assert set(run.xcom("what_to_retry")["targets"]) == environmental
    assert again["progress"]["waiting"] == len(environmental)
    assert again["task_name"].startswith(f"again_{TASK}")
    world = iotda_emulator.instance.present()
    assert world.task(again["batch_task_id"]).need_confirm


@pytest.mark.iotda_emulator(
    scenario={"devices": 50, "success_after": 30, "batch_tasks": [ROLLOUT]}, speed=0
)
def test_a_good_rollout_runs_to_its_end(guard_one):
    run = guard_one()

    assert run.state == "success"
    assert run.states["all_is_well"] == run.states["outcome"] == "success"
    assert run.states["collect_failures"] == run.states["open_ticket"] == "skipped"


@pytest.mark.iotda_emulator(scenario={"devices": 5}, speed=0)
def test_a_rollout_that_is_gone_is_told_and_fails_nothing(guard_one):
    run = guard_one()

    assert run.xcom("guard")["verdict"] == "lost"
    assert run.states["who_has_deleted_it"] == run.states["outcome"] == "success"


@pytest.mark.iotda_emulator(
    scenario={
        "devices": 30,
        "success_after": 9000,
        "batch_tasks": [
            {**ROLLOUT, "targets": 10},
            {**ROLLOUT, "targets": 10, "task_id": OTHER, "task_type": "softwareUpgrade"},
            {"task_type": "moduleUpgrade", "targets": 10},
        ],
    },
    speed=0,
)
def test_every_running_rollout_gets_one_guard_however_many_runs_overlap(
    iotda_emulator, iotda_connection, run_dag
):
    iotda_emulator.advance(60)
    _register_both_dags()
    _forget_guard_runs()
    for _ in range(2):
        run = run_dag(DAGS / "rollout_guard.py", "rollout_guard")
        assert run.xcom("running_rollouts") is not None

    assert sorted(_guard_runs()) == [f"guard__{TASK}", f"guard__{OTHER}"]


@pytest.mark.iotda_emulator(
    scenario={
        "devices": 20,
        "success_after": 9000,
        "batch_tasks": [{**ROLLOUT, "targets": 10}, {**ROLLOUT, "targets": 10, "task_id": OTHER}],
    },
    speed=0,
)
def test_a_guard_that_has_failed_for_good_is_replaced_while_its_rollout_runs(
    iotda_connection, run_dag
):
    _register_both_dags()
    _forget_guard_runs()
    look = partial(run_dag, DAGS / "rollout_guard.py", "rollout_guard")
    first, other = f"guard__{TASK}", f"guard__{OTHER}"

    look()
    assert _guard_runs() == {first: "queued", other: "queued"}
    _set_state(first, "failed")
    _set_state(other, "running")
    run = look()
    assert _guard_runs() == {first: "failed", f"{first}__2": "queued", other: "running"}
    assert f"{first}__2 takes its place" in run.log

    for state in ("queued", "running", "success"):
        _set_state(f"{first}__2", state)
        run = look()
        assert len(_guard_runs()) == 3
        # It runs again, say, because somebody has retried its failed devices.
        assert (f"{TASK} IS NOT GUARDED: it runs" in run.log) is (state == "success")

    for number in range(2, 6):
        _set_state(f"{first}__{number}", "failed")
        run = look()
    assert sorted(_guard_runs()) == [first, *(f"{first}__{n}" for n in range(2, 6)), other]
    assert f"{TASK} IS NOT GUARDED: 5 guard runs have failed." in run.log
    assert f"{OTHER} IS NOT" not in run.log


def _guard_runs():
    """The guard runs that there are, and their states."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session

    with create_session() as session:
        found = session.query(DagRun.run_id, DagRun.state).filter(
            DagRun.dag_id == "guard_one_rollout", DagRun.run_id.like("guard%")
        )
        return {row.run_id: str(getattr(row.state, "value", row.state)) for row in found}


def _set_state(run_id, state):
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session

    with create_session() as session:
        session.query(DagRun).filter(
            DagRun.dag_id == "guard_one_rollout", DagRun.run_id == run_id
        ).update({"state": state}, synchronize_session=False)


def _forget_guard_runs():
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session

    with create_session() as session:
        session.query(DagRun).filter(
            DagRun.dag_id == "guard_one_rollout", DagRun.run_id.like("guard%")
        ).delete(synchronize_session=False)


def _register_both_dags() -> None:
    """Airflow 2's ``dag.test()`` tells its database of the DAG that it runs only."""
    if version("apache-airflow").startswith("2."):
        from airflow.models.dagbag import DagBag

        DagBag(DAGS / "rollout_guard.py", include_examples=False).sync_to_db()


@pytest.mark.iotda_emulator(scenario={"devices": 5}, speed=0)
def test_the_event_driven_form_is_a_dag_on_airflow_3_and_nothing_before(iotda_connection, run_dag):
    if version("apache-airflow").startswith("2."):
        with pytest.raises(pytest.fail.Exception, match="has the DAGs \\[\\]"):
            run_dag(DAGS / "rollout_guard_event.py", "rollout_guard_event")
        return
    run = run_dag(DAGS / "rollout_guard_event.py", "rollout_guard_event")

    assert run.xcom("broken_rollouts") == []
    assert run.states["stop"] == "skipped"
