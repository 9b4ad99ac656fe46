"""Devices get the old package back after a stopped release: exactly those that it has updated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS
from airflow.utils.state import TaskInstanceState
from tests.system.pipeline import PACKAGE, VERSION

from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.operators.release.questions import GIVE_BACK, LEAVE

OLD, WORSE, FIX = "01d", "bad", "f1"
FIXED = "2.0.1"
CAN_WAIT = hasattr(TaskInstanceState, "AWAITING_INPUT")
DAG = "roll_back_release"
#: 240 devices: 12 run the new version before, 24 ran yet another one, and 40 fail.
FLEET: dict[str, Any] = {
    "devices": 240,
    "fw_version": "1.0.0",
    "segments": [
        {"name": "new", "count": 12, "fw_version": VERSION},
        {"name": "older", "count": 24, "fw_version": "0.9.0"},
        {"name": "weak", "count": 40, "failure_rate": 1},
    ],
    "packages": [
        {"package_id": PACKAGE, "version": VERSION},
        {"package_id": OLD, "version": "1.0.0", "failure_rate": 0},
        {"package_id": WORSE, "version": "1.0.1", "failure_rate": 1},
        {"package_id": FIX, "version": FIXED, "failure_rate": 0},
    ],
    # Devices that install when the release is stopped go on, and update afterwards.
    "switches": {"stop_installing": "detach"},
    "success_after": {"distribution": "uniform", "min": 20, "max": 120},
    "layout": "mixed",
}


@pytest.fixture
def stopped(
    fleet: Any, release: Any, run_dag: Any, way_back_file: Path
) -> Callable[..., tuple[Any, Any]]:
    """A release that was stopped for the firmware's fault; its platform and its run."""

    def run(**params: Any) -> tuple[Any, Any]:
        fleet(devices=1)
        # Airflow gets to know the DAG by a run that ends at once.
        run_dag(way_back_file, conf={"release_run_id": "none", "package_id": OLD, "how": HOW[-1]})
        platform = fleet(**FLEET)
        run = release(waves="60%, 100%", tolerated_rate=0.02, **params)
        platform.emulator.advance(600)  # whoever was installing at the stop is done
        return platform, run

    return run


HOW = ["ask", "at once"] if AIRFLOW_V_3_1_PLUS else ["at once"]


def started(run_id: str) -> dict[str, Any]:
    """The conf of the way back that a release has started; empty: none."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session

    with create_session() as session:
        found = session.query(DagRun).filter_by(dag_id=DAG, run_id=f"of__{run_id}").all()
        return dict(found[0].conf) if found else {}


def targets(platform: Any, package_id: str) -> set[str]:
    """All devices of the batch tasks that were created for a package."""
    bodies = [entry["body"] for entry in platform.emulator.journal("create_batch_task")]
    return {
        device
        for body in bodies
        if body["document"]["package_ids"] == [package_id]
        for device in body["targets"]
    }


def test_exactly_those_that_the_release_has_updated_go_back(
    stopped: Any, run_dag: Any, way_back_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the worker dies in the middle of it: before it confirms devices, and after."""
    platform, failed = stopped(rollback="at once", rollback_package_id=OLD)
    assert failed.xcom("rollout.outcome")["verdict"] == "breached", failed.log[-3000:]
    assert failed.states["way_back"] == "success"
    conf = started(failed.run_id)
    assert (conf["release_run_id"], conf["package_id"]) == (failed.run_id, OLD)
    now = platform.versions()
    new_before = {f"device-{n:05d}" for n in range(240)} - targets(platform, PACKAGE)
    updated = {d for d, runs in now.items() if runs == VERSION} & targets(platform, PACKAGE)
    assert updated, "some devices run the new version"
    rows = platform.rows(*failed.xcom("rollout.outcome")["batch_task_ids"])
    assert {rows[device][0] for device in updated} == {"Success", "Stopped"}, "some after the stop"
    before_it = {device: now[device] for device in now if device not in updated}

    calls, released = 0, len(platform.confirmed)
    really_confirm = IoTDAHook.confirm_batch_task

    def confirm(self: IoTDAHook, task_id: str, targets: Any = None) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise RuntimeError("the worker dies")
        answer = really_confirm(self, task_id, targets)
        if calls == 4:
            raise RuntimeError("the worker dies")
        return answer

    monkeypatch.setattr(IoTDAHook, "confirm_batch_task", confirm)
    back = run_dag(way_back_file, conf=conf)

    assert calls > 4
    assert sorted(platform.confirmed[released:]) == sorted(updated), "each is confirmed once"
    found = back.xcom("find")
    assert back.state == "success", (back.xcom("report"), back.xcom("way_back.outcome"))
    assert set(back.xcom("find", "targets")) == updated
    assert targets(platform, OLD) == updated, "nobody else got the old package"
    after = platform.versions()
    assert {after[device] for device in updated} == {"1.0.0"}
    assert {device: after[device] for device in before_it} == before_it, "nobody else has changed"
    assert {after[d] for d in new_before if now[d] == VERSION} == {VERSION}
    assert found["counts"]["had_it_before"] == 0, "the check has left them out"
    assert 0 < found["from_another"] < len(updated)
    assert set(back.xcom("find", "from_another")) < updated
    report = back.xcom("report")
    assert (report["done"], report["running"]) == (True, len(updated))


