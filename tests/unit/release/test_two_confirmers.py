"""Two processes confirm one wave, where one was only thought to be dead: nothing is lost by that.

Their calls are interleaved in every way that Hypothesis finds.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Coroutine, Generator, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from iotda_provider.exceptions import IoTDATransportError
from iotda_provider.guards import MaxFailures
from iotda_provider.models import BatchTask, SubtaskStatus, TargetResult, TargetResults
from iotda_provider.release.confirm_job import ConfirmJob
from iotda_provider.release.confirm_wave import CONFIRMED, WaveConfirmation
from iotda_provider.release.ledger import Ledger
from iotda_provider.release.manifest import Part
from iotda_provider.release.release_guard import ReleaseGuard
from iotda_provider.rollout_guard import GuardPlan, Memory

TASK = "5c8f9e2d7a6b4c3d1e0f9a8b"
KEY = "confirmed_1_1"
FLEET = [f"device-{n:02}" for n in range(24)]
OFFLINE = frozenset(FLEET[::5])
CHUNK, MAX_IN_FLIGHT = 3, 7
SCHEDULES = st.lists(st.integers(0, 3), max_size=250)


class Turn:
    """Lets the other process go on."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class World:
    """The platform and the storage that two processes share."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0
        self.waiting = list(FLEET)
        self.processing: list[str] = []
        self.done: list[str] = []
        self.failed: list[str] = []
        self.stopped: list[str] = []
        self.accepted: set[str] = set()
        self.begun: set[str] = set()
        self.most_in_flight = 0
        self.records: dict[str, dict[str, Any]] = {}
        #: For each call of the storage whether it fails; afterwards none does.
        self.storage_fails: list[bool] = []
        self.answers_lost: list[bool] = []
        self.reading_fails = False

    def passes(self, fails: bool = False) -> None:
        """One device finishes."""
        self.now += 1.0
        if self.processing:
            (self.failed if fails else self.done).append(self.processing.pop(0))

    def ledger(self) -> Ledger:
        """What a later task reads."""
        ledger = Ledger(TASK, FLEET)
        for record in self.records.values():
            assert ledger.merge(record)
        return ledger


class Process:
    """One confirmer's I/O object; between any two calls the other process may go on."""

    def __init__(self, world: World) -> None:
        self.world = world
        plan = GuardPlan(
            batch_task_ids=(TASK,), rules=(MaxFailures(2),), stop_on_breach=True, poll_interval=10
        )
        log = logging.getLogger("two confirmers")
        log.disabled = True
        watch = ReleaseGuard(
            plan, Memory(batch_task_ids=(TASK,)), log, clock=self.clock, draw=lambda: 0.0
        )
        job = ConfirmJob(
            wave=1,
            parts=(Part(1, 1, "release", len(FLEET), TASK),),
            late=False,
            deadline=world.now + 1e6,
            timeout=1e6,
            chunk=CHUNK,
            max_in_flight=MAX_IN_FLIGHT,
        )
        self.confirming = WaveConfirmation(job, watch)
        self.coroutine: Coroutine[Any, Any, Any] = self.confirming.run(self)
        self.result: dict[str, Any] | None = None

    def clock(self) -> float:
        return self.world.now

    def step(self) -> None:
        """Go on until the next call."""
        if self.result is None:
            try:
                self.coroutine.send(None)
            except StopIteration as end:
                self.result = end.value

    async def read_tasks(self, batch_task_ids: Sequence[str]) -> list[Any]:
        await Turn()
        world = self.world
        progress = {
            "total": len(FLEET),
            "waitting": len(world.waiting),
            "processing": len(world.processing),
            "success": len(world.done),
            "fail": len(world.failed),
            "stopped": len(world.stopped),
        }
        status = "Stopped" if world.stopped else "Processing"
        description = {"task_id": TASK, "task_type": "firmwareUpgrade", "status": status}
        return [BatchTask.from_wire({**description, "task_progress": progress})]

    async def read_failed(self, batch_task_id: str, tally: Any) -> None:
        await Turn()

    async def read_retrying(self, batch_task_id: str, add: Any, most: int) -> None:
        """No rule here asks for the devices that wait for a retry."""

    async def stop_task(self, batch_task_id: str) -> None:
        await Turn()
        world = self.world
        world.stopped += world.waiting + world.processing
        world.waiting = []
        world.processing = []

    async def rehearse_stop(self, batch_task_id: str) -> None:
        await Turn()

    async def save(self, memory: Mapping[str, Any], *, routine: bool = False) -> bool:
        return True

    async def tell(self, alert: Any) -> None:
        await Turn()

    async def read_members(self, part: Part) -> list[str]:
        await Turn()
        return list(FLEET)

    async def read_targets(self, batch_task_id: str, status: SubtaskStatus) -> set[str]:
        await Turn()
        return set(self.world.waiting) if status is SubtaskStatus.WAITING else set()

    async def confirm(self, batch_task_id: str, targets: Sequence[str]) -> TargetResults:
        await Turn()
        world = self.world
        rows = []
        for target in targets:
            takes = target in world.waiting and target not in world.accepted
            # Of who has begun already the hook says so, whatever the platform answers.
            rows.append(TargetResult(target, takes or target in world.accepted))
            if takes:
                world.accepted.add(target)
                if target not in OFFLINE:
                    world.waiting.remove(target)
                    world.processing.append(target)
                    world.begun.add(target)
        unstarted = world.accepted & set(world.waiting)
        world.most_in_flight = max(world.most_in_flight, len(world.processing) + len(unstarted))
        await Turn()
        if world.answers_lost and world.answers_lost.pop():
            raise IoTDATransportError("the answer was lost")
        return TargetResults(rows)

    async def recall(self, key: str) -> list[Any] | None:
        await Turn()
        world = self.world
        if world.reading_fails or (world.storage_fails and world.storage_fails.pop()):
            return None
        found = [copy.deepcopy(world.records[key])] if key in world.records else []
        await Turn()
        return found

    async def note(self, key: str, record: Mapping[str, Any]) -> bool:
        await Turn()
        world = self.world
        if world.storage_fails and world.storage_fails.pop():
            return False
        world.records[key] = copy.deepcopy(dict(record))
        return True

    async def sleep(self, seconds: float) -> None:
        await Turn()
        self.world.now += seconds

    async def ask(self, facts: Mapping[str, Any]) -> str:
        raise AssertionError


