"""A guard whose rule knows how late failures report: what it must know of starts, and keeps."""

from __future__ import annotations

import math
from typing import Any

import pytest

from iotda_provider.guards import ReportingDelay, SequentialFailureTest
from iotda_provider.guards.evaluation import GuardState
from iotda_provider.rollout_guard import Memory

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
