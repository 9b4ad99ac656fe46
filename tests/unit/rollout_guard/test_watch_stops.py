"""The stop: it is saved before it is sent, sent until it is accepted, and verified."""

from __future__ import annotations

from typing import Any

import pytest

from iotda_provider.exceptions import (
    IoTDAApiError,
    IoTDAAuthError,
    IoTDANotFoundError,
    IoTDAServerError,
    IoTDATransportError,
    TaskNotStoppableError,
)
from iotda_provider.guards import MaxFailures, SequentialFailureTest
from iotda_provider.models import TaskStatus

REFUSED = IoTDAServerError(503, None, "try later")


def test_the_reason_is_kept_before_the_stop_is_sent_in_the_same_look(
    platform: Any, guard: Any
) -> None:
    platform.show(platform.task(fail=5, processing=95))

    guard(stop_on_breach=True).poll()

    stop = f"stop {platform.task_id}"
    assert platform.asked == ["read", "save", stop, "save", "tell breach"]
    intent = platform.saved[0]["intent"]
    assert intent["verdict"]["rule"] == "MaxFailures"
    assert intent["verdict"]["evidence"]["failed"] == 5
    assert intent["time"] == platform.start


def test_it_is_seen_through_and_reported(platform: Any, guard: Any) -> None:
    platform.show(
        platform.task(fail=5, processing=95),
        platform.task("Stopping", fail=6, processing=4, stopped=90),
        platform.task("Stopped", fail=7, stopped=93),
    )

    outcome = guard(stop_on_breach=True).until_over()

    assert outcome.verdict == "breached"
    assert outcome.stop["outcome"] == "stopped"
    assert outcome.stop["attempts"] == 1
    assert outcome.status == ("Stopped",)
    assert outcome.progress["stopped"] == 93
    assert outcome.evidence["failed"] == 5  # the counts at the decision, not after the stop


def test_the_devices_that_started_are_one_number_in_verdict_and_progress(
    platform: Any, guard: Any
) -> None:
    """The platform's count falls with the stop."""
    platform.show(
        platform.task(fail=30, processing=407, waitting=563),
        platform.task("Stopped", fail=30, success=53, stopped=917),
    )

    outcome = guard(SequentialFailureTest(0.02), stop_on_breach=True).until_over()

    assert (outcome.evidence["devices"], outcome.progress["started"]) == (437, 437)
    assert outcome.progress["stopped"] == 917


def test_it_is_reported_at_once_where_nobody_waits_for_its_end(platform: Any, guard: Any) -> None:
    platform.show(platform.task(fail=5, processing=95))

    outcome = guard(stop_on_breach=True, wait_for_stop=False).poll()

    assert outcome.stop["outcome"] == "stopping"


def test_a_stop_that_takes_too_long_is_reported_as_under_way(platform: Any, guard: Any) -> None:
    platform.show(
        platform.task(fail=5, processing=95), platform.task("Stopping", fail=5, stopped=95)
    )
    watched = guard(stop_on_breach=True, stop_timeout=100.0)

    watched.poll()
    assert watched.poll(after=99) is None
    assert watched.poll(after=1).stop["outcome"] == "stopping"


def test_a_stop_that_fails_is_tried_at_each_look_and_a_person_is_told_once(
    platform: Any, guard: Any, caplog: Any
) -> None:
    running = platform.task(fail=5, processing=95)
    platform.show(running, running, running, running, platform.task("Stopped", fail=5, stopped=95))
    platform.stops = [REFUSED, REFUSED, IoTDAAuthError(403, "APIGW.0302", "not allowed"), None]

    outcome = guard(stop_on_breach=True).until_over()

    assert outcome.stop["outcome"] == "stopped"
    assert outcome.stop["attempts"] == 4
    assert [told.kind for told in platform.told] == ["stop_failed", "breach", "stopped"]
    assert sum(record.levelname == "ERROR" for record in caplog.records) == 3


def test_a_stop_that_is_refused_while_the_task_is_initializing_is_sent_again(
    platform: Any, guard: Any
) -> None:
    early = platform.task("Initializing", fail=5, waitting=95)
    platform.show(
        early, early, platform.task(fail=5, processing=95), platform.task("Stopped", stopped=100)
    )
    platform.stops = [IoTDAApiError(400, "IOTDA.014223", "not now"), IoTDAApiError(400), None]

    outcome = guard(stop_on_breach=True, wait_for_stop=False).until_over()

    assert (outcome.verdict, outcome.stop["attempts"]) == ("breached", 3)


