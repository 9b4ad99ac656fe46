"""The guard DAGs as they are shipped, in real Airflow."""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pendulum
import pytest
from tests.system.asset_events import events

from iotda_provider.airflow_support.guard_runs import VARIABLE, guard_run_id
from iotda_provider.hooks.iotda import IoTDAHook

DAGS = Path(__file__).resolve().parents[3] / "dags"
TASK, OTHER = "0123456789abcdef01234567", "0123456789abcdef01234568"
OF_RELEASE = "0123456789abcdef01234569"
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
GUARDED = (
    *("guard", "tell", "verdict", "collect_failures", "why_did_they_fail", "tell_reasons"),
    "outcome",
)
SECRET = "a secret of this test"


@pytest.fixture
def guard_one(
    time_passes: None, iotda_connection: dict[str, Any], run_dag: Any, tmp_path: Path
) -> Any:
    """Runs ``guard_one_rollout``, which looks more often here, with changes to its text."""
    file = tmp_path / "rollout_guard.py"

    def run(*changes: tuple[str, str], **conf: Any) -> Any:
        text = (DAGS / "rollout_guard.py").read_text()
        for before, now in (("SECONDS_BETWEEN_LOOKS = 5", "SECONDS_BETWEEN_LOOKS = 0.1"), *changes):
            assert text.count(before) == 1, before
            text = text.replace(before, now)
        file.write_text(text)
        return run_dag(file, "guard_one_rollout", {"batch_task_id": TASK, **conf})

    return run


@pytest.mark.iotda_emulator(scenario={**BAD, "failure_mix": {BROKEN: 1}}, speed=0)
def test_bad_firmware_is_stopped_and_the_reasons_are_told(guard_one):
    run = guard_one()

    assert run.state == "success"
    assert {run.states[name] for name in (*GUARDED, "report_firmware")} == {"success"}
    assert run.states["what_to_retry"] == run.states["retry_environmental"] == "skipped"
    assert run.states["all_is_well"] == "skipped"
    assert run.xcom("guard")["stop"]["outcome"] == "stopped"
    assert f"REASONS: Rollout {TASK}: " in run.log
    assert "device(s): IOTDA.005010 Device upgrade failed: installation failed." in run.log
    assert len(run.xcom("report_firmware")) == len(run.xcom("collect_failures"))
    assert run.states["announce_breach"] == "success"
    if not version("apache-airflow").startswith("2."):  # whose dag.test() keeps no events
        summary = run.xcom("guard")["summary"]
        assert events(run) == [{"batch_task_id": TASK, "summary": summary}]


RETRIED = {**ROLLOUT, "task_policy": {"retry_count": 5, "retry_interval": 60}}


@pytest.mark.iotda_emulator(scenario={**BAD, "failure_rate": 1, "batch_tasks": [RETRIED]}, speed=0)
def test_bad_firmware_that_the_platform_retries_is_stopped_by_its_failed_attempts(guard_one):
    run = guard_one()

    assert run.state == "success"
    result = run.xcom("guard")
    assert (result["verdict"], result["stop"]["outcome"]) == ("breached", "stopped")
    assert result["evidence"]["failed"] == 0
    assert 0 < result["evidence"]["attempted"] <= result["evidence"]["devices"] < 60
    assert f"{result['evidence']['attempted']} have a failed attempt" in run.log


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


NO_RETRIES = '{"retries": 10,', '{"retries": 0,'


@pytest.mark.iotda_emulator(scenario={**BAD, "failure_mix": {BROKEN: 1}}, speed=0)
def test_people_hear_of_a_stop_where_its_failures_can_not_be_collected(guard_one):
    collects = 'task_id="collect_failures", batch_task_id='
    run = guard_one(NO_RETRIES, (f"{collects}rollout", f'{collects}"no id"'))

    assert run.state == "failed"
    assert run.states["collect_failures"] == "failed"
    assert {run.states[name] for name in ("guard", "tell", "tell_reasons")} == {"success"}
    reasons = run.log[run.log.index("REASONS: ") :]
    assert "Which devices failed, and why, could not be found out" in reasons
    assert run.xcom("guard")["summary"] in reasons


@pytest.mark.iotda_emulator(scenario={"devices": 5}, speed=0)
def test_people_hear_of_a_guard_that_left_no_result(guard_one):
    guards = 'task_id="guard",\n        batch_task_id='
    run = guard_one(NO_RETRIES, (f"{guards}rollout", f'{guards}"no id"'))

    assert run.state == "failed"
    assert run.states["guard"] == "failed"
    assert {run.states[name] for name in ("tell", "tell_reasons")} == {"success"}
    assert f"MAY BE UNGUARDED: The guard of rollout {TASK}" in run.log
    assert "Its guard has left no result." in run.log


