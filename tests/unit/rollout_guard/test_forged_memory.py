"""A forged memory can delay a stop, and never cause one."""

from __future__ import annotations

import base64
import json
import logging
import zlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iotda_provider.connection.settings import ConnectionSettings
from iotda_provider.guards import (
    Combined,
    MaxFailureRate,
    MaxFailures,
    Overdue,
    SequentialFailureTest,
    Stalled,
)
from iotda_provider.models import BatchTask
from iotda_provider.rollout_guard import GuardPlan, Memory, Watch
from iotda_provider.rollout_guard.live_record import LiveRecord
from iotda_provider.rollout_guard.signature import Signature
from iotda_provider.transport.runner import run_blocking

TASK = "5c8f9e2d7a6b4c3d1e0f9a8b"
OTHER = "5c8f9e2d7a6b4c3d1e0f9a8c"
CREATED, NOW = "20260921T070000Z", 1_789_974_000.0  # the same moment
RULES = (
    (MaxFailures(5),),
    (MaxFailureRate(0.05, min_sample=100),),
    (MaxFailureRate(0.3, min_sample=20, denominator="finished"),),
    (SequentialFailureTest(0.02),),
    (Combined([SequentialFailureTest(0.02), SequentialFailureTest(0.1)]),),
    (Stalled(3600),),
    (Overdue(3600, 0.02),),
    (SequentialFailureTest(0.02, counts="attempts"),),
)
LOG = logging.getLogger("guard")
OWNER = {"dag_id": "d", "run_id": "r", "task_id": "guard", "map_index": -1}
A_MONTH = 30 * 86400.0
ALL_FAILED = {
    "counts": {TASK: 8000, OTHER: 8000},
    "ids": base64.b64encode(zlib.compress(b"\xff" * 2048)).decode(),
}


def signature(secret: str = "a secret key", owner: Any = None, **settings: Any) -> Signature:
    """The signature of a guard's connection."""
    connection = ConnectionSettings("c", "https://h", password=secret, **settings)
    return Signature(connection, owner or OWNER)


OURS = signature()

counts = st.integers(0, 10**6)
times = st.floats(allow_nan=False, allow_infinity=False) | st.floats(NOW - 1e6, NOW + 1e6)
task_starts = st.lists(counts, min_size=5, max_size=6)
points = st.lists(st.tuples(times, counts).map(list), max_size=4).map(sorted)


@st.composite
def forged(draw: st.DrawFn) -> dict[str, Any]:
    """Whatever a person may put into an Airflow Variable, in the shape of a memory."""
    tasks = draw(st.dictionaries(st.sampled_from([TASK, OTHER, "", "x"]), task_starts, max_size=3))
    state: dict[str, Any] = {
        "version": 2,
        "started": sum(task[0] for task in tasks.values()),
        "tasks": tasks,
        "starts": draw(counts),
        "last": draw(st.lists(counts, min_size=5, max_size=5)),
        "time": draw(times),
        "still_since": draw(times),
        "history": [[3600.0, draw(points)]],
    }
    verdict = {"decision": "breach", "rule": "MaxFailures", "evidence": {}, "sentence": "Forged."}
    intent = {"time": NOW, "verdict": verdict, "progress": [], "attempts": draw(counts)}
    more = draw(st.sampled_from([{}, {"accepted": NOW}, {"guard_lost": True}, {"earlier": False}]))
    ended = {"task_id": OTHER, "status": "Fail", "task_progress": {"total": 500, "fail": 500}}
    return {
        "version": 1,
        "batch_task_ids": [TASK, OTHER],
        "state": draw(st.sampled_from([{}, state])),
        "intent": draw(st.sampled_from([None, {**intent, **more}])),
        "looks": draw(counts),
        "held": draw(st.booleans()),
        "signature": draw(st.sampled_from([None, "", "0" * 64, signature("another").sign({})])),
        "ended": draw(st.sampled_from([{}, {OTHER: ended}])),
        "trail": [],
        "retrying": draw(st.sampled_from([None, ALL_FAILED])),
    }


@st.composite
def rollouts(draw: st.DrawFn) -> list[list[BatchTask]]:
    """Looks at two running batch tasks, whose devices fail, end, and are stopped by hand."""
    looks = []
    now = {name: [0, 0, 0, 0] for name in (TASK, OTHER)}
    for _ in range(draw(st.integers(1, 5))):
        for parts in now.values():
            for index in range(4):
                parts[index] += draw(st.integers(0, 12 if index == 1 else 60))
        looks.append([task(name, *parts) for name, parts in now.items()])
    return looks