def test_a_decision_stands_even_where_later_counts_would_not_break_the_rule(
    platform: Any, guard: Any
) -> None:
    platform.show(platform.task(fail=4, processing=16), platform.task(fail=4, processing=996))
    platform.stops = [REFUSED, None]
    watched = guard(SequentialFailureTest(0.02), stop_on_breach=True)

    watched.poll()
    watched.poll()

    assert platform.asked.count(f"stop {platform.task_id}") == 2


def test_it_is_tried_even_while_the_task_cannot_be_read(platform: Any, guard: Any) -> None:
    platform.show(platform.task(fail=5, processing=95), IoTDATransportError("unreachable"))
    platform.stops = [REFUSED, None]
    watched = guard(stop_on_breach=True)

    watched.poll()
    watched.poll()
    watched.poll()

    assert platform.asked.count(f"stop {platform.task_id}") == 2  # accepted: not sent a third time


def test_a_task_that_ends_before_the_stop_is_reported_as_ended(platform: Any, guard: Any) -> None:
    platform.show(platform.task(fail=5, processing=1), platform.task("Fail", fail=6))
    platform.stops = [TaskNotStoppableError("ended", TaskStatus.FAIL)]

    outcome = guard(stop_on_breach=True).until_over()

    assert outcome.verdict == "breached"
    assert outcome.stop["outcome"] == "already_ended"


def test_a_rollout_over_several_tasks_is_stopped_as_one(platform: Any, guard: Any) -> None:
    ids = (platform.task_id, platform.other_id)
    platform.show(
        platform.task(fail=5, processing=95), platform.task("Stopped", fail=5, stopped=95)
    )
    other = [
        platform.task(processing=100, task_id=ids[1]),
        platform.task(processing=100, task_id=ids[1]),
        platform.task("Stopped", stopped=100, task_id=ids[1]),
    ]
    platform.show(*other, of=ids[1])
    platform.stops = [None, REFUSED, None]

    outcome = guard(stop_on_breach=True, batch_task_ids=ids).until_over()

    stops = [step for step in platform.asked if step.startswith("stop")]
    assert stops == [f"stop {ids[0]}", f"stop {ids[1]}", f"stop {ids[1]}"]
    assert outcome.stop["outcome"] == "stopped"


def test_a_part_that_has_ended_is_not_stopped(platform: Any, guard: Any) -> None:
    ids = (platform.task_id, platform.other_id)
    platform.show(platform.task("Fail", fail=5))
    platform.show(platform.task(processing=100, task_id=ids[1]), of=ids[1])

    guard(stop_on_breach=True, batch_task_ids=ids).poll()

    assert [step for step in platform.asked if step.startswith("stop")] == [f"stop {ids[1]}"]


def test_a_shadow_decides_and_never_stops(platform: Any, guard: Any) -> None:
    platform.show(platform.task(fail=5, processing=95))

    outcome = guard(stop_on_breach=True, shadow=True, on_guard_lost="stop").poll()

    assert (outcome.verdict, outcome.shadow, outcome.stop) == ("breached", True, None)
    assert platform.asked == ["read", "tell breach"]
    assert "shadow" in outcome.summary


def test_the_stop_is_sent_where_its_reason_cannot_be_kept(
    platform: Any, guard: Any, caplog: Any
) -> None:
    platform.show(platform.task(fail=5, processing=95))
    platform.saving_works = False

    guard(stop_on_breach=True).poll()

    assert platform.asked[-3:] == [f"stop {platform.task_id}", "save", "tell breach"]
    assert "could not be written down" in caplog.text


# --- restarts -------------------------------------------------------------------------------------


def stopped_by(platform: Any, guard: Any) -> Any:
    """The memory of a guard that died after saving its stop and before reporting it."""
    platform.show(platform.task(fail=5, processing=95))
    guard(stop_on_breach=True).poll()
    return platform.saved[0]


def test_a_restarted_guard_knows_its_own_stop(platform: Any, guard: Any) -> None:
    memory = stopped_by(platform, guard)
    platform.show(platform.task("Stopped", fail=6, stopped=94))

    outcome = guard(stop_on_breach=True, memory=memory).poll()

    assert (outcome.verdict, outcome.evidence["failed"]) == ("breached", 5)
    assert outcome.stop["outcome"] == "stopped"


def test_a_guard_cleared_and_run_again_knows_its_own_stop(platform: Any, guard: Any) -> None:
    memory = stopped_by(platform, guard)
    platform.show(platform.task("Stopped", fail=6, stopped=94))

    outcome = guard(stop_on_breach=True, memory=memory).poll()

    assert (outcome.verdict, outcome.evidence["failed"]) == ("breached", 5)


