"""What happens in the field, and what the rules make of it."""

from __future__ import annotations

import pytest

from iotda_provider.guards import (
    Combined,
    Decision,
    EnoughSuccess,
    FailureClasses,
    Look,
    MaxFailureRate,
    MaxFailures,
    Overdue,
    Rule,
    SequentialFailureTest,
    Stalled,
    Undecided,
    Verdict,
    evaluate,
    total_progress,
)
from iotda_provider.models import BatchTask, Subtask, SubtaskStatus, TaskProgress, TaskStatus

HOUR = 3600.0
TEST = SequentialFailureTest(0.02)


def at(total: int, **counts: int) -> TaskProgress:
    return TaskProgress(total=total, waiting=total - sum(counts.values()), **counts)


def watch(rules: Rule | list[Rule], *progresses: TaskProgress, every: float = 10.0) -> Verdict:
    state, verdict = None, None
    for index, progress in enumerate(progresses):
        state, verdict = evaluate(rules, state, Look(time=every * index, progress=progress))
    assert verdict is not None
    return verdict


def test_a_fleet_of_twenty_devices_is_stopped_by_the_fourth_failure() -> None:
    assert not watch(TEST, at(20, fail=3, processing=17)).breached
    assert watch(TEST, at(20, fail=4, processing=16)).breached


def test_in_a_fleet_of_twenty_a_percentage_from_the_hundredth_device_on_never_speaks() -> None:
    assert not watch(MaxFailureRate(0.05), at(20, fail=20)).breached


def test_a_fleet_of_twenty_cannot_open_the_gate_by_itself() -> None:
    gate = EnoughSuccess(0.05)
    assert gate.check(at(20, success=20)).decision is Decision.WAIT
    assert gate.smallest_passing_sample() > 20


def test_devices_that_stay_offline_for_a_day_are_no_failures_until_the_platform_says_so() -> None:
    waiting = at(1000, success=900, processing=100)
    assert not watch(TEST, waiting, waiting, every=24 * HOUR).breached
    assert watch(Overdue(12 * HOUR, 0.02), waiting, waiting, every=24 * HOUR).breached
    assert not watch(Overdue(26 * HOUR, 0.02), waiting, waiting, every=24 * HOUR).breached


def test_a_storm_of_retries_is_no_failure_and_does_not_shrink_the_fleet() -> None:
    storm = at(1000, fail_wait_retry=700, processing=300)
    verdict = watch([TEST, MaxFailures(1)], storm)
    assert verdict.decision is Decision.CONTINUE
    assert verdict.parts[0].evidence["devices"] == 1000


def test_a_device_counts_as_failed_once_when_it_has_finally_failed() -> None:
    attempts = [
        at(100, processing=100),
        at(100, fail_wait_retry=10, processing=90),
        at(100, processing=100),
        at(100, fail_wait_retry=10, processing=90),
        at(100, fail=10, processing=90),
    ]
    assert not watch(MaxFailures(10), *attempts[:-1]).breached
    assert watch(MaxFailures(10), *attempts).evidence["failed"] == 10


def test_devices_already_on_the_version_succeed_at_once_and_may_be_left_out() -> None:
    progress = at(1000, success=900, fail=10, processing=90)
    diluted = evaluate(TEST, None, Look(time=0, progress=progress))[1]
    told = evaluate(TEST, None, Look(time=0, progress=progress, already_current=900))[1]
    assert not diluted.breached
    assert told.breached
    assert told.evidence["devices"] == 100


def test_a_rollout_split_over_tasks_is_judged_by_its_sums() -> None:
    parts = [at(100, fail=7, processing=93)] * 2
    assert not any(watch(TEST, part).breached for part in parts)
    assert watch(TEST, total_progress(parts)).breached


def test_of_two_guards_on_one_task_the_second_sees_a_stop_and_judges_nothing() -> None:
    bad = TaskProgress(total=100, fail=30, stopped=70)
    task = BatchTask("a", TaskStatus.STOPPING, progress=bad)
    verdict = evaluate(TEST, None, Look.of(task, time=0))[1]
    assert verdict.decision is Decision.CONTINUE
    assert verdict.undecided is Undecided.STOPPING


def test_a_person_who_stops_some_running_devices_makes_nothing_look_worse() -> None:
    verdict = watch(TEST, at(500, fail=10, processing=490), at(500, fail=10, stopped=490))
    assert verdict.evidence["devices"] == 500
    assert not verdict.breached


def test_a_person_who_retries_the_failed_devices_takes_their_failures_back() -> None:
    verdict = watch(
        TEST,
        at(200, fail=12, success=188),
        at(200, processing=12, success=188),
        at(200, fail=12, success=188),
    )
    assert verdict.evidence["failed"] == 12
    assert not verdict.breached


def test_an_image_that_bricks_devices_is_found_without_a_single_report() -> None:
    bricked = at(100, processing=100)
    rules = [TEST, Stalled(3 * HOUR), Overdue(2 * HOUR, 0.02)]
    verdict = watch(rules, *[bricked] * 3, every=HOUR)
    assert verdict.breached
    assert verdict.rule == "Overdue"
    assert not watch(rules, *[bricked] * 2, every=HOUR).breached


def test_while_all_devices_are_offline_only_the_clock_speaks() -> None:
    offline = at(300, processing=300)
    assert not watch([TEST, MaxFailures(1)], *[offline] * 20, every=HOUR).breached
    assert watch([TEST, Stalled(19 * HOUR)], *[offline] * 20, every=HOUR).rule == "Stalled"


def outage(failed: int) -> Look:
    """Everything fails with the code of a device that is offline."""
    subtasks = [
        Subtask(f"d{i}", SubtaskStatus.FAIL, None, "IOTDA.014016", "Device is not online.")
        for i in range(failed)
    ]
    progress = at(1000, fail=failed, processing=1000 - failed)
    return Look(time=0, progress=progress, failures_by_class=FailureClasses().count(subtasks))


def test_a_platform_outage_does_not_stop_what_counts_only_the_firmwares_failures() -> None:
    rule = SequentialFailureTest(0.02, failure_class=("firmware", "unknown"))
    assert not evaluate(rule, None, outage(900))[1].breached
    assert evaluate(TEST, None, outage(900))[1].breached


def test_an_outage_can_hold_while_bad_firmware_stops_under_one_bound() -> None:
    rules = [
        SequentialFailureTest(0.02, failure_class=("firmware", "unknown")),
        SequentialFailureTest(0.2, 1e-9, failure_class="environment", hold_at=10),
    ]
    assert evaluate(rules, None, outage(260))[1].decision is Decision.HOLD
    both = Combined([SequentialFailureTest(0.02, failure_class="firmware"), TEST])
    assert evaluate(both, None, outage(900))[1].breached


@pytest.mark.parametrize("state", [None, {}])
def test_a_guard_that_comes_hours_late_or_was_cleared_decides_from_what_is_there(
    state: dict[str, object] | None,
) -> None:
    late = Look(time=9 * HOUR, progress=at(5000, fail=150, success=3000, processing=1850))
    assert evaluate(TEST, state, late)[1].breached