@pytest.mark.iotda_emulator(
    scenario={"devices": 50, "success_after": 30, "batch_tasks": [ROLLOUT]}, speed=0
)
def test_a_good_rollout_runs_to_its_end(guard_one):
    run = guard_one()

    assert run.state == "success"
    assert run.states["announce_breach"] == "skipped"
    assert events(run) == []
    assert run.states["all_is_well"] == run.states["outcome"] == "success"
    assert run.states["collect_failures"] == run.states["tell_reasons"] == "skipped"


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
    iotda_emulator, guard_runs, look
):
    iotda_emulator.advance(60)
    first = look()
    assert first.states["start_guard[0]"] == first.states["start_guard[1]"] == "success"
    assert guard_runs() == {run_id(TASK): "queued", run_id(OTHER): "queued"}

    second = look()

    assert second.xcom("running_rollouts") == []
    assert second.states == {"running_rollouts": "success", "start_guard": "skipped"}
    assert len(guard_runs()) == 2


@pytest.mark.iotda_emulator(
    scenario={
        "devices": 20,
        "success_after": 9000,
        "batch_tasks": [{**ROLLOUT, "targets": 10}, {**ROLLOUT, "targets": 10, "task_id": OTHER}],
    },
    speed=0,
)
def test_a_guard_that_has_ended_is_replaced_while_its_rollout_runs(guard_runs, look, monkeypatch):
    look()
    assert guard_runs() == {run_id(TASK): "queued", run_id(OTHER): "queued"}
    guard_runs.become(run_id(TASK), "failed")
    guard_runs.become(run_id(OTHER), "running")
    run = look()
    assert guard_runs() == {
        run_id(TASK): "failed",
        run_id(TASK, 2): "queued",
        run_id(OTHER): "running",
    }
    assert f"{run_id(TASK, 2)} takes its place" in run.log

    # It runs again, say, because somebody has retried its failed devices.
    guard_runs.become(run_id(TASK, 2), "success")
    look()
    assert guard_runs()[run_id(TASK, 3)] == "queued"

    for number in range(3, 7):
        guard_runs.become(run_id(TASK, number), "failed")
        run = look()
    assert set(guard_runs()) == {run_id(TASK, n) for n in range(1, 7)} | {run_id(OTHER)}
    assert f"{TASK} (rollout) IS NOT GUARDED: 5 guard runs or more have failed" in run.log
    assert "The next one starts in 60 minutes." in run.log
    assert f'trigger guard_one_rollout with {{"batch_task_id": "{TASK}"}}.' in run.log
    assert f"{OTHER} (rollout) IS NOT" not in run.log

    # Nobody has to clear any of them: in time the next one starts by itself.
    now = time.time()
    clock = SimpleNamespace(time=lambda: now + 3600, monotonic=time.monotonic)
    monkeypatch.setattr("iotda_provider.operators.guard_runs.time", clock)
    look()
    assert guard_runs()[run_id(TASK, 7)] == "queued"
    run = look()
    assert "IS NOT GUARDED" not in run.log


@pytest.mark.iotda_emulator(
    scenario={
        "devices": 40,
        "success_after": 9000,
        "batch_tasks": [
            {**ROLLOUT, "targets": 10},
            {**ROLLOUT, "targets": 10, "task_id": OTHER, "need_confirm": True},
            {
                **ROLLOUT,
                "targets": 10,
                "task_id": OF_RELEASE,
                "task_name": f"release_afr{'A' * 26}",
            },
        ],
    },
    speed=0,
)
def test_a_held_rollout_gets_its_guard_once_a_device_has_started_and_a_releases_none(
    iotda_emulator, guard_runs, look
):
    iotda_emulator.advance(60)
    run = look()
    assert set(guard_runs()) == {run_id(TASK)}
    assert "Left out: 1 of releases" in run.log
    assert "1 of which every device waits to be confirmed" in run.log

    with IoTDAHook() as hook:
        first = next(hook.iter_subtasks(OTHER)).target
        hook.confirm_batch_task(OTHER, [first])
    iotda_emulator.advance(60)
    look()

    assert set(guard_runs()) == {run_id(TASK), run_id(OTHER)}


@pytest.mark.iotda_emulator(
    scenario={"devices": 20, "success_after": 9000, "batch_tasks": [{**ROLLOUT, "targets": 10}]},
    speed=0,
)
def test_a_run_that_somebody_has_started_by_hand_is_not_taken_for_the_guard(guard_runs, look):
    for name in (f"guard__{TASK}", f"guard__{TASK}__2"):
        guard_runs.add(name, {"batch_task_id": OTHER, "tolerated_rate": 0.2})

    look()

    assert guard_runs()[run_id(TASK)] == "queued"
    assert guard_runs.conf(run_id(TASK)) == {"batch_task_id": TASK}


@pytest.mark.iotda_emulator(
    scenario={"devices": 20, "success_after": 9000, "batch_tasks": [{**ROLLOUT, "targets": 10}]},
    speed=0,
)
def test_a_rollout_that_waits_for_its_guard_for_too_long_is_an_error(guard_runs, look, monkeypatch):
    now = time.time()
    for minutes, complains in ((0, False), (2, False), (4, True)):
        monkeypatch.setattr(
            "iotda_provider.operators.guard_runs.time",
            SimpleNamespace(
                time=lambda minutes=minutes: now + 60 * minutes, monotonic=time.monotonic
            ),
        )
        run = look()  # its run is there from the first look on, and nobody watches in it
        assert ("HAS HAD NO GUARD FOR 4 MINUTES" in run.log) is complains