def test_a_guard_whose_memory_is_lost_does_not_guess(platform: Any, guard: Any) -> None:
    stopped_by(platform, guard)
    platform.show(platform.task("Stopped", fail=6, stopped=94))

    outcome = guard(stop_on_breach=True).poll()

    assert (outcome.verdict, outcome.rule, dict(outcome.evidence)) == (
        "stopped_elsewhere",
        None,
        {},
    )


def test_another_rollouts_memory_is_none_of_its_own(platform: Any, guard: Any) -> None:
    memory = stopped_by(platform, guard)
    platform.show(
        platform.task("Stopped", stopped=1, task_id=platform.other_id), of=platform.other_id
    )

    outcome = guard(memory=memory, batch_task_ids=(platform.other_id,)).poll()

    assert outcome.verdict == "stopped_elsewhere"


def test_a_stop_that_was_not_taken_is_sent_after_a_restart_once_a_look_bears_it_out(
    platform: Any, guard: Any
) -> None:
    memory = stopped_by(platform, guard)
    platform.show(platform.task(fail=5, processing=995))
    platform.asked.clear()

    guard(stop_on_breach=True, memory=memory).poll()

    stop = f"stop {platform.task_id}"
    assert platform.asked == ["read", "save", stop, "save", "tell breach"]


def test_a_stop_that_only_a_note_knows_of_is_not_sent(platform: Any, guard: Any) -> None:
    """Whoever may edit Variables can write one."""
    memory = stopped_by(platform, guard)
    platform.asked.clear()
    healthy = platform.task(processing=1000)
    platform.show(IoTDATransportError("unreachable"), healthy, healthy)
    watched = guard(stop_on_breach=True, memory=memory)

    assert [watched.poll(), watched.poll(), watched.poll()] == [None] * 3
    assert watched.give_up().guard_lost
    assert f"stop {platform.task_id}" not in platform.asked


def test_a_new_try_judges_anew_where_nothing_came_of_the_old_decision(
    platform: Any, guard: Any
) -> None:
    memory = stopped_by(platform, guard)
    platform.show(
        platform.task(fail=1, processing=99), platform.task("Stopped", fail=1, stopped=99)
    )
    watched = guard(stop_on_breach=True, memory=memory)

    assert watched.poll() is None
    assert watched.poll().verdict == "stopped_elsewhere"  # and not the old decision's


def test_two_guards_that_see_the_same_breach_both_report_it(platform: Any, guard: Any) -> None:
    platform.show(platform.task(fail=5, processing=95))
    first, second = guard(stop_on_breach=True), guard(stop_on_breach=True)
    first.poll()
    second.poll()  # its stop is joined to the first's: the platform takes both
    platform.show(platform.task("Stopped", fail=5, stopped=95))

    assert [first.poll().verdict, second.poll().verdict] == ["breached", "breached"]


def test_the_slower_of_two_guards_says_stopped_elsewhere(platform: Any, guard: Any) -> None:
    platform.show(platform.task(fail=5, processing=95))
    slower = guard(MaxFailures(50), stop_on_breach=True)
    guard(stop_on_breach=True).poll()
    slower.poll()
    platform.show(platform.task("Stopping", fail=60, stopped=40))

    assert slower.poll().verdict == "stopped_elsewhere"


# --- verifying ------------------------------------------------------------------------------------


def test_the_resumed_task_sees_that_the_stop_has_come_true(platform: Any, guard: Any) -> None:
    memory = stopped_by(platform, guard)
    platform.show(platform.task("Stopped", fail=7, stopped=93))

    outcome = guard(stop_on_breach=True, memory=memory).verify()

    assert outcome.stop["outcome"] == "stopped"
    assert outcome.progress["fail"] == 7


def test_the_resumed_task_asks_again_where_it_has_not(platform: Any, guard: Any) -> None:
    memory = stopped_by(platform, guard)
    running = platform.task(fail=5, processing=95)
    platform.show(running, platform.task("Stopping", fail=5, stopped=95))

    outcome = guard(stop_on_breach=True, memory=memory).verify()

    assert outcome.stop["outcome"] == "stopping"


def test_a_stop_that_never_comes_true_is_loud(platform: Any, guard: Any) -> None:
    memory = stopped_by(platform, guard)
    platform.show(platform.task(fail=5, processing=95))
    platform.stops = [REFUSED]

    outcome = guard(stop_on_breach=True, memory=memory).verify()

    assert (outcome.verdict, outcome.stop["outcome"]) == ("breached", "failed")
    assert "could NOT stop" in outcome.summary
    assert "try later" in outcome.summary


