"""A memory that comes after some looks has the same effect as one from the start."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iotda_provider.guards import Look, Overdue, SequentialFailureTest, Stalled, evaluate
from iotda_provider.models import TaskProgress
from iotda_provider.rollout_guard import Memory

IDS = ("0123456789abcdef01234567",)
RULES = [
    SequentialFailureTest(0.02),
    Stalled(3600),
    Overdue(600, 0.02),
    SequentialFailureTest(0.02, counts="attempts"),
]
TOTAL = 1000


def seen_by(memory: Memory, look: Look) -> int:
    """Look with this memory; returns how many devices the guard knows to have started."""
    memory.state, verdict = evaluate(RULES, memory.state, look)
    memory.note_look(look)
    memory.looks += 1
    return int(verdict.parts[0].evidence["devices"])


@st.composite
def rollouts(draw: st.DrawFn) -> list[Look]:
    """Looks at a rollout whose devices are stopped, taken back and started again at will."""
    looks = []
    for number in range(draw(st.integers(2, 15))):
        parts = [draw(st.integers(0, 300)) for _ in range(3)]
        counts = dict(zip(("processing", "stopped", "success"), parts, strict=True))
        progress = TaskProgress(total=TOTAL, waiting=TOTAL - sum(parts), **counts)
        looks.append(Look(time=100.0 * number, progress=progress, tasks={IDS[0]: progress}))
    return looks


@settings(deadline=None)
@given(rollouts(), st.data())
def test_it_makes_the_state_that_a_guard_without_a_gap_has(
    looks: list[Look], data: st.DataObject
) -> None:
    whole, before, after = Memory(IDS), Memory(IDS), Memory(IDS)
    restart = data.draw(st.integers(0, len(looks)))
    recall = data.draw(st.integers(restart, len(looks)))
    counted = 0
    for number, look in enumerate(looks):
        if number == recall:
            after.adopt(Memory.from_json(before.to_json(), IDS))
        seen_by(whole, look)
        if number < restart:
            seen_by(before, look)
            continue
        now = seen_by(after, look)
        assert now >= counted
        counted = now
    if recall == len(looks):
        after.adopt(Memory.from_json(before.to_json(), IDS))
    assert after.state == whole.state
    assert after.looks == whole.looks


def test_of_a_recall_that_takes_long_only_some_looks_are_kept() -> None:
    memory, most = Memory(IDS), 0
    for number in range(200):
        progress = TaskProgress(total=TOTAL, processing=number, waiting=TOTAL - number)
        most = seen_by(memory, Look(time=10.0 * number, progress=progress))
        assert len(memory._since) <= 20
    memory.adopt(Memory(IDS))
    assert memory.state["started"] == most


def test_no_memory_at_all_changes_nothing() -> None:
    memory = Memory(IDS)
    progress = TaskProgress(total=TOTAL, processing=10, waiting=TOTAL - 10)
    seen_by(memory, Look(time=5.0, progress=progress))
    before = memory.to_json()
    memory.adopt(Memory(IDS))
    assert memory.to_json() == before


@pytest.mark.parametrize(
    ("status", "verdict"), [("Stopping", None), ("Stopped", "breached"), ("Processing", None)]
)
def test_a_stop_of_its_own_is_recognised_and_sent_by_a_look_alone(
    platform: Any, guard: Any, status: str, verdict: str | None
) -> None:
    platform.show(platform.task(fail=5, processing=95))
    guard(stop_on_breach=True).poll()
    note = platform.saved[0]
    platform.asked.clear()
    going_on = platform.task(processing=100)
    platform.show(going_on, platform.task(status, processing=5, stopped=95), going_on)
    restarted = guard(stop_on_breach=True)
    restarted.poll()

    restarted.watch.memory.adopt(Memory.from_json(note, (platform.task_id,)))
    outcome = restarted.poll()

    assert (outcome and outcome.verdict) == verdict
    assert not [asked for asked in platform.asked if asked.startswith("stop")]