@pytest.fixture
def read_beside(airflow_database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a trigger see and give answers, as in a triggerer.

    Before Airflow 3.3 a trigger waits for the answer, and in ``dag.test()`` it gets none.
    """
    if CAN_WAIT or not AIRFLOW_V_3_1_PLUS:
        return
    from airflow.models.hitl import HITLDetail
    from airflow.providers.standard.triggers import hitl
    from airflow.utils.session import create_session

    def detail(ti_id: Any, **response: Any) -> Any:
        with create_session() as session:
            found: Any = session.get(HITLDetail, str(ti_id))
            for name, value in response.items():
                setattr(found, name, value)
            names = ("response_received", "responded_at", "chosen_options", "params_input")
            by = found.responded_by and SimpleNamespace(**found.responded_by)
            facts = {name: getattr(found, name) for name in names}
            return SimpleNamespace(**facts, responded_by_user=by)

    def give(**response: Any) -> Any:
        return detail(**response, responded_at=hitl.utcnow())

    monkeypatch.setattr(hitl, "get_hitl_detail_content_detail", detail)
    monkeypatch.setattr(hitl, "update_hitl_detail_response", give)


@contextmanager
def a_day_passes(when_asked: list[Callable[[], object]]) -> Iterator[list[timedelta]]:
    """Lets the time for an answer pass, and Airflow look: for how long the question was open."""
    passed: list[timedelta] = []
    if not CAN_WAIT:  # its trigger looks
        from airflow.providers.standard.triggers import hitl

        really_now, really_run = hitl.utcnow, hitl.HITLTrigger.run
        with pytest.MonkeyPatch.context() as patch:

            def run(self: Any) -> Any:
                passed.append(self.timeout_datetime - really_now())
                patch.setattr(hitl, "utcnow", lambda: self.timeout_datetime + timedelta(1))
                return really_run(self)

            patch.setattr(hitl.HITLTrigger, "run", run)
            yield passed
        return

    from airflow.jobs.job import Job
    from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    scheduler = SchedulerJobRunner(Job())

    def pass_it() -> None:
        with create_session() as session:
            waits = session.query(TaskInstance).filter_by(dag_id=DAG, state="awaiting_input").all()
            for ti in waits:
                passed.append(ti.trigger_timeout - ti.start_date)
                ti.trigger_timeout = ti.start_date
        scheduler.check_awaiting_input_timeouts()

    when_asked.append(pass_it)
    yield passed
    when_asked.remove(pass_it)


@pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="Airflow 2 can't ask")
def test_nothing_is_done_without_a_persons_yes_and_an_old_package_that_fails_is_stopped(
    stopped: Any,
    run_dag: Any,
    way_back_file: Path,
    request: pytest.FixtureRequest,
    read_beside: None,
    when_asked: list[Callable[[], object]],
) -> None:
    platform, failed = stopped(rollback="ask", rollback_package_id=OLD)
    conf = started(failed.run_id)
    assert conf["how"] == "ask"
    now = platform.versions()
    assert VERSION in {now[device] for device in targets(platform, PACKAGE)}

    with a_day_passes(when_asked) as passed:
        unanswered = run_dag(way_back_file, conf=conf)

    (hours,) = passed
    assert timedelta(hours=23.5) < hours < timedelta(hours=25)
    assert unanswered.state == "success", unanswered.xcom("report")
    assert unanswered.xcom("report")["answer"] == {"option": LEAVE, "by": None}
    skipped = {unanswered.states[name] for name in ("way_back.plan", "reconcile")}
    assert skipped == {"skipped"}
    assert (platform.versions(), targets(platform, OLD)) == (now, set())
    assert "QUESTION OPEN: May" in unanswered.log, "people are told of it"
    assert "nobody has answered in time" in unanswered.log

    # An old package that fails is stopped, too.
    updated = {device for device in targets(platform, PACKAGE) if now[device] == VERSION}
    released = len(platform.confirmed)
    back = run_dag(way_back_file, conf={**conf, "how": "at once", "package_id": WORSE})

    assert back.state == "failed"
    outcome = back.xcom("way_back.outcome")
    assert outcome["verdict"] == "breached"
    assert 0 < outcome["exposed"] < len(updated) / 2
    first = set(back.xcom("way_back.plan", "wave_1"))
    assert targets(platform, WORSE) == first < updated, "the second wave never begins"
    confirmed = platform.confirmed[released:]
    assert len(confirmed) == len(set(confirmed)) == outcome["exposed"]
    assert set(confirmed) <= first
    assert platform.versions() == now
    assert not back.xcom("report")["done"]

    if not CAN_WAIT:
        return  # ``dag.test()`` and Airflow's API get in each other's way

    answer = request.getfixturevalue("answer")
    answer("ask", LEAVE, dag_id=DAG)
    refused = run_dag(way_back_file, conf=conf)
    assert refused.state == "success", refused.xcom("report")
    assert refused.xcom("report")["answer"]["option"] == LEAVE

    assert (platform.versions(), targets(platform, OLD)) == (now, set())

    # A fix is released to half of them while the question is open.
    fixed = set(sorted(updated)[::2])

    def release_fix() -> None:
        with IoTDAHook() as hook:
            hook.create_batch_task(
                task_name="fix",
                task_type="firmwareUpgrade",
                targets=sorted(fixed),
                document={"package_ids": [FIX]},
            )
        platform.emulator.advance(600)

    answer("ask", GIVE_BACK, dag_id=DAG, before=release_fix)
    agreed = run_dag(way_back_file, conf=conf)
    assert agreed.state == "success", agreed.xcom("report")
    assert targets(platform, OLD) == updated - fixed, "nobody is taken off the fix"
    back = dict.fromkeys(updated, "1.0.0") | dict.fromkeys(fixed, FIXED)
    assert platform.versions() == now | back
    assert (agreed.xcom("find")["devices"], agreed.xcom("find_again")["devices"]) == (
        len(updated),
        len(updated - fixed),
    )