def task(name: str, processing: int, fail: int, success: int, stopped: int) -> BatchTask:
    parts = {"processing": processing, "fail": fail, "success": success, "stopped": stopped}
    return BatchTask.from_wire(
        {
            "task_id": name,
            "task_type": "firmwareUpgrade",
            "status": "Processing",
            "create_time": CREATED,
            "task_progress": {"total": 2000, "waitting": 2000 - sum(parts.values()), **parts},
        }
    )


def first_stop(
    platform: Any, rules: Any, memory: Any, looks: list[list[BatchTask]], *, age: float = 0.0
) -> float:
    """The number of the look at which a guard first sends a stop, with batch tasks of this age."""
    plan = GuardPlan(batch_task_ids=(TASK, OTHER), rules=rules, stop_on_breach=True)
    now = [NOW + age]
    kept = OURS.recall(memory, batch_task_ids=plan.batch_task_ids)
    watch = Watch(plan, kept, LOG, clock=lambda: now[0])
    platform.asked.clear()
    for number, tasks in enumerate(looks):
        now[0] += 600.0
        for one in tasks:
            platform.show(one, of=one.task_id)
        if run_blocking(watch.poll(platform)) is not None:
            return float("inf")
        if any(asked.startswith("stop") for asked in platform.asked):
            return number
    return float("inf")


@pytest.mark.parametrize("rules", RULES, ids=lambda rules: rules[0].name)
@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(memory=forged(), looks=rollouts(), age=st.sampled_from([0.0, 3000.0, A_MONTH]))
def test_it_never_stops_earlier_than_a_guard_without_one(
    platform: Any, rules: Any, memory: dict[str, Any], looks: list[list[BatchTask]], age: float
) -> None:
    without = first_stop(platform, rules, None, looks, age=age)
    assert first_stop(platform, rules, memory, looks, age=age) >= without


@pytest.mark.parametrize("rule", [Stalled(3600), Overdue(3600, 0.02)])
@pytest.mark.parametrize("age", [0.0, A_MONTH])
def test_nor_at_a_batch_task_that_is_older_than_the_rules_time(
    platform: Any, rule: Any, age: float
) -> None:
    """The devices have run for ten minutes, but the note says: since the task was created."""
    state = {"version": 2, "started": 100, "tasks": {TASK: [100, 100, 0, 0, 2000]}, "starts": 200}
    state |= {"last": [200, 0, 200, 0, 0], "time": NOW + age - 1, "still_since": NOW - 1}
    state |= {"history": [[3600.0, [[NOW - 1, 200]]]]}
    memory = {"version": 1, "batch_task_ids": [TASK, OTHER], "state": state, "looks": 5}
    going_on = [task(name, 100, 0, 0, 0) for name in (TASK, OTHER)]
    assert first_stop(platform, (rule,), memory, [going_on], age=age) == float("inf")
    # A signed memory is believed.
    signed = first_stop(platform, (rule,), OURS.sign(memory), [going_on], age=age)
    assert signed == (0 if age else float("inf"))


def recalled(memory: Any, by: Signature = OURS) -> Memory:
    return by.recall(memory, batch_task_ids=(TASK,))


@pytest.mark.parametrize(
    "theirs",
    [
        signature("another secret"),
        signature(owner={**OWNER, "run_id": "another"}),
        signature(auth_type="federation"),
        Signature(None, OWNER),
    ],
    ids=["secret", "task instance", "no secret", "no connection"],
)
def test_what_another_guard_has_signed_is_not_this_ones(theirs: Signature) -> None:
    verdict = {"decision": "breach", "rule": "MaxFailures", "evidence": {"e": 1e22}, "sentence": ""}
    memory = Memory((TASK,), intent={"attempts": 1, "verdict": verdict}, looks=3).to_json()
    assert recalled(theirs.sign(memory)).intent is None
    assert (recalled(theirs.sign(memory), theirs).intent is None) == (theirs.sign(memory) == memory)

    signed = OURS.sign(memory)
    kept = json.loads(json.dumps(signed).replace("1e+22", f"{10**22}"))  # as Postgres keeps it
    assert recalled(kept).intent is not None
    for change in ({"looks": 4}, {"batch_task_ids": [OTHER]}, {"signature": None}):
        assert recalled({**signed, **change}).intent is None