def test_what_was_reported_stands_where_the_platform_cannot_be_read(
    platform: Any, guard: Any
) -> None:
    memory = stopped_by(platform, guard)
    platform.show(IoTDATransportError("unreachable"))

    assert guard(stop_on_breach=True, memory=memory).verify() is None


def test_a_task_deleted_after_its_stop_was_still_stopped_by_the_guard(
    platform: Any, guard: Any
) -> None:
    platform.show(
        platform.task(fail=5, processing=95), IoTDANotFoundError(404, "IOTDA.014217", "gone")
    )

    outcome = guard(stop_on_breach=True).until_over()

    assert (outcome.verdict, outcome.evidence["failed"]) == ("breached", 5)


# --- the guard's own end --------------------------------------------------------------------------


def test_a_guard_whose_time_is_over_leaves_the_rollout_and_says_so(
    platform: Any, guard: Any
) -> None:
    platform.show(platform.task(processing=100))
    watched = guard(stop_on_breach=True)
    watched.poll()

    outcome = watched.give_up()

    assert (outcome.verdict, outcome.guard_lost, outcome.stop) == ("lost", True, None)
    assert "Nobody guards" in outcome.summary


@pytest.mark.parametrize("looked", [True, False])
def test_on_guard_lost_stop_stops_the_rollout_with_its_reason_kept_first(
    platform: Any, guard: Any, looked: bool
) -> None:
    platform.show(platform.task(processing=100))
    watched = guard(on_guard_lost="stop")
    if looked:
        watched.poll()
    platform.asked.clear()

    outcome = watched.give_up()

    assert platform.asked[-3:] == [f"stop {platform.task_id}", "save", "tell stopped"]
    assert "save" in platform.asked[:-2]
    assert (outcome.verdict, outcome.guard_lost) == ("lost", True)
    assert outcome.stop["outcome"] == "stopping"


@pytest.mark.parametrize("stop", [REFUSED, IoTDATransportError("unreachable")])
def test_on_guard_lost_stop_that_fails_is_reported_as_failed(
    platform: Any, guard: Any, stop: Any
) -> None:
    platform.show(platform.task(processing=100))
    platform.stops = [stop]

    assert guard(on_guard_lost="stop").give_up().stop["outcome"] == "failed"


def test_a_stop_at_the_guards_end_is_sent_again_while_the_task_is_initializing(
    platform: Any, guard: Any
) -> None:
    platform.show(platform.task("Initializing", waitting=100), platform.task(processing=100))
    platform.stops = [REFUSED, REFUSED, None]

    outcome = guard(on_guard_lost="stop").give_up()

    assert (outcome.verdict, outcome.stop["outcome"]) == ("lost", "stopping")
    assert outcome.stop["attempts"] == 3
    assert platform.asked.count("pause") == 2


def test_it_is_sent_for_less_than_a_minute_and_not_once_the_task_has_ended(
    platform: Any, guard: Any
) -> None:
    platform.show(platform.task(processing=100))
    platform.stops = [REFUSED]
    guard(on_guard_lost="stop").give_up()
    assert 30 <= platform.now - platform.start < 60

    platform.asked.clear()
    platform.show(platform.task(processing=100), platform.task("Success", success=100))
    outcome = guard(on_guard_lost="stop").give_up()
    assert outcome.stop["outcome"] == "already_ended"
    assert platform.asked.count(f"stop {platform.task_id}") == 1


def test_a_guard_that_never_saw_the_rollout_reports_that_it_could_not_stop_it(
    platform: Any, guard: Any
) -> None:
    platform.show(IoTDATransportError("unreachable"))

    outcome = guard(on_guard_lost="stop").give_up()

    assert outcome.stop["outcome"] == "failed"
    assert "unreachable" in outcome.summary


def test_time_that_is_over_in_the_middle_of_a_stop_is_a_breach(platform: Any, guard: Any) -> None:
    platform.show(platform.task(fail=5, processing=95))
    platform.stops = [REFUSED]
    watched = guard(stop_on_breach=True)
    watched.poll()

    outcome = watched.give_up()

    assert (outcome.verdict, outcome.stop["outcome"], outcome.guard_lost) == (
        "breached",
        "failed",
        False,
    )


# --- a stop that is pending while the tasks can't be seen ----------------------------------------


