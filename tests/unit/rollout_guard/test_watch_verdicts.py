"""How a watch ends: only a completed rollout has the verdict ``completed``."""

from __future__ import annotations

import json
from typing import Any

import pytest

from iotda_provider.exceptions import (
    IoTDAAuthError,
    IoTDANotFoundError,
    IoTDATransportError,
    TaskNotStoppableError,
)
from iotda_provider.guards import MaxFailureRate, MaxFailures
from iotda_provider.rollout_guard import Outcome

GONE = IoTDANotFoundError(404, "IOTDA.014217", "no such task")
#: Of the gateway, and of a proxy or load balancer that has lost its way to the platform.
NOT_OF_THE_PLATFORM = [
    IoTDANotFoundError(404, "APIG.0101", "The API does not exist"),
    IoTDANotFoundError(404, None, "an HTML page titled '404 Not Found'"),
    IoTDANotFoundError(404, None, "Not Found"),
]


@pytest.mark.parametrize("status", ["Success", "Fail", "PartialSuccess"])
def test_a_task_that_has_ended_by_itself_is_completed(
    platform: Any, guard: Any, status: str
) -> None:
    platform.show(platform.task(success=90, processing=10), platform.task(status, success=100))

    outcome = guard().until_over()

    assert (outcome.verdict, outcome.rule, outcome.stop) == ("completed", None, None)
    assert f"has ended as {status}: 100 succeeded" in outcome.summary


@pytest.mark.parametrize("status", ["Initializing", "Waitting", "Processing"])
def test_a_task_that_has_not_ended_is_watched_on(platform: Any, guard: Any, status: str) -> None:
    platform.show(platform.task(status, waitting=100))

    assert guard().poll() is None


def test_a_rule_that_breaks_on_the_last_counts_breaks(platform: Any, guard: Any) -> None:
    platform.show(platform.task(processing=20), platform.task("Fail", fail=20))

    outcome = guard(stop_on_breach=True).until_over()

    assert (outcome.verdict, outcome.rule) == ("breached", "MaxFailures")
    assert outcome.stop is None
    assert "ended already" in outcome.summary
    assert not any(step.startswith("stop") for step in platform.asked)


@pytest.mark.parametrize("status", ["Stopping", "Stopped"])
def test_a_stop_by_somebody_else_is_no_breach_and_no_completion(
    platform: Any, guard: Any, status: str
) -> None:
    platform.show(platform.task(processing=100), platform.task(status, fail=50, stopped=50))

    outcome = guard(stop_on_breach=True).until_over()

    assert outcome.verdict == "stopped_elsewhere"
    assert (outcome.rule, dict(outcome.evidence), outcome.stop) == (None, {}, None)


def test_no_rule_is_asked_about_a_task_that_is_being_stopped(platform: Any, guard: Any) -> None:
    platform.show(platform.task("Stopping", fail=100))

    assert guard(MaxFailures(1)).poll().verdict == "stopped_elsewhere"


def test_targets_stopped_one_by_one_do_not_make_a_completed_rollout(
    platform: Any, guard: Any
) -> None:
    platform.show(platform.task("PartialSuccess", success=10, stopped=90))

    assert guard().poll().verdict == "stopped_elsewhere"


def test_some_targets_stopped_by_hand_leave_a_completed_rollout_completed(
    platform: Any, guard: Any
) -> None:
    platform.show(platform.task("PartialSuccess", success=95, stopped=5))

    outcome = guard().poll()

    assert outcome.verdict == "completed"
    assert "5 stopped" in outcome.summary


def test_a_task_that_is_gone_is_lost(platform: Any, guard: Any) -> None:
    platform.show(platform.task(processing=100), GONE)

    assert guard().until_over().verdict == "lost"


def test_one_stray_answer_loses_nothing(platform: Any, guard: Any) -> None:
    platform.show(GONE, platform.task(processing=100))

    assert guard().poll() is None


@pytest.mark.parametrize("answer", NOT_OF_THE_PLATFORM)
def test_a_404_that_is_not_of_the_platform_loses_no_rollout(
    platform: Any, guard: Any, answer: IoTDANotFoundError
) -> None:
    seen = platform.task(processing=100)
    platform.show(seen, answer, answer, answer, platform.task("Success", success=100))

    assert guard().until_over().verdict == "completed"