def test_of_several_copies_a_signed_one_is_believed() -> None:
    """Otherwise anybody could make a guard forget its decision."""
    ours = OURS.sign(Memory((TASK,), looks=3).to_json())
    forged = Memory((TASK,), looks=10**9).to_json()
    found = OURS.recall(forged, ours, None, "x", batch_task_ids=(TASK,))
    assert found.looks == 3


def test_nobody_elses_stop_is_reported_as_the_guards_own(platform: Any, guard: Any) -> None:
    platform.show(platform.task(fail=5, processing=95))
    guard(stop_on_breach=True).poll()
    note = platform.saved[0]
    platform.show(platform.task("Stopped", stopped=95, fail=5))

    def verdict(note: Any) -> Any:
        watched = guard(stop_on_breach=True)
        watched.watch.memory = recalled(note)
        return watched.poll().verdict

    assert verdict(note) == "stopped_elsewhere"
    assert verdict(OURS.sign(note)) == "breached"


@pytest.mark.parametrize("rule", [Stalled(3600), Overdue(3600, 0.02)])
def test_nothing_can_have_begun_before_the_batch_task_was_created(platform: Any, rule: Any) -> None:
    """Devices that have run for ten minutes have neither stalled nor run for an hour."""
    state = {"version": 2, "started": 1, "tasks": {TASK: [1, 0, 0, 0, 1]}, "starts": 0}
    state |= {"last": [100, 0, 100, 0, 0], "time": NOW - 1, "still_since": NOW - 1e6}
    state |= {"history": [[3600.0, [[NOW - 1e6, 0]]]]}
    memory = {"version": 1, "batch_task_ids": [TASK, OTHER], "state": state, "looks": 5}
    going_on = [task(name, 100, 0, 0, 0) for name in (TASK, OTHER)]
    assert first_stop(platform, (rule,), memory, [going_on]) == float("inf")


def test_a_part_that_somebody_stopped_and_a_forged_intent_stop_no_healthy_rest(
    platform: Any, guard: Any
) -> None:
    platform.show(platform.task(fail=5, processing=95))
    platform.show(platform.task(processing=9, task_id=OTHER), of=OTHER)
    both = {"batch_task_ids": (TASK, OTHER), "stop_on_breach": True}
    guard(**both).poll()
    note = platform.saved[0]
    platform.asked.clear()
    platform.show(platform.task("Stopped", stopped=100))

    outcome = guard(memory=note, **both).poll()

    assert outcome.verdict == "stopped_elsewhere"
    assert f"stop {OTHER}" not in platform.asked


@pytest.mark.parametrize(
    ("part", "damage"),
    [
        ("intent", {"sent": "x"}),
        ("intent", {"sent": float("nan")}),
        ("intent", {"accepted": 1e300}),
        ("intent", {"accepted": [1]}),
        ("intent", {"error": 5}),
        ("intent", {"attempts": "many"}),
        ("trail", {"rules": 5}),
        ("trail", {"rules": ["x"]}),
        ("trail", {"sentence": 5}),
        ("trail", {"looks": "many"}),
    ],
)
@pytest.mark.parametrize("status", ["Processing", "Stopped"])
def test_what_somebody_has_made_of_a_part_of_a_memory_ends_no_guard(
    platform: Any, guard: Any, status: str, part: str, damage: dict[str, Any]
) -> None:
    """The XCom ``live`` and the result are made from the memory too."""
    platform.show(platform.task(processing=90, fail=10))
    watched = guard(stop_on_breach=True)
    watched.poll()
    memory = watched.watch.memory.to_json()
    memory[part] = (
        {**memory[part], **damage} if part == "intent" else [{**memory[part][0], **damage}]
    )
    counts = {"stopped": 99, "fail": 1} if status == "Stopped" else {"processing": 100}
    platform.show(platform.task(status, **counts))

    again = guard(stop_on_breach=True, memory=memory)
    live = LiveRecord(again.watch)
    outcome = again.poll()

    assert (outcome is None) == (status == "Processing")
    assert json.dumps(live.compose(platform.now, outcome=outcome))


def test_a_forged_sentence_is_one_line(platform: Any, guard: Any) -> None:
    platform.show(platform.task(processing=90, fail=10))
    watched = guard(stop_on_breach=True)
    watched.poll()
    memory = watched.watch.memory.to_json()
    memory["intent"]["verdict"]["sentence"] = "A\n[ERROR] \x1b[31mforged" + "x" * 100_000
    platform.show(platform.task("Stopped", fail=10, stopped=90))

    summary = guard(stop_on_breach=True, memory=memory).poll().summary

    assert summary.isprintable()
    assert len(summary) < 3_000
