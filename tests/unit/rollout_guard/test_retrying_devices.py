"""Devices that wait for a retry are counted by their ids, in bounded memory and few calls."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from iotda_provider.exceptions import IoTDATransportError
from iotda_provider.guards import Combined, MaxFailures, SequentialFailureTest
from iotda_provider.models import BatchTask, Subtask, SubtaskStatus
from iotda_provider.rollout_guard import Memory
from iotda_provider.rollout_guard.live_record import LiveRecord
from iotda_provider.rollout_guard.retrying_devices import RetryingDevices

RULE = SequentialFailureTest(0.2, counts="attempts")
EVERY_MINUTE = {"retry_count": 5, "retry_interval": 1}


def waiting(*targets: str, status: SubtaskStatus = SubtaskStatus.FAIL_WAIT_RETRY) -> list[Subtask]:
    return [Subtask(target, status) for target in targets]


def task(platform: Any, policy: Any = None, task_id: str | None = None, **counts: int) -> BatchTask:
    shown = platform.task(task_id=task_id or platform.task_id, **counts)
    raw = {**shown.raw, "task_policy": policy}
    return BatchTask.from_wire(raw)


def test_each_device_counts_once_and_only_while_it_waits(platform: Any, guard: Any) -> None:
    guard = guard(RULE)
    platform.show(task(platform, EVERY_MINUTE, processing=98, fail_wait_retry=2))
    platform.retrying[platform.task_id] = waiting("a", "b")
    guard.poll()
    platform.retrying[platform.task_id] = [
        *waiting("b", "c"),
        *waiting("d", status=SubtaskStatus.PROCESSING),
    ]
    guard.poll(30)
    assert guard.watch.memory.retrying.counts == {platform.task_id: 3}
    record = guard.watch.memory.trail.records[-1]
    assert record["attempted"] == 3
    assert "of 100 devices failed (0 %), 3 have a failed attempt (3 %" in record["sentence"]
    assert LiveRecord(guard.watch).compose(platform.now)["attempted"] == 3


def test_people_see_why_attempts_fail_before_any_device_has_finally_failed(
    platform: Any, guard: Any
) -> None:
    guard = guard(RULE)
    platform.show(task(platform, EVERY_MINUTE, processing=98, fail_wait_retry=2))
    row = Subtask(
        "a",
        SubtaskStatus.FAIL_WAIT_RETRY,
        error_code="IOTDA.005010",
        error_msg="installation failed",
    )
    platform.retrying[platform.task_id] = [row, row]
    guard.poll()
    (reason,) = LiveRecord(guard.watch).compose(platform.now)["first_reasons"]
    assert (reason["failure_class"], reason["error_msg"]) == ("firmware", "installation failed")


@pytest.mark.parametrize(
    ("policy", "spacing"),
    [
        (EVERY_MINUTE, 30),
        ({"retry_count": 5, "retry_interval": 60}, 1800),
        ({"retry_count": "5", "retry_interval": "10"}, 300),
        (None, 30),
        ("nonsense", 30),
    ],
)
def test_the_ids_are_read_twice_in_the_time_that_a_device_waits(
    platform: Any, guard: Any, policy: Any, spacing: int
) -> None:
    platform.show(task(platform, policy, processing=98, fail_wait_retry=2))
    guard = guard(RULE, poll_interval=10)
    for _ in range(2 * spacing // 10):
        guard.poll(10)
    assert platform.asked.count("retrying rows") == 2


def test_no_ids_are_read_while_no_device_waits_and_for_no_other_rule(
    platform: Any, guard: Any
) -> None:
    platform.show(task(platform, EVERY_MINUTE, processing=99, fail=1))
    guard(RULE).poll()
    platform.show(task(platform, EVERY_MINUTE, processing=98, fail_wait_retry=2))
    guard(SequentialFailureTest(0.02)).poll()
    assert "retrying rows" not in platform.asked


def test_the_stop_follows_in_the_look_that_has_read_the_ids(platform: Any, guard: Any) -> None:
    platform.show(task(platform, EVERY_MINUTE, processing=36, fail_wait_retry=2))
    make, guard = guard, guard(RULE, stop_on_breach=True)
    for number in range(9):
        targets = (f"d{2 * number}", f"d{2 * number + 1}")
        platform.retrying[platform.task_id] = waiting(*targets)
        assert not any(step.startswith("stop") for step in platform.asked)
        guard.poll(30)
    assert platform.asked.count(f"stop {platform.task_id}") == 1
    # A breach that the counts show is not kept waiting for ids.
    platform.asked.clear()
    platform.show(task(platform, EVERY_MINUTE, processing=10, fail_wait_retry=28))
    make(RULE, stop_on_breach=True).poll()
    assert f"stop {platform.task_id}" in platform.asked
    assert "retrying rows" not in platform.asked


def test_ids_that_cannot_be_read_are_told_and_the_counts_still_decide(
    platform: Any, guard: Any
) -> None:
    platform.show(task(platform, EVERY_MINUTE, processing=98, fail_wait_retry=2))
    platform.retrying[platform.task_id] = [IoTDATransportError("no answer")]
    guard = guard(RULE, stop_on_breach=True, max_outage=100)
    guard.poll()
    assert guard.watch.blind_since is not None
    guard.poll(200)
    assert [alert.kind for alert in platform.told] == ["blind"]
    platform.show(task(platform, EVERY_MINUTE, processing=40, fail_wait_retry=60))
    guard.poll(10)
    assert f"stop {platform.task_id}" in platform.asked


def test_one_look_reads_at_most_a_thousand_rows_of_all_batch_tasks(
    platform: Any, guard: Any
) -> None:
    ids = (platform.task_id, platform.other_id)
    for task_id in ids:
        shown = task(platform, EVERY_MINUTE, task_id, processing=20_000, fail_wait_retry=900)
        platform.show(shown, of=task_id)
        platform.retrying[task_id] = waiting(*(f"{task_id}-{n}" for n in range(900)))
    guard = guard(RULE, batch_task_ids=ids)
    guard.poll()
    assert sum(guard.watch.memory.retrying.counts.values()) in range(950, 1001)
    guard.poll(10)
    counts = guard.watch.memory.retrying.counts
    assert all(counts[task_id] > 800 for task_id in ids)
    guard.poll(10)
    assert platform.asked.count("retrying rows") == 3


def test_the_same_id_in_two_batch_tasks_is_two_devices_as_in_the_counts() -> None:
    devices = RetryingDevices()
    for task_id in ("one", "two", "one"):
        devices.note(task_id, "device")
    assert devices.counts == {"one": 1, "two": 1}


@pytest.mark.parametrize(("ids", "at_least"), [(100, 99), (1000, 960), (30_000, 13_000)])
def test_the_memory_is_bounded_and_never_counts_too_many(ids: int, at_least: int) -> None:
    devices = RetryingDevices()
    for _ in range(2):
        for number in range(ids):
            devices.note("task", f"device-{number}")
    assert at_least <= devices.counts["task"] <= ids
    kept = devices.to_json()
    assert len(json.dumps(kept)) < 3000
    again = RetryingDevices.from_json(json.loads(json.dumps(kept)))
    assert again == devices
    again.note("task", "device-7")
    assert again.counts == devices.counts


def test_what_two_tries_have_counted_counts_once() -> None:
    earlier, later = RetryingDevices(), RetryingDevices()
    for name in "abc":
        earlier.note("one", name)
    for name in "bcd":
        later.note("one", name)
    later.note("two", "e")
    later.adopt(earlier)
    assert later.counts == {"one": 3, "two": 1}
    for name in "abcd":
        later.note("one", name)
    assert later.counts == {"one": 3, "two": 1}  # d is known; it is counted rather never than twice


@pytest.mark.parametrize(
    "damaged",
    [
        None,
        5,
        {},
        {"counts": {"one": 1}},
        {"counts": {"one": 1}, "ids": "no base64!"},
        {"counts": {"one": 1}, "ids": "eJwDAAAAAAE="},
        {"counts": {"one": -1}},
        {"counts": [], "ids": []},
    ],
)
def test_a_damaged_memory_knows_nothing(damaged: Any) -> None:
    assert RetryingDevices.from_json(damaged) == RetryingDevices()


@pytest.mark.parametrize("count", [2, True, -1, "1", 1.0, 10**9])
def test_a_count_without_its_bits_is_not_believed(count: Any) -> None:
    devices = RetryingDevices()
    devices.note("one", "a")
    kept = {**(devices.to_json() or {}), "counts": {"one": count}}
    assert RetryingDevices.from_json(kept) == RetryingDevices()


@pytest.mark.parametrize("rules", [RULE, Combined([SequentialFailureTest(0.02), RULE])])
def test_the_summary_says_first_how_many_have_a_failed_attempt(
    platform: Any, guard: Any, rules: Any
) -> None:
    platform.show(task(platform, EVERY_MINUTE, processing=18, fail_wait_retry=19, fail=1))
    summary = guard(rules).poll().summary
    share = "2.63 %; 2 % tolerated" if isinstance(rules, Combined) else "2.63 %"
    assert summary.startswith(
        f"BREACHED: 1 of 38 devices failed ({share}), 20 have a failed attempt (52.6 %; 20 % "
        "tolerated): evidence against the rollout "
    )


class TestRestarts:
    """The counts of a guard that was restarted go on."""

    def test_the_memory_holds_both_counts(self, platform: Any, guard: Any) -> None:
        platform.show(
            task(platform, EVERY_MINUTE, processing=60, fail_wait_retry=40),
            task(platform, EVERY_MINUTE, processing=99, fail_wait_retry=1),
        )
        platform.retrying[platform.task_id] = waiting("a", "b")
        rule = SequentialFailureTest(0.4, counts="attempts")
        first = guard(rule)
        first.poll()
        kept = json.loads(json.dumps(first.watch.memory.to_json()))
        again = guard(rule, memory=kept)
        again.poll(60)
        assert again.watch.memory.trail.records[-1]["attempted"] == 40
        assert again.watch.memory.retrying.counts == {platform.task_id: 2}

    def test_a_memory_that_comes_late_is_added(self, platform: Any, guard: Any) -> None:
        platform.show(
            task(platform, EVERY_MINUTE, processing=60, fail_wait_retry=40),
            task(platform, EVERY_MINUTE, processing=99, fail_wait_retry=1),
        )
        platform.retrying[platform.task_id] = waiting("a", "b")
        rule = SequentialFailureTest(0.4, counts="attempts")
        first = guard(rule)
        first.poll()
        platform.retrying[platform.task_id] = waiting("c")
        again = guard(rule)
        again.poll(60)
        assert again.watch.memory.trail.records[-1]["attempted"] == 1
        again.watch.memory.adopt(
            Memory.from_json(first.watch.memory.to_json(), (platform.task_id,))
        )
        again.poll(60)
        assert again.watch.memory.trail.records[-1]["attempted"] == 40

    def test_an_unsigned_memory_is_not_believed(self, platform: Any, guard: Any) -> None:
        platform.show(task(platform, EVERY_MINUTE, processing=60, fail_wait_retry=40))
        platform.retrying[platform.task_id] = waiting("a", "b")
        first = guard(SequentialFailureTest(0.4, counts="attempts"))
        first.poll()
        ids = (platform.task_id,)
        kept = Memory.from_json(first.watch.memory.to_json(), ids, is_signed=False)
        assert kept.started == 100
        assert kept.retrying == RetryingDevices()
        assert [numbers[5] for numbers in kept.state["tasks"].values()] == [0]


class TestWarnings:
    """The first look says what a policy hides from the rules."""

    @pytest.fixture
    def lines(self, platform: Any, guard: Any, caplog: Any) -> Any:
        def lines(rules: Any, policy: Any, **plan: Any) -> list[str]:
            platform.show(task(platform, policy, processing=100))
            guarded = guard(rules, **plan)
            caplog.clear()
            for _ in range(3):
                guarded.poll(10)
            return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]

        return lines

    def test_final_failures_alone_are_hidden_for_hours(self, lines: Any) -> None:
        (line,) = lines(MaxFailures(5), {"retry_count": 5, "retry_interval": 60})
        assert "counts for MaxFailures only after 6 attempts and 5 h of waiting" in line
        assert "counts='attempts'" in line

    def test_attempts_are_not_hidden(self, lines: Any) -> None:
        assert lines(RULE, {"retry_count": 5, "retry_interval": 60}) == []
        assert lines((MaxFailures(5), RULE), {"retry_count": 5, "retry_interval": 60}) == []

    def test_without_retries_nothing_is_hidden(self, lines: Any) -> None:
        for policy in (None, {}, {"schedule_time": "x"}, {"retry_count": 0}, "nonsense"):
            assert lines(MaxFailures(5), policy) == []

    def test_attempts_that_no_look_can_see_are_told(self, lines: Any) -> None:
        (line,) = lines(RULE, {"retry_count": 1, "retry_interval": 0})
        assert "retry_interval 0" in line
        (line,) = lines(RULE, EVERY_MINUTE, poll_interval=120)
        assert "Look at least every 30 s." in line