def decided_on(platform: Any, guard: Any, **plan: Any) -> Any:
    """The memory of a guard that died before the platform had accepted its stop."""
    platform.show(platform.task(fail=5, processing=95))
    platform.stops = [REFUSED]
    guard(stop_on_breach=True, **plan).poll()
    platform.stops = [None]
    platform.asked.clear()
    return platform.saved[0]


def test_a_restarted_guard_judges_its_stop_as_soon_as_it_can_read_the_task(
    platform: Any, guard: Any
) -> None:
    memory = decided_on(platform, guard)
    platform.show(IoTDATransportError("unreachable"), platform.task(fail=5, processing=95))
    watched = guard(stop_on_breach=True, memory=memory)

    watched.poll()
    assert f"stop {platform.task_id}" not in platform.asked
    watched.poll()
    assert platform.asked.count(f"stop {platform.task_id}") == 1


def test_time_that_is_over_before_a_restarted_guard_sees_anything_is_a_lost_guard(
    platform: Any, guard: Any
) -> None:
    memory = decided_on(platform, guard)
    platform.show(IoTDATransportError("unreachable"))
    watched = guard(stop_on_breach=True, memory=memory)
    watched.poll()

    outcome = watched.give_up()

    assert (outcome.verdict, outcome.guard_lost, outcome.stop) == ("lost", True, None)


def test_a_task_deleted_before_its_stop_is_verified_was_stopped_all_the_same(
    platform: Any, guard: Any
) -> None:
    platform.show(
        platform.task(fail=5, processing=95), IoTDANotFoundError(404, "IOTDA.014217", "gone")
    )
    watched = guard(stop_on_breach=True, wait_for_stop=False)
    watched.poll()

    assert watched.verify().stop["outcome"] == "stopping"


def test_what_is_left_of_a_split_rollout_is_stopped_though_a_part_is_gone(
    platform: Any, guard: Any
) -> None:
    gone = IoTDANotFoundError(404, "IOTDA.014217", "gone")
    other = platform.task(fail=1, processing=9, task_id=platform.other_id)
    stopped = platform.task("Stopped", fail=1, stopped=9, task_id=platform.other_id)
    platform.show(platform.task(fail=4, processing=6), gone)
    platform.show(other, other, stopped, of=platform.other_id)
    platform.stops = [None, REFUSED, None]

    both = (platform.task_id, platform.other_id)
    outcome = guard(stop_on_breach=True, batch_task_ids=both).until_over(at_most=5)

    assert platform.asked.count(f"stop {platform.other_id}") == 2
    assert (outcome.verdict, outcome.stop["outcome"]) == ("breached", "stopped")


def test_an_earlier_trys_decision_is_not_carried_on_blindly(platform: Any, guard: Any) -> None:
    memory = decided_on(platform, guard)
    platform.show(IoTDATransportError("unreachable"))
    cleared = guard(MaxFailures(50), stop_on_breach=True, memory=memory)  # by a milder rule
    assert cleared.poll() is None

    kept = cleared.watch.memory.to_json()
    deferred = guard(MaxFailures(50), stop_on_breach=True, memory=kept)
    deferred.poll()
    platform.show(platform.task(fail=5, processing=95))

    assert deferred.poll() is None
    assert f"stop {platform.task_id}" not in platform.asked


def test_an_earlier_trys_stop_is_its_own_after_a_first_look_into_an_outage(
    platform: Any, guard: Any
) -> None:
    memory = stopped_by(platform, guard)
    platform.show(IoTDATransportError("unreachable"))
    cleared = guard(stop_on_breach=True, memory=memory)
    cleared.poll()

    kept = cleared.watch.memory.to_json()
    platform.show(platform.task("Stopped", fail=6, stopped=94))
    deferred = guard(stop_on_breach=True, memory=kept)

    assert deferred.poll().verdict == "breached"


def test_one_that_has_become_a_shadow_sends_no_more_stops(platform: Any, guard: Any) -> None:
    both = (platform.task_id, platform.other_id)
    running = platform.task(processing=10, task_id=platform.other_id)
    platform.show(running, of=platform.other_id)
    memory = decided_on(platform, guard, batch_task_ids=both)
    platform.show(platform.task("Stopped", fail=5, stopped=95))

    shadow = guard(stop_on_breach=True, shadow=True, memory=memory, batch_task_ids=both)
    outcome = shadow.poll()

    assert not [asked for asked in platform.asked if asked.startswith("stop")]
    assert outcome.verdict == "stopped_elsewhere"
    assert platform.other_id in outcome.summary  # which nobody guards any more