@pytest.mark.iotda_emulator(
    scenario={"devices": 20, "success_after": 9000, "batch_tasks": [{**ROLLOUT, "targets": 10}]},
    speed=0,
)
@pytest.mark.parametrize("minutes", [0, 60])
def test_a_guard_whose_triggerer_is_dead_is_an_error(guard_runs, look, minutes):
    look()
    guard_runs.watch(run_id(TASK), due=pendulum.now("UTC").subtract(minutes=minutes))
    run = look()
    assert (f"{TASK} (rollout) MAY BE UNGUARDED: its guard is overdue" in run.log) is (minutes > 0)


@pytest.mark.parametrize(
    ("dag_id", "conf"),
    [
        ("guard_one_rollout", {"batch_task_id": TASK, "tolerated_rate": 0.999}),
        ("guard_one_rollout", {"batch_task_id": TASK, "tolerated_attempt_rate": 0.999}),
        ("guard_one_rollout", {"batch_task_id": TASK, "false_alarm": 0.999}),
        ("guard_one_rollout", {"batch_task_id": TASK, "false_alarm": 1e-300}),
    ],
)
def test_the_form_takes_no_guard_that_tolerates_anything(dag_id, conf, run_dag):
    with pytest.raises(Exception, match=r"0\.999|1e-300"):
        run_dag(DAGS / "rollout_guard.py", dag_id, conf)


def run_id(task_id, number=1):
    """The id of a guard run, as this test's secret makes it."""
    return guard_run_id(SECRET, task_id, number)


class GuardRuns:
    """The guard runs in Airflow's database; called, their states by id."""

    def __call__(self):
        with self._session() as (session, DagRun):
            found = session.query(DagRun.run_id, DagRun.state).filter(self._ours(DagRun))
            return {row.run_id: str(getattr(row.state, "value", row.state)) for row in found}

    def become(self, run_id, state):
        with self._session() as (session, DagRun):
            found = session.query(DagRun).filter(self._ours(DagRun), DagRun.run_id == run_id)
            found.update({"state": state}, synchronize_session=False)

    def watch(self, run_id, due):
        """Defer the guard of a run, as its last record says."""
        from airflow.models import taskinstance, xcom

        row, is_2 = taskinstance.TaskInstance, version("apache-airflow").startswith("2.")
        push = xcom.XCom.set if is_2 else partial(xcom.XComModel.set, serialize=False)
        ids = {"dag_id": "guard_one_rollout", "run_id": run_id, "task_id": "guard"}
        self.become(run_id, "running")
        with self._session() as (session, _):
            session.query(row).filter_by(**ids).one().state = "deferred"
        push(key="live", value={"due": due.isoformat()}, map_index=-1, **ids)

    def forget(self):
        with self._session() as (session, DagRun):
            session.query(DagRun).filter(self._ours(DagRun)).delete(synchronize_session=False)

    def conf(self, run_id):
        with self._session() as (session, DagRun):
            found = session.query(DagRun).filter(self._ours(DagRun), DagRun.run_id == run_id)
            return found.one().conf

    def add(self, run_id, conf):
        """Start one, as a person does who picks its id."""
        from airflow.api.common.trigger_dag import trigger_dag

        more = {"replace_microseconds": False}
        if not version("apache-airflow").startswith("2."):
            from airflow.utils.types import DagRunTriggeredByType

            more["triggered_by"] = DagRunTriggeredByType.TEST
        trigger_dag(dag_id="guard_one_rollout", run_id=run_id, conf=conf, **more)

    @staticmethod
    def _ours(DagRun):
        from sqlalchemy import and_

        return and_(DagRun.dag_id == "guard_one_rollout", DagRun.run_id.like("guard%"))

    @staticmethod
    @contextmanager
    def _session():
        from airflow.models.dagrun import DagRun
        from airflow.utils.session import create_session

        with create_session() as session:
            yield session, DagRun


@pytest.fixture
def guard_runs(airflow_database):
    """The guard runs of this test, whose ids are made with a secret that it knows."""
    from airflow.models.variable import Variable

    Variable.set(VARIABLE, SECRET)
    if version("apache-airflow").startswith("2."):  # its dag.test() registers the one DAG only
        from airflow.models.dagbag import DagBag

        DagBag(DAGS / "rollout_guard.py", include_examples=False).sync_to_db()
    runs = GuardRuns()
    runs.forget()
    yield runs
    runs.forget()
    Variable.delete(VARIABLE)


@pytest.fixture
def look(iotda_connection, run_dag):
    """Runs ``rollout_guard`` once."""
    return partial(run_dag, DAGS / "rollout_guard.py", "rollout_guard")
