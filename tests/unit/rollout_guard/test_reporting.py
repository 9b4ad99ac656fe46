"""A guard whose rule knows how late failures report: what it must know of starts, and keeps."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.guards import Combined, ReportingDelay, SequentialFailureTest
from iotda_provider.guards.evaluation import GuardState
from iotda_provider.rollout_guard import Memory
from iotda_provider.rollout_guard.reporting import recorded

DELAY = ReportingDelay({300: 0, 1800: 1}, floor=0, slack=0)
RULE = SequentialFailureTest(0.02, reporting=DELAY)


def hazard(watching: Any) -> float:
    return watching.watch._verdict.evidence["hazard"]


def one(age: float) -> float:
    return -math.log(1 - 0.02 * DELAY.share(age))


def test_a_start_counts_from_the_request_of_the_look_before(guard, platform) -> None:
    watching = guard(RULE)
    show = platform.show
    read = platform.read_tasks

    async def slowly(batch_task_ids):
        platform.now += 25
        return await read(batch_task_ids)

    platform.read_tasks = slowly
    show(platform.task(waitting=1000))
    watching.poll()
    show(platform.task(processing=100, waitting=900))
    watching.poll(35)
    # The first request was sent at 0, the answers came at 25 and 85 s.
    assert hazard(watching) == pytest.approx(100 * one(85))
    watching.poll(900)
    assert hazard(watching) == pytest.approx(100 * one(85 + 900 + 25))


def test_a_guard_that_recalls_its_memory_late_knows_the_ages_again(guard, platform) -> None:
    watching = guard(RULE)
    platform.show(platform.task(waitting=1000))
    watching.poll()
    platform.show(platform.task(processing=100, waitting=900))
    watching.poll(60)
    kept = watching.watch.memory.to_json()

    again = guard(RULE)
    platform.show(platform.task(processing=150, waitting=850))
    again.poll(600)
    assert hazard(again) == pytest.approx(150 * one(math.inf))
    again.watch.memory.adopt(Memory.from_json(kept, (platform.task_id,)))
    again.poll(60)
    # The 50 have started after the look at 60 s.
    assert hazard(again) == pytest.approx(100 * one(720) + 50 * one(660))


def test_an_unsigned_memory_makes_no_device_young(guard, platform) -> None:
    watching = guard(RULE)
    platform.show(platform.task(waitting=1000))
    watching.poll()
    platform.show(platform.task(processing=100, waitting=900))
    watching.poll(60)
    kept = watching.watch.memory.to_json()
    forged = Memory.from_json(kept, (platform.task_id,), is_signed=False)
    state = GuardState.from_json(forged.state)
    assert state.started == 100
    assert not state.ages.bins
    assert not state.delays.kept


# --- what it records, checks and says -------------------------------------------------------------


def wave(watching, platform, failures: list[int], *, end: int = 7200) -> Any:
    """Guard 200 devices that start at once and fail at these ages; the outcome."""
    outcome = None
    for after in range(0, end + 1, 30):
        failed = sum(30 + age <= after for age in failures)
        if after < 30:
            platform.show(platform.task(waitting=200))
        elif after < end:
            platform.show(platform.task(processing=200 - failed, fail=failed))
        else:
            platform.show(platform.task("PartialSuccess", success=200 - failed, fail=failed))
        outcome = watching.poll(30 if after else 0)
    return outcome


TOLERANT = SequentialFailureTest(0.1, reporting=ReportingDelay({0: 0, 3600: 1}, floor=0))


def test_a_rollout_whose_failures_came_as_assumed_says_so(guard, platform) -> None:
    outcome = wave(guard(TOLERANT), platform, list(range(100, 3600, 350)))
    assert outcome.verdict == "completed"
    assert "no sooner than assumed" in outcome.summary
    assert outcome.evidence["chance_of_so_soon"] > 0.05


def test_a_rollout_whose_failures_came_sooner_says_so(guard, platform) -> None:
    outcome = wave(guard(TOLERANT), platform, [200, 250, 300, 350, 400, 450, 500, 550, 600])
    assert outcome.verdict == "completed"
    assert "FAILURES CAME SOONER THAN ASSUMED" in outcome.summary
    assert outcome.evidence["chance_of_so_soon"] <= 0.05


def test_a_rule_without_a_delay_says_nothing_of_it(guard, platform) -> None:
    outcome = wave(guard(SequentialFailureTest(0.1)), platform, [200] * 5)
    assert "assumed" not in outcome.summary


def test_a_stop_says_whether_it_rests_on_the_delay_and_nothing_else(guard, platform) -> None:
    watching = guard(TOLERANT, stop_on_breach=True, wait_for_stop=False)
    outcome = None
    for after, failed in ((0, 0), (30, 0), (60, 12)):
        platform.show(
            platform.task(waitting=200)
            if not after
            else platform.task(processing=200 - failed, fail=failed)
        )
        outcome = watching.poll(30)
    assert outcome.verdict == "breached"
    assert "if failures report no sooner than assumed" in outcome.summary
    assert outcome.evidence["rests_on_reporting"] is True
    assert "chance_of_so_soon" not in outcome.evidence


def test_the_delays_are_left_for_fit_also_after_a_restart(guard, platform) -> None:
    watching = guard(SequentialFailureTest(0.1))
    wave(watching, platform, [600, 900], end=3000)
    kept = recorded(watching.watch.memory, "completed")
    # Each is at most two looks shorter than it was.
    assert kept == {
        "verdict": "completed",
        "delays": {"failures": 2, "seconds": [570, 870]},
        "retries": [0, 0],
    }
    again = Memory.from_json(watching.watch.memory.to_json(), (platform.task_id,))
    assert recorded(again, "completed") == kept


def with_policy(platform, policy: Any, **counts: int) -> Any:
    task = platform.task(**counts)
    return replace(task, raw={**task.raw, "task_policy": policy})


@pytest.mark.parametrize(
    ("policy", "retries"),
    [
        (None, (0, 0)),
        ({"retry_count": 5, "retry_interval": 60}, (5, 60)),
        ({"retry_count": "5", "retry_interval": "60"}, (5, 60)),
    ],
)
def test_a_delay_holds_for_the_retries_it_was_learned_under(
    policy, retries, guard, platform
) -> None:
    platform.show(with_policy(platform, policy, waitting=100))
    fitting = ReportingDelay({0: 1}, retries=retries)
    watching = guard(SequentialFailureTest(0.02, reporting=fitting))
    assert watching.poll() is None
    assert watching.watch.memory.retries == list(retries)
    other = ReportingDelay({0: 1}, retries=(3, 10))
    for rule in (SequentialFailureTest(0.02, reporting=other),):
        for rules in (rule, Combined([rule])):
            with pytest.raises(IoTDAConfigError, match="3 retries, 10 minutes apart"):
                guard(rules).poll()


def test_a_batch_task_without_a_policy_has_no_retries(guard, platform) -> None:
    platform.show(platform.task(waitting=100))
    delay = ReportingDelay({0: 1}, retries=(3, 10))
    with pytest.raises(IoTDAConfigError, match="no retries"):
        guard(SequentialFailureTest(0.02, reporting=delay)).poll()
    delay = ReportingDelay({0: 1}, retries=(0, 0))
    assert guard(SequentialFailureTest(0.02, reporting=delay)).poll() is None


@pytest.mark.parametrize("wrong", [[], [1], "xy", {}, [-1, 2], 5, [True, 1]])
def test_retries_that_make_no_sense_are_no_memory(wrong, guard, platform) -> None:
    watching = guard(RULE)
    platform.show(platform.task(waitting=1000))
    watching.poll()
    kept = {**watching.watch.memory.to_json(), "retries": wrong}
    assert Memory.from_json(kept, (platform.task_id,)).looks == 0


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("ages", [1800, 10**400, [[0, 1]]]),
        ("ages", [1800, 0, [[0, 10**400]]]),
        ("ages", [float("inf"), 0, []]),
        ("ages", "x"),
        ("delays", [1, 10**400, [[0, 0, 0]], {}]),
        ("delays", {}),
        ("asked", "x"),
    ],
)
def test_a_forged_history_is_no_memory(name, wrong, guard, platform) -> None:
    watching = guard(RULE)
    platform.show(platform.task(waitting=1000))
    watching.poll()
    kept = watching.watch.memory.to_json()
    kept["state"] = {**kept["state"], name: wrong}
    assert Memory.from_json(kept, (platform.task_id,)).looks == 0
