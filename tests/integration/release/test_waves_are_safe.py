"""What must hold whatever happens: nobody starts who may not, and nothing passes unproven."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from iotda_provider.exceptions import BatchTaskTimeoutError, IoTDAConfigError
from iotda_provider.guards import Overdue, SequentialFailureTest
from iotda_provider.operators.release.plan import PlanWavesOperator


def test_a_wave_confirms_its_own_devices_and_nobody_else(rollout: Any) -> None:
    run = rollout()
    run.plan()
    result = run.confirm(1)
    assert (result["verdict"], result["confirmed"]) == ("confirmed", 40)
    assert run.confirmed == run.wave(1)


def test_a_wave_with_nobody_left_to_confirm_makes_no_call(rollout: Any) -> None:
    run = rollout()
    run.plan()
    run.confirm(1)
    assert run.confirm(1)["confirmed"] == 0
    assert len(run.confirmations) == 1


def test_calls_hold_at_most_a_hundred_with_a_look_before_each(rollout: Any) -> None:
    run = rollout()
    run.plan("100%")
    run.confirm(1)
    assert [len(targets) for targets in run.confirmations] == [100, 100, 100, 100]
    calls = [entry["call"] for entry in run.emulator.journal()]
    places = [n for n, call in enumerate(calls) if call == "confirm_batch_task"]
    assert all(calls[place - 1] == "show_batch_task" for place in places)
    assert calls[-1] == "show_batch_task"


def test_no_more_are_under_way_than_may_be(rollout: Any, around_confirmations: Any) -> None:
    run = rollout(speed=600, switches={"initializing": 0}, start_after=20)
    run.plan("100%")
    seen: list[int] = []

    def count(number: int) -> None:
        progress = run.counts()
        waiting = progress["waitting"] - (400 - len(run.confirmed))
        seen.append(progress["processing"] + max(0, waiting))

    around_confirmations(lambda number: None, count)
    assert run.confirm(1, max_in_flight=60)["confirmed"] == 400
    assert 0 < max(seen) <= 60


def test_a_breach_between_two_calls_stops_it_and_names_who_never_started(rollout: Any) -> None:
    run = rollout(speed=3000, failure_rate=0.5)
    run.plan("100%")
    result = run.confirm(1, max_in_flight=50)
    assert result["verdict"] == "breached"
    assert result["stop"]["outcome"] == "stopped"
    assert run.stops == 1
    left = run.xcoms["confirm_1", "unconfirmed"]
    assert len(left) == result["unconfirmed"] > 0
    assert set(left) == set(run.wave(1)) - set(run.confirmed)
    assert run.watch(1)["verdict"] == "breached"


def test_who_never_started_is_known_wherever_the_stop_comes_true(rollout: Any) -> None:
    """A stop that is sent from a worker, and that a triggerer sees come true."""
    quick = {"initializing": 0, "stop_after": 0}
    run = rollout(speed=3000, failure_rate=0.5, failure_after=1, switches=quick)
    run.plan("100%")
    result = run.confirm(1, chunk=50)
    assert (result["verdict"], result["stop"]["outcome"]) == ("breached", "stopped")
    left = run.xcoms["confirm_1", "unconfirmed"]
    assert set(left) == set(run.wave(1)) - set(run.confirmed)
    assert len(left) >= 250


def test_a_breach_after_the_last_call_is_known_as_this_guards_own(rollout: Any) -> None:
    run = rollout(speed=3000, failure_rate=0.5, failure_after=1)
    run.plan("25%, 100%")
    result = run.confirm(1)
    assert (result["verdict"], result["stop"]["outcome"]) == ("breached", "stopped")
    assert (result["confirmed"], result["unconfirmed"], run.stops) == (100, 0, 1)
    assert run.watch(1)["verdict"] == "breached"


@pytest.mark.parametrize("stop_takes", ["long to come true", "long to be taken"])
def test_a_breach_stays_one_when_the_waves_time_is_over_before_its_stop_has_come_true(
    rollout: Any, stop_takes: str
) -> None:
    slow = {"initializing": 0, "stop_after": 1000 if "true" in stop_takes else 0}
    run = rollout(failure_rate=0.5, success_after=6000, switches=slow)
    run.plan("50%, 100%")
    run.confirm(1)
    if "taken" in stop_takes:
        run.emulator.add_fault("status", call="stop_batch_task", status=403, body={}, count=25)
    result = run.watch(1, wave_timeout=0.6)
    assert (result["verdict"], result["stop"]["outcome"]) == ("breached", "stopped")


def test_nobody_starts_while_the_guard_is_blind(rollout: Any) -> None:
    run = rollout()
    run.plan()
    run.create(1)
    run.emulator.add_fault("reset", call="show_batch_task")
    with pytest.raises(BatchTaskTimeoutError, match="blind"):
        run.confirm(1, timeout=1)
    assert not run.confirmations
    run.emulator.clear_faults()
    assert run.confirm(1)["confirmed"] == 40


def test_nobody_starts_while_the_guard_holds(rollout: Any) -> None:
    holding = SequentialFailureTest(0.02, 1e-9, hold_at=1.5)
    run = rollout(failure_rate=0.08)
    run.plan("50%, 100%")
    run.confirm(1, rules=holding)
    assert run.watch(1, rules=holding, gate=0.5, wave_timeout=3)["verdict"] == "unproven"
    with pytest.raises(BatchTaskTimeoutError, match="holds"):
        run.create(2, rules=holding, timeout=1)
    assert len(run.emulator.journal("create_batch_task")) == 1
    assert set(run.confirmed) == set(run.wave(1))


def test_nobody_starts_outside_of_the_window(rollout: Any) -> None:
    run = rollout()
    run.plan()
    now = datetime.now(timezone.utc)
    closed = f"{now + timedelta(hours=2):%H:%M}-{now + timedelta(hours=3):%H:%M}"
    with pytest.raises(BatchTaskTimeoutError, match=r"window .* is closed"):
        run.confirm(1, window=closed, timeout=0.3)
    assert not run.confirmations
    opened = f"{now - timedelta(hours=1):%H:%M}-{now + timedelta(hours=1):%H:%M}"
    assert run.confirm(1, window=opened)["confirmed"] == 40


def test_an_answer_that_is_lost_confirms_nobody_twice_in_effect(rollout: Any) -> None:
    run = rollout()
    run.plan()
    run.emulator.add_fault("lost", call="confirm_batch_task", count=1)
    result = run.confirm(1)
    assert (result["verdict"], result["refused"]) == ("confirmed", 0)
    assert run.counts()["waitting"] == 0
    assert set(run.confirmed) == set(run.wave(1))


def test_a_stop_at_the_console_ends_the_wave(rollout: Any, around_confirmations: Any) -> None:
    run = rollout(success_after=6000)
    run.plan("100%")
    emulator = run.emulator

    def console(number: int) -> None:
        if number == 2:
            emulator._on_loop(lambda: emulator.instance.run("stop", task_id=run.task_of()))

    around_confirmations(lambda number: None, console)
    result = run.confirm(1, chunk=10)
    assert result["verdict"] == "stopped_elsewhere"
    assert set(run.xcoms["confirm_1", "unconfirmed"]) >= set(run.wave(1)) - set(run.confirmed)
    assert run.watch(1)["verdict"] == "stopped_elsewhere"
    assert not run.stops


def test_what_has_not_finished_counts_as_failed(rollout: Any) -> None:
    run = rollout(hang_rate=0.2)
    run.plan("50%, 100%")
    run.confirm(1)
    result = run.watch(1, wave_timeout=2)
    assert result["verdict"] == "unproven"
    assert result["gate"]["succeeded"] < 190
    assert result["gate"]["devices"] == 200


def test_devices_that_never_report_break_a_rule_once_they_are_overdue(rollout: Any) -> None:
    run = rollout(speed=100, hang_rate=0.2)
    run.plan("50%, 100%")
    rules = Overdue(after_seconds=2, tolerated_rate=0.02)
    run.confirm(1, rules=rules)
    result = run.watch(1, rules=rules)
    assert (result["verdict"], result["rule"]) == ("breached", "Overdue")


def test_a_wave_too_small_to_pass_is_told_before_and_never_passes(rollout: Any) -> None:
    run = rollout()
    plan = run.plan("5%, 100%", gate=0.05)
    assert [wave["can_pass"] for wave in plan["waves"]] == [False, True]
    assert (plan["waves"][0]["devices"], plan["waves"][0]["needed"]) == (20, 82)
    run.confirm(1)
    assert run.watch(1, gate=0.05)["verdict"] == "unproven"


def test_no_wave_passes_before_it_is_baked(rollout: Any) -> None:
    run = rollout(success_after=1)
    run.plan()
    confirmed_at = run.confirm(1)["confirmed_at"]
    assert run.watch(1, bake_time=1.5)["verdict"] == "passed"
    assert run.time.time() - confirmed_at >= 1.5


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        ([True], "passed"),
        (["wait", False, "go"], "passed"),
        (["wait", "stop"], "rejected"),
    ],
)
def test_external_evidence_has_a_say_beside_the_numbers(
    rollout: Any, answers: list[Any], verdict: str
) -> None:
    run = rollout()
    run.plan()
    run.confirm(1)
    asked: list[Any] = []

    def evidence(facts: Any) -> Any:
        asked.append(facts)
        return answers[len(asked) - 1]

    assert run.watch(1, evidence=evidence)["verdict"] == verdict
    assert len(asked) == len(answers)
    assert asked[0]["gate"]["passes"]


def test_external_evidence_that_waits_for_ever_leaves_the_wave_unproven(rollout: Any) -> None:
    run = rollout(success_after=1)
    run.plan()
    run.confirm(1)
    result = run.watch(1, evidence=lambda facts: "wait", wave_timeout=1)
    assert result["verdict"] == "unproven"
    assert "external evidence says wait" in result["summary"]


def test_external_evidence_that_is_no_answer_lets_nobody_go_on(rollout: Any) -> None:
    run = rollout()
    run.plan()
    run.confirm(1)
    result = run.watch(1, evidence=lambda facts: None, evidence_interval=0.2, wave_timeout=1)
    assert result["verdict"] == "unproven"
    assert "evidence must answer 'go', 'wait' or 'stop', not None" in result["summary"]


def test_a_wave_that_was_not_planned_is_passed_through(rollout: Any) -> None:
    run = rollout()
    run.plan("100%")
    assert run.confirm(2)["verdict"] == run.watch(2)["verdict"] == "surplus"
    assert not run.confirmations


def test_more_waves_than_the_dag_has_room_for_are_refused(rollout: Any) -> None:
    run = rollout()
    with pytest.raises(IoTDAConfigError, match="max_waves=2"):
        run.plan("10%, 100%", late=["device-00001"], max_waves=2)


OPENED_BY = {"gate": "gate_1", "ask": "ask_1", "entry": "create_2"}


@pytest.mark.parametrize(
    ("branch", "answer", "opens"),
    [
        (["create_2"], None, True),
        (["ask_1"], {"option": "Go on", "by": "somebody"}, True),
        (["ask_1"], {"option": "Stop the release", "by": "somebody"}, False),
        (["ask_1"], None, False),
        (["stop"], {"option": "Go on", "by": "somebody"}, False),
        (None, None, False),
    ],
)
def test_a_wave_is_opened_by_numbers_or_by_an_answer_and_not_by_a_mark(
    rollout: Any, branch: Any, answer: Any, opens: bool
) -> None:
    """Whoever marks a gate or a question as a success by hand has decided nothing."""
    run = rollout(speed=600)
    run.plan("50%, 100%")
    run.confirm(1)
    run.watch(1)
    first = list(run.confirmed)
    run.xcoms.put("gate_1", "branch", branch)
    run.xcoms.put("ask_1", "answer", answer)
    if opens:
        assert run.create(2, opened_by=OPENED_BY)["verdict"] == "created"
        assert run.confirm(2)["verdict"] == "confirmed"
        return
    with pytest.raises(AirflowFailException, match=r"neither the numbers .* Clear gate_1"):
        run.create(2, opened_by=OPENED_BY)
    assert len(run.emulator.journal("create_batch_task")) == 1
    assert run.confirmed == first


def test_waves_that_were_planned_anew_are_not_taken_for_those_that_were_deferred(
    rollout: Any,
) -> None:
    run = rollout(speed=600)
    run.plan("50%, 100%")
    one, two = run.wave(1), run.wave(2)
    for task_id in ("plan", "outcome"):
        run.xcoms.put(task_id, "wave_1", [two[0], *one[1:]])
        run.xcoms.put(task_id, "wave_2", [one[0], *two[1:]])
    with pytest.raises(IoTDAConfigError, match="are lost or changed"):
        run.confirm(1)
    assert not run.emulator.journal("create_batch_task")


@pytest.mark.parametrize(
    "given",
    [
        {"bake_time": ""},
        {"wave_timeout": "None"},
        {"wave_timeout": "0"},
        {"already_current": "x"},
        {"already_current": "0.5"},
    ],
)
def test_what_no_watch_could_read_ends_the_release_before_anybody_starts(
    rollout: Any, given: dict[str, str]
) -> None:
    """As templates may render it: a watch that can't begin would guard nobody."""
    run = rollout()
    with pytest.raises(ValueError, match=next(iter(given))):
        run.plan("50%, 100%", **given)
    assert not run.confirmed


def test_a_release_in_a_mapped_task_group_is_refused(rollout: Any) -> None:
    run = rollout()
    plan = PlanWavesOperator(
        task_id="plan",
        devices=run.devices,
        waves="100%",
        gate=0.1,
        task_type="firmwareUpgrade",
        document={"package_ids": ["a1b2c3d4e5f60718293a4b5c"]},
    )
    context = run.context(plan)
    context["ti"].map_index = 0
    with pytest.raises(AirflowFailException, match="mapped task group: its waves would not find"):
        plan.execute(context)
    assert not run.emulator.journal()