def both_until_over(
    world: World, schedule: Sequence[int], *, fails: bool = False, dies_at: int | None = None
) -> list[Process]:
    """Two processes that take turns as the schedule says, and one by one after its end."""
    processes = [Process(world), Process(world)]
    for number in range(20_000):
        turn = schedule[number] if number < len(schedule) else number % 3
        if turn > 1:
            world.passes(fails)
        elif not (turn == 0 and dies_at is not None and number >= dies_at):
            processes[turn].step()
        left = processes if dies_at is None else processes[1:]
        if all(process.result is not None for process in left):
            for process in processes:
                process.coroutine.close()
            return processes
    raise AssertionError("they have not come to an end")


@settings(max_examples=150, deadline=None)
@given(SCHEDULES)
def test_everybody_is_confirmed_and_one_call_too_much_is_under_way_at_most(
    schedule: list[int],
) -> None:
    world = World()
    processes = both_until_over(world, schedule)
    results = [process.result or {} for process in processes]
    assert {result["verdict"] for result in results} == {CONFIRMED}
    assert world.accepted == {*FLEET}
    assert world.most_in_flight <= MAX_IN_FLIGHT + CHUNK
    assert world.ledger().accepted == {*FLEET}


@settings(max_examples=150, deadline=None)
@given(
    SCHEDULES,
    st.lists(st.booleans(), max_size=40),
    st.lists(st.booleans(), max_size=8),
    st.integers(0, 200),
)
def test_whatever_fails_and_whoever_dies_the_other_one_confirms_all(
    schedule: list[int], storage_fails: list[bool], answers_lost: list[bool], dies_at: int
) -> None:
    world = World()
    world.records[KEY] = Ledger(TASK, FLEET).to_json()  # the release has begun
    world.storage_fails, world.answers_lost = storage_fails, answers_lost
    (_, survivor) = both_until_over(world, schedule, dies_at=dies_at)
    assert survivor.result is not None
    assert survivor.result["verdict"] == CONFIRMED
    assert world.accepted == {*FLEET}


#: The first process writes what it has read before the second one's last writing.
LATE_WRITER = [1] * 13 + [0] * 8
#: The second process sees devices wait that the first one is asking just then, which dies.
LATE_READER = [0] * 14 + [1] * 9 + [0] * 10


@settings(max_examples=150, deadline=None)
@given(SCHEDULES, st.none() | st.integers(0, 200))
@example(LATE_WRITER, None)
@example(LATE_READER, 61)
def test_whoever_has_begun_counts_as_exposed_after_a_stop(
    schedule: list[int], dies_at: int | None
) -> None:
    world = World()
    processes = both_until_over(world, schedule, fails=True, dies_at=dies_at)
    results = [process.result for process in processes if process.result is not None]
    assert {result["verdict"] for result in results} <= {"breached", "stopped_elsewhere"}
    ledger = world.ledger()
    assert world.begun <= world.accepted <= ledger.exposed


def until(process: Process, is_so: Any) -> None:
    """Let one process go on until something is so."""
    for _ in range(2_000):
        if is_so():
            return
        process.step()
        process.world.passes()
    raise AssertionError("it never came to that")


def test_what_another_process_has_written_meanwhile_is_kept() -> None:
    world = World()
    process = Process(world)
    until(process, lambda: len(world.accepted) == CHUNK)  # and it has no answer yet
    other = Ledger(TASK, FLEET)
    other.note_answer([FLEET[-1]], [FLEET[-1]])
    world.records[KEY] = other.to_json()
    until(process, lambda: len(world.ledger().accepted) > CHUNK)
    assert {FLEET[-1], *FLEET[:CHUNK]} <= world.ledger().accepted


def test_nothing_is_written_over_what_can_not_be_read() -> None:
    world = World()
    process = Process(world)
    until(process, lambda: len(world.accepted) == CHUNK)
    other = Ledger(TASK, FLEET)
    other.note_answer([FLEET[-1]], [FLEET[-1]])
    theirs = {KEY: other.to_json()}
    world.records = dict(theirs)
    world.reading_fails = True
    for _ in range(100):
        process.step()
    assert world.records == theirs
    world.reading_fails = False
    until(process, lambda: process.result is not None)
    assert world.ledger().accepted == {*FLEET}


@pytest.mark.parametrize("turns", range(0, 40, 2))
def test_one_that_begins_beside_another_does_not_take_its_devices_for_foreign(turns: int) -> None:
    world = World()
    first, second = Process(world), Process(world)
    for _ in range(turns):
        second.step()
    until(first, lambda: len(world.accepted) > 0)
    for _ in range(60):
        second.step()
    until(first, lambda: first.result is not None)
    until(second, lambda: second.result is not None)
    assert second.confirming.job.outside == 0