@pytest.mark.parametrize("answer", NOT_OF_THE_PLATFORM)
def test_a_404_that_is_not_of_the_platform_slows_no_guard_down_and_wakes_nobody_at_once(
    platform: Any, guard: Any, answer: IoTDANotFoundError
) -> None:
    platform.show(platform.task(processing=100), answer)
    watched = guard(max_outage=600, poll_interval=10.0)
    watched.poll()

    for _ in range(60):
        watched.poll(10)
        assert (platform.told, watched.watch.interval) == ([], 10.0)

    watched.poll(30)
    assert [told.kind for told in platform.told] == ["blind"]


def test_a_wrong_address_is_not_a_task_that_is_gone(platform: Any, guard: Any) -> None:
    platform.show(IoTDANotFoundError(404, "APIGW.0101", "no such API"))

    with pytest.raises(IoTDANotFoundError):
        guard().poll()


@pytest.mark.parametrize("error", [IoTDAAuthError(403, "APIGW.0302", "not allowed")])
def test_a_first_look_that_can_never_work_fails_at_once(
    platform: Any, guard: Any, error: Exception
) -> None:
    platform.show(error)

    with pytest.raises(type(error)):
        guard().poll()


def test_a_first_look_into_an_outage_is_tried_again(platform: Any, guard: Any) -> None:
    platform.show(IoTDATransportError("unreachable"), platform.task("Success", success=1))

    assert guard().until_over().verdict == "completed"


def test_a_guard_that_could_never_stop_says_so_at_its_first_look(platform: Any, guard: Any) -> None:
    platform.show(platform.task(task_type="moduleUpgrade", processing=1))

    with pytest.raises(TaskNotStoppableError, match="shadow"):
        guard(stop_on_breach=True).poll()
    assert guard(stop_on_breach=True, shadow=True).poll() is None


def test_a_split_rollout_is_judged_by_the_sum_of_its_counts(platform: Any, guard: Any) -> None:
    ids = (platform.task_id, platform.other_id)
    platform.show(platform.task(fail=3, processing=97))
    platform.show(platform.task(fail=3, processing=97, task_id=ids[1]), of=ids[1])

    outcome = guard(MaxFailures(6), batch_task_ids=ids).poll()

    assert outcome.verdict == "breached"
    assert outcome.progress["total"] == 200
    assert outcome.to_result()["batch_task_id"] == list(ids)


def test_a_split_rollout_is_completed_when_all_of_it_has_ended(platform: Any, guard: Any) -> None:
    ids = (platform.task_id, platform.other_id)
    platform.show(platform.task("Success", success=100))
    running = platform.task(processing=100, task_id=ids[1])
    platform.show(running, platform.task("Fail", fail=100, task_id=ids[1]), of=ids[1])
    watched = guard(MaxFailureRate(0.9), batch_task_ids=ids)

    assert watched.poll() is None
    assert watched.poll().verdict == "completed"


def test_a_part_that_had_completed_still_counts_when_it_is_deleted(
    platform: Any, guard: Any
) -> None:
    ids = (platform.task_id, platform.other_id)
    platform.show(platform.task("PartialSuccess", success=96, fail=4), GONE)
    platform.show(
        platform.task(processing=100, task_id=ids[1]),
        platform.task(processing=99, fail=1, task_id=ids[1]),
        of=ids[1],
    )
    watched = guard(MaxFailures(5), batch_task_ids=ids)

    assert watched.poll() is None
    assert watched.poll().verdict == "breached"


def test_a_part_that_is_stopped_ends_the_watch_and_names_what_goes_on(
    platform: Any, guard: Any
) -> None:
    ids = (platform.task_id, platform.other_id)
    platform.show(platform.task("Stopped", stopped=100))
    platform.show(platform.task(processing=100, task_id=ids[1]), of=ids[1])

    outcome = guard(batch_task_ids=ids).poll()

    assert outcome.verdict == "stopped_elsewhere"
    assert ids[1] in outcome.summary


def test_the_result_is_plain_json_and_comes_back_whole(platform: Any, guard: Any) -> None:
    platform.show(platform.task(fail=9, processing=91))

    outcome = guard().poll()
    result = json.loads(json.dumps(outcome.to_result()))

    assert Outcome.from_result(result) == outcome
    contract = ["batch_task_id", "verdict", "rule", "evidence", "status", "progress", "stop"]
    assert list(result)[: len(contract)] == contract


@pytest.mark.parametrize("broken", [{}, {"verdict": "fine"}, {"verdict": "breached"}, None, "x"])
def test_a_result_that_makes_no_sense_is_refused(broken: Any) -> None:
    with pytest.raises(ValueError, match="not a guard's"):
        Outcome.from_result(broken)
