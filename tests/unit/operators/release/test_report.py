"""What people are told at the end of a release, and of a way back."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from airflow.providers.common.compat.notifier import BaseNotifier
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

from iotda_provider.operators.announce import AnnounceBreachOperator
from iotda_provider.operators.release.report import ReportReleaseOperator, ReportWayBackOperator

CHECK = {"kind": "firmware", "version": "2.0.0"}
PASSED = {"verdict": "released", "summary": "All waves have passed.", "batch_task_ids": ["a1"]}
BREACHED = {"verdict": "breached", "summary": "Too many failed.", "batch_task_ids": ["a1", "b2"]}
RUNS = {"summary": "100 devices run it.", "counts": {"firmware": 0}, "report_path": None}
FOUND = {"devices": 40, "old_version": "1.0.0", "summary": "40 devices go back."}
NO = {"option": "Leave them as they are", "by": "ann"}
SILENCE = {"option": "Leave them as they are", "by": None}


class Chat(BaseNotifier):
    """Keeps what people are told."""

    told: ClassVar[list[tuple[str, str]]] = []

    def notify(self, context: Any) -> None:
        """Keep it."""
        self.told.append((context["event"]["kind"], context["event"]["sentence"]))


@pytest.fixture
def run() -> Callable[..., SimpleNamespace]:
    """Runs an operator after others; what it says, pushes, and whether it fails."""

    def report(
        operator: Any, left: dict[str, Any], failed: tuple[str, ...] = (), **keys: Any
    ) -> SimpleNamespace:
        """``left``: what tasks that have succeeded return; ``keys``: ``task__key`` of others."""
        others = {tuple(name.split("__")): value for name, value in keys.items()}
        states = dict.fromkeys((*left, *(task for task, _ in others)), "success")
        states |= dict.fromkeys(failed, "failed")
        pushed: dict[str, Any] = {}

        def pull(task_ids: str, key: str = "return_value") -> Any:
            return left.get(task_ids) if key == "return_value" else others.get((task_ids, key))

        ti = SimpleNamespace(
            dag_id="d",
            run_id="r",
            task_id="report",
            map_index=-1,
            try_number=1,
            xcom_pull=pull,
            xcom_push=lambda key, value: pushed.update({key: value}),
            get_task_states=lambda dag_id, run_ids: {run_ids[0]: states},
        )
        rows = [SimpleNamespace(task_id=name, state=state) for name, state in states.items()]
        dag_run = SimpleNamespace(get_task_instances=lambda: rows)
        Chat.told.clear()
        try:
            operator.execute({"ti": ti, "dag_run": dag_run})
            error = None
        except AirflowFailException as failure:
            error = str(failure)
        ((kind, said),) = Chat.told
        assert kind == "report"
        assert error in (None, said)
        return SimpleNamespace(said=said, facts=pushed["return_value"], fails=error is not None)

    return report


@pytest.fixture
def release(run: Callable[..., SimpleNamespace]) -> Callable[..., SimpleNamespace]:
    return lambda left, **more: run(
        ReportReleaseOperator(task_id="report", package_id="5c8f", notifiers=[Chat()]), left, **more
    )


@pytest.fixture
def way_back(run: Callable[..., SimpleNamespace]) -> Callable[..., SimpleNamespace]:
    return lambda left, **more: run(
        ReportWayBackOperator(task_id="report", release_run_id="manual__1", notifiers=[Chat()]),
        left,
        **more,
    )


def test_an_announced_release_is_green(release: Any) -> None:
    told = release(
        {"check": CHECK, "rollout.outcome": PASSED, "reconcile": RUNS, "announce": "done"}
    )
    assert not told.fails
    assert told.said == (
        "Release of firmware 2.0.0 announced: released. All waves have passed. 100 devices run it."
    )
    assert told.facts == {
        **PASSED,
        "announced": True,
        "failed_tasks": [],
        "counts": {"firmware": 0},
    }


def test_a_refused_release_says_why_and_not_to_clear_anything(release: Any) -> None:
    told = release({}, failed=("check",), check__refused="There is no package 5c8f.")
    assert told.fails
    assert told.said == (
        "Release of package 5c8f NOT announced: refused before it began. There is no package 5c8f."
    )


def test_whatever_was_done_for_devices_is_told(release: Any) -> None:
    again = {"batch_task_ids": ["c3"], "devices": 7, "ended": False, "status": "Waitting"}
    told = release(
        {
            "check": CHECK,
            "rollout.outcome": BREACHED,
            "reconcile": {**RUNS, "counts": {"wave_not_begun": 300}, "report_path": "s3://b/r"},
            "quarantine": {"added": 5, "name": "quarantine_2.0.0"},
            "try_again": again,
            "way_back": None,
        },
        failed=("collect",),
    )
    assert told.fails
    for part in (
        "NOT announced: breached. Too many failed.",
        "300 device(s) of waves that never began are in no batch task",
        "and s3://b/r.",
        "FAILED: collect.",
        "See at the console what these batch tasks do: a1, b2.",
        "5 device(s) are in the group quarantine_2.0.0.",
        "Batch task c3 holds the 7 device(s)",
        "A run of roll_back_release",
    ):
        assert part in told.said
    assert told.facts["failed_tasks"] == ["collect"]


def test_a_batch_task_of_a_second_try_that_has_ended_holds_nobody(release: Any) -> None:
    again = {"batch_task_ids": ["c3", "d4"], "devices": 7, "ended": True, "status": "Stopped"}
    told = release({"check": CHECK, "rollout.outcome": BREACHED, "try_again": again})
    assert "Batch task c3 and d4 has ended already (Stopped)." in told.said


def test_a_dry_run_is_green_and_reports_the_preview(release: Any) -> None:
    preview = {"summary": "988 devices in 2 waves.", "devices": 988}
    told = release({"check": CHECK, "preview": preview})
    assert not told.fails
    assert told.said == "Dry run of the release of firmware 2.0.0. 988 devices in 2 waves."
    assert told.facts == preview


def test_a_way_back_is_green_only_if_all_its_devices_run_the_old_version(way_back: Any) -> None:
    left = {"find": FOUND, "way_back.outcome": PASSED, "reconcile": {**RUNS, "running": 40}}
    told = way_back(left)
    assert not told.fails
    assert told.said.startswith("The way back of manual__1: 40 of 40 device(s) run 1.0.0. ")
    assert told.facts["done"]
    assert way_back({**left, "reconcile": {**RUNS, "running": 39}}).fails
    assert way_back(left, failed=("at_rest",)).fails


def test_whoever_was_left_out_of_a_way_back_is_done_if_it_has_left_the_bad_version(
    way_back: Any,
) -> None:
    left = {"find": FOUND, "way_back.outcome": PASSED}
    after = {**RUNS, "running": 30, "left_out": {"already_current": 6, "runs_another_version": 4}}
    told = way_back({**left, "reconcile": after})
    assert not told.fails
    assert "36 of 40 device(s) run 1.0.0. 4 device(s) run another version by now" in told.said
    assert (told.facts["running"], told.facts["on_another_version"]) == (36, 4)

    after = {**RUNS, "running": 30, "left_out": {"already_current": 6, "held_elsewhere": 4}}
    told = way_back({**left, "reconcile": after})
    assert told.fails
    assert "Left out: 4 held elsewhere (the XCom left_out of the task reconcile)." in told.said


@pytest.mark.parametrize(("answer", "by"), [(NO, "ann"), (SILENCE, "nobody has answered in time")])
def test_a_no_is_no_failure(way_back: Any, answer: Any, by: str) -> None:
    told = way_back({"find": FOUND}, ask__answer=answer)
    assert not told.fails
    assert f"Nothing is done: Leave them as they are ({by})." in told.said
    assert (told.facts["done"], told.facts["answer"]) == (False, answer)


def test_after_a_yes_it_is_about_those_that_were_found_again(way_back: Any) -> None:
    yes = {"option": "Give the old package back", "by": "ann"}
    again = {**FOUND, "devices": 30, "summary": "30 devices go back."}
    left = {"find": FOUND, "find_again": again, "way_back.outcome": PASSED}
    told = way_back({**left, "reconcile": {**RUNS, "running": 30}}, ask__answer=yes)
    assert not told.fails
    assert "30 of 30 device(s) run 1.0.0. 30 devices go back." in told.said
    assert way_back({**left, "reconcile": {**RUNS, "running": 29}}, ask__answer=yes).fails
    # Cleared as a whole it finds fewer, and its waves are as they were planned first.
    left |= {"find_again": {**again, "devices": 2}, "way_back.plan": {"devices": 30}}
    assert not way_back({**left, "reconcile": {**RUNS, "running": 30}}, ask__answer=yes).fails
    assert way_back({**left, "reconcile": {**RUNS, "running": 2}}, ask__answer=yes).fails
    # By then all of them have got a fix.
    nobody = way_back({"find": FOUND, "find_again": {**again, "devices": 0}}, ask__answer=yes)
    assert not nobody.fails
    assert "Nothing is done" not in nobody.said


def test_a_way_back_that_found_nobody_is_green_and_one_that_broke_is_not(way_back: Any) -> None:
    assert not way_back({"find": {**FOUND, "devices": 0}}).fails
    broken = way_back({}, failed=("find",))
    assert broken.fails
    assert "0 of an unknown number of device(s) run the old version." in broken.said
    yes = {"option": "Give the old package back", "by": "ann"}
    assert way_back({"find": FOUND, "way_back.outcome": BREACHED}, ask__answer=yes).fails


def test_a_breach_is_announced_and_nothing_else() -> None:
    events = {"asset": SimpleNamespace(extra=None)}

    def announce(result: Any) -> Any:
        operator = AnnounceBreachOperator(task_id="announce", result=result)
        operator.outlets = ["asset"]
        events["asset"].extra = None
        operator.execute({"outlet_events": events})  # type: ignore[typeddict-item]
        return events["asset"].extra

    assert announce(BREACHED) == {"batch_task_ids": ["a1", "b2"], "summary": "Too many failed."}
    of_guard = {"verdict": "breached", "batch_task_id": "a1", "summary": "s", "rule": "r"}
    assert announce(of_guard) == {"batch_task_id": "a1", "summary": "s"}
    for result in (PASSED, None, "", {}):
        with pytest.raises(AirflowSkipException):
            announce(result)
