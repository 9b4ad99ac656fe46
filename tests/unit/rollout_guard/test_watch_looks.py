"""One look: its calls, failure classes, torn counts, outages, holds and memory."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from iotda_provider.exceptions import IoTDAAuthError, IoTDATransportError
from iotda_provider.guards import (
    FailureClasses,
    MaxFailureRate,
    MaxFailures,
    Overdue,
    SequentialFailureTest,
    Stalled,
)
from iotda_provider.guards.lab.recorded_looks import read_audit
from iotda_provider.models import BatchTask

OFFLINE, BROKEN = "IOTDA.014016", "IOTDA.005010"
DOWN = IoTDATransportError("unreachable")


def rows(platform: Any, offline: int = 0, broken: int = 0) -> list[Any]:
    """Failed devices of two kinds."""
    environment = [platform.row(f"offline-{n}", OFFLINE) for n in range(offline)]
    return environment + [
        platform.row(f"broken-{n}", BROKEN, "installation failed") for n in range(broken)
    ]


# --- what a look costs ----------------------------------------------------------------------------


def test_a_look_in_the_steady_state_is_one_reading(platform: Any, guard: Any) -> None:
    platform.show(platform.task(processing=100))
    watched = guard(SequentialFailureTest(0.02, failure_class="firmware"))

    for _ in range(5):
        watched.poll(10)

    # The time of the first save is random, so that guards that start together save apart.
    assert [asked for asked in platform.asked if asked != "save"] == ["read"] * 5


def test_failed_subtasks_are_read_only_where_the_answer_hangs_on_them(
    platform: Any, guard: Any
) -> None:
    rule = MaxFailures(5, failure_class="firmware")
    platform.show(platform.task(fail=4, processing=96), platform.task(fail=5, processing=95))
    platform.rows = rows(platform, offline=5)
    watched = guard(rule)

    watched.poll()
    assert "rows" not in platform.asked
    watched.poll()
    assert platform.asked.count("rows") == 1


def test_failed_subtasks_are_read_again_only_when_their_count_has_changed(
    platform: Any, guard: Any
) -> None:
    platform.show(platform.task(fail=5, processing=95))
    platform.rows = rows(platform, offline=5)
    watched = guard(MaxFailures(5, failure_class="firmware"))

    watched.poll()
    watched.poll()
    assert platform.asked.count("rows") == 1
    platform.show(platform.task(fail=10, processing=90))
    platform.rows = rows(platform, offline=5, broken=5)
    assert watched.poll().verdict == "breached"
    assert platform.asked.count("rows") == 2


def test_a_rule_that_breaks_without_classes_waits_for_none(platform: Any, guard: Any) -> None:
    platform.show(platform.task(fail=5, processing=95))
    rules = (MaxFailures(2, failure_class="firmware"), MaxFailures(5))

    assert guard(rules).poll().verdict == "breached"
    assert "rows" not in platform.asked


def test_an_environmental_outage_does_not_break_a_rule_about_firmware(
    platform: Any, guard: Any
) -> None:
    platform.show(platform.task(fail=100))
    platform.rows = rows(platform, offline=100)

    assert guard(SequentialFailureTest(0.02, failure_class=("firmware", "unknown"))).poll() is None


def test_classes_can_be_overridden(platform: Any, guard: Any) -> None:
    platform.show(platform.task(fail=5, processing=95))
    platform.rows = rows(platform, broken=5)
    classes = FailureClasses({BROKEN: "environment"})

    watched = guard(MaxFailures(5, failure_class="firmware"), failure_classes=classes)

    assert watched.poll() is None


def test_failed_subtasks_that_cannot_be_read_decide_nothing(platform: Any, guard: Any) -> None:
    platform.show(platform.task(fail=5, processing=95))
    platform.rows = [DOWN]
    watched = guard(MaxFailures(5, failure_class="firmware"), max_outage=60)

    assert watched.poll() is None
    assert watched.poll(61) is None
    assert [told.kind for told in platform.told] == ["blind"]
    platform.rows = rows(platform, broken=5)
    assert watched.poll(10).verdict == "breached"


def test_a_rollout_that_has_ended_waits_for_classes_that_cannot_be_read(
    platform: Any, guard: Any
) -> None:
    platform.show(platform.task("Fail", fail=5))
    platform.rows = [DOWN]

    assert guard(MaxFailures(5, failure_class="firmware")).poll() is None


def test_one_site_that_is_down_can_be_left_out(platform: Any, guard: Any) -> None:
    rule = SequentialFailureTest(0.02, leave_worst_out=True)
    platform.show(platform.task(fail=30, processing=970))
    platform.rows = [platform.row(f"lyon-{n}", OFFLINE) for n in range(30)]
    watched = guard(rule, cluster_of="^([a-z]+)-")

    assert watched.poll() is None
    platform.show(platform.task(fail=90, processing=910))
    platform.rows = [
        platform.row(f"{site}-{n}", OFFLINE) for site in ("lyon", "oslo", "bern") for n in range(30)
    ]
    assert watched.poll().verdict == "breached"


# --- what may decide ------------------------------------------------------------------------------


def test_counts_that_do_not_add_up_are_read_again_and_never_decide(
    platform: Any, guard: Any
) -> None:
    torn = platform.task(fail=50, processing=100, total=120)
    platform.show(torn)
    watched = guard(MaxFailures(5))

    assert watched.poll() is None
    assert platform.asked == ["read", "read"]
    platform.show(torn, platform.task(fail=5, processing=95))
    assert watched.poll().verdict == "breached"


def test_counts_that_never_add_up_are_told_to_a_person(platform: Any, guard: Any) -> None:
    platform.show(platform.task(fail=2, processing=100, total=120))  # 2 have failed, or 20
    watched = guard(max_outage=60)

    for _ in range(8):
        watched.poll(10)

    assert [told.kind for told in platform.told] == ["blind"]
    assert "do not add up" in platform.told[0].sentence


def test_counts_that_stay_one_off_do_not_hide_a_breach(platform: Any, guard: Any) -> None:
    off = platform.task(fail=400, success=99, total=500)
    platform.show(off)
    watched = guard(MaxFailures(5), stop_on_breach=True)

    assert [watched.poll(10), watched.poll(10)] == [None, None]
    assert f"stop {platform.task_id}" not in platform.asked
    watched.poll(10)

    assert f"stop {platform.task_id}" in platform.asked
    assert platform.saved[0]["trail"][-1]["deficit"] == 1


def test_one_device_too_few_in_one_task_and_too_many_in_another_is_no_sum(
    platform: Any, guard: Any
) -> None:
    ids = (platform.task_id, platform.other_id)
    platform.show(platform.task(fail=6, processing=93, total=100))
    platform.show(platform.task(processing=101, total=100, task_id=ids[1]), of=ids[1])
    watched = guard(MaxFailures(5), batch_task_ids=ids)

    assert [watched.poll(10), watched.poll(10)] == [None, None]
    assert watched.poll(10).verdict == "breached"  # 5 have failed at the least


def test_counts_that_stay_off_cost_no_more_calls_than_good_ones(platform: Any, guard: Any) -> None:
    platform.show(platform.task(processing=99, total=100))
    watched = guard()
    for _ in range(3):
        watched.poll(10)
    platform.asked.clear()

    watched.poll(10)

    assert platform.asked == ["read"]


def test_an_ended_task_is_believed_by_its_status_in_the_end(platform: Any, guard: Any) -> None:
    platform.show(platform.task("Success", success=99, total=100))
    watched = guard()

    assert [watched.poll(), watched.poll()] == [None, None]
    assert watched.poll().verdict == "completed"


def test_devices_stopped_by_hand_do_not_make_the_rest_look_worse(platform: Any, guard: Any) -> None:
    rule = MaxFailureRate(0.1, min_sample=1)
    platform.show(
        platform.task(fail=5, processing=95), platform.task(fail=5, processing=5, stopped=90)
    )
    watched = guard(rule)

    watched.poll()
    assert watched.poll() is None  # 5 of 10 now, and still 5 of the 100 that had started


def test_a_hold_tells_a_person_once_and_stops_nothing(platform: Any, guard: Any) -> None:
    rule = SequentialFailureTest(0.02, hold_at=10)
    platform.show(platform.task(fail=3, processing=17))  # evidence 19.6 to 1
    watched = guard(rule, stop_on_breach=True)

    assert [watched.poll(10), watched.poll(10)] == [None, None]
    assert [told.kind for told in platform.told] == ["hold"]
    assert "3 of 20 devices failed" in platform.told[0].sentence
    assert platform.told[0].to_json()["batch_task_ids"] == [platform.task_id]


def test_a_hold_is_not_told_again_by_a_restarted_guard(platform: Any, guard: Any) -> None:
    rule = SequentialFailureTest(0.02, hold_at=10)
    platform.show(platform.task(fail=3, processing=17))
    guard(rule).poll()

    guard(rule, memory=platform.saved[-1]).poll()

    assert len(platform.told) == 1


# --- trouble --------------------------------------------------------------------------------------


def test_a_guard_does_not_give_up_past_max_outage_but_tells_a_person_and_slows_down(
    platform: Any, guard: Any
) -> None:
    platform.show(platform.task(processing=100), DOWN)
    watched = guard(max_outage=600, poll_interval=10.0)
    watched.poll()

    for _ in range(60):
        assert watched.poll(10) is None
    assert (platform.told, watched.watch.interval) == ([], 10.0)
    watched.poll(30)
    assert [told.kind for told in platform.told] == ["blind"]
    assert watched.watch.interval == 100.0
    assert "unreachable" in platform.told[0].sentence

    platform.show(platform.task(fail=5, processing=95))
    assert watched.poll(100).verdict == "breached"


def test_a_person_is_told_again_after_an_hour(platform: Any, guard: Any) -> None:
    platform.show(platform.task(processing=100), DOWN)
    watched = guard(max_outage=0)
    watched.poll()

    for _ in range(73):
        watched.poll(100)

    assert len(platform.told) == 2


def test_lost_rights_are_told_at_once_and_tried_on(platform: Any, guard: Any) -> None:
    platform.show(platform.task(processing=100), IoTDAAuthError(401, "APIGW.0301", "bad key"))
    watched = guard()
    watched.poll()

    assert watched.poll(10) is None
    assert [told.kind for told in platform.told] == ["blind"]
    platform.show(platform.task(processing=100))
    watched.poll(100)
    assert watched.watch.interval == 10.0


def test_an_outage_is_logged_once_a_minute(platform: Any, guard: Any, caplog: Any) -> None:
    platform.show(platform.task(processing=100), DOWN)
    watched = guard()
    watched.poll()

    for _ in range(12):
        watched.poll(10)

    assert sum("unreachable" in record.message for record in caplog.records) == 2


# --- memory ---------------------------------------------------------------------------------------


def test_rules_with_a_history_keep_it_over_a_restart(platform: Any, guard: Any) -> None:
    rule = Overdue(3600, tolerated_rate=0.02)
    platform.show(platform.task(processing=100))
    first = guard(rule)
    for _ in range(60):
        first.poll(60)

    second = guard(rule, memory=platform.saved[-1])

    assert second.poll(120).rule == "Overdue"
    assert guard(rule).poll() is None  # without the memory, the hour starts again


def test_a_history_is_saved_every_minute_and_nothing_else_so_often(
    platform: Any, guard: Any
) -> None:
    platform.show(platform.task(processing=100))
    with_history, without = guard(Stalled(86_400)), guard(MaxFailures(5))

    for watched, saved in ((with_history, 10), (without, 2)):
        platform.saved.clear()
        for _ in range(60):
            watched.poll(10)
        assert len(platform.saved) == saved


def test_guards_that_begin_together_do_not_save_together(platform: Any, guard: Any) -> None:
    platform.draw = Random(7).random
    platform.show(platform.task(processing=100))
    watched = [guard(Stalled(86_400)) for _ in range(60)]

    at_once = []
    for _ in range(30):
        platform.saved.clear()
        platform.now += 10
        for each in watched:
            each.poll()
        at_once.append(len(platform.saved))

    assert sum(at_once) >= 60 * 4, "every minute each of them"
    assert max(at_once) < 30, "of which a sixth is due at a look"


def test_the_trail_is_what_replay_reads(platform: Any, guard: Any) -> None:
    platform.show(
        platform.task(processing=100),
        platform.task(fail=1, processing=99),
        platform.task(fail=5, processing=95),
    )
    watched = guard()
    watched.until_over()

    trail = watched.watch.memory.trail
    audit = read_audit(json.dumps(trail.records))
    assert [record["decision"] for record in audit.records] == ["continue", "continue", "breach"]
    assert audit.records[-1]["progress"]["fail"] == 5
    assert audit.records[-1]["status"] == "Processing"


def test_the_trail_and_the_memory_are_bounded(platform: Any, guard: Any) -> None:
    watched = guard(MaxFailures(100_000), audit_limit=20)
    for number in range(500):
        platform.show(platform.task(fail=number, processing=500 - number))
        watched.poll(10)

    assert len(watched.watch.memory.trail.records) <= 20


@pytest.mark.parametrize("nonsense", [None, 1, "x", [], {}, {"version": 2}, {"version": 1}])
def test_a_memory_that_makes_no_sense_is_no_memory(
    platform: Any, guard: Any, nonsense: Any
) -> None:
    platform.show(platform.task(processing=1))

    assert guard(memory=nonsense).poll() is None


@pytest.mark.parametrize(
    "damage",
    [
        {"batch_task_ids": 5},
        {"trail": 5},
        {"trail": ["x"]},
        {"state": {"version": 1}},
        {"state": [1]},
        {"looks": "many"},
        {"looks": float("inf")},
        {"ended": {"x": {}}},
        {"ended": 5},
        {"intent": {"time": 1}},
        {"intent": "stop"},
    ],
)
def test_a_memory_that_somebody_has_damaged_ends_no_guard(
    platform: Any, guard: Any, damage: dict[str, Any]
) -> None:
    platform.show(platform.task(processing=1))
    watched = guard()
    watched.poll()

    memory = {**watched.watch.memory.to_json(), **damage}

    assert guard(memory=memory).poll() is None


def test_already_current_devices_do_not_dilute_the_rate(platform: Any, guard: Any) -> None:
    platform.show(platform.task(success=900, fail=6, processing=44, waitting=50))
    rule = SequentialFailureTest(0.02)

    assert guard(rule).poll() is None
    assert guard(rule, already_current=950).poll().verdict == "breached"


# --- a task without counts ------------------------------------------------------------------------


def without_counts(platform: Any, status: str, counts: Any = None) -> BatchTask:
    """A batch task as a platform shows it that leaves the counts out."""
    wire = {"task_id": platform.task_id, "task_type": "firmwareUpgrade", "status": status}
    return BatchTask.from_wire(wire if counts is None else {**wire, "task_progress": counts})


@pytest.mark.parametrize("counts", [None, {}, {"total": 0}, {"total": None, "fail": 0}])
def test_a_running_task_without_counts_is_not_judged_as_0_of_0(
    platform: Any, guard: Any, counts: Any
) -> None:
    platform.show(without_counts(platform, "Processing", counts))
    watched = guard(MaxFailures(1), stop_on_breach=True, max_outage=60)

    assert watched.poll() is None
    assert watched.watch.blind_since == platform.start
    assert watched.watch.memory.looks == 0
    # It may be a stray answer, so the task is read twice.
    assert platform.asked.count("read") == 2
    watched.poll(61)
    assert [alert.kind for alert in platform.told] == ["blind"]
    assert "no counts" in platform.told[0].sentence

    platform.show(platform.task(fail=1, processing=99))
    watched.poll(10)
    assert watched.watch.blind_since is None
    assert f"stop {platform.task_id}" in platform.asked


@pytest.mark.parametrize("status", ["Success", "Fail", "PartialSuccess"])
def test_a_task_that_has_ended_without_counts_is_not_completed(
    platform: Any, guard: Any, status: str
) -> None:
    platform.show(without_counts(platform, status))
    watched = guard(MaxFailures(1))

    assert watched.poll() is None
    assert watched.watch.blind_since is not None
    assert watched.watch.memory.ended == {}

    platform.show(platform.task("Fail", fail=5))
    assert watched.poll(10).verdict == "breached"


@pytest.mark.parametrize("status", ["Initializing", "Waitting"])
def test_a_task_that_has_not_begun_needs_no_counts(platform: Any, guard: Any, status: str) -> None:
    platform.show(without_counts(platform, status))
    watched = guard(MaxFailures(1))

    assert watched.poll() is None
    assert watched.watch.blind_since is None


def test_a_task_for_an_empty_group_ends_with_counts_of_0(platform: Any, guard: Any) -> None:
    platform.show(without_counts(platform, "Fail", {"total": 0}))
    assert guard(MaxFailures(1)).poll().verdict == "completed"
