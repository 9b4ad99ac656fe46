"""One reading for all guards that look at the same time: its number of calls."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from iotda_provider.exceptions import (
    IoTDAAuthError,
    IoTDAConfigError,
    IoTDANotFoundError,
    IoTDAServerError,
)
from iotda_provider.models import BatchTask
from iotda_provider.triggers import shared_reads
from iotda_provider.triggers.shared_reads import SharedReads, open_shared_reads, seconds_to_tick


class Platform:
    """Some running upgrades, and a count of the calls that reading them took."""

    def __init__(self, tasks: int, *, others: int = 0, counts_in_list: Any = "as they are") -> None:
        self.wire = {
            f"{number:024x}": {
                "task_id": f"{number:024x}",
                "task_type": "firmwareUpgrade",
                "status": "Processing",
                "task_progress": {"total": 1, "processing": 1},
            }
            for number in range(tasks + others)
        }
        self.ids = list(self.wire)[:tasks]  # the oldest; the others were made after them
        self.counts_in_list = counts_in_list
        self.calls: Counter[str] = Counter()
        self.error: Exception | None = None
        self.key, self.dead_keys = "old", set[str]()
        self.key_in_airflow = "old"
        self.lookup_ends = asyncio.Event()
        self.lookup_ends.set()
        self.refused: set[str] = set()
        self.closed = False
        self.was_asked, self.answers = asyncio.Event(), asyncio.Event()
        self.answers.set()

    async def get_batch_task(self, batch_task_id: str) -> BatchTask:
        self.calls["show"] += 1
        await self._answer()
        if self.error:
            raise self.error
        if self.key in self.dead_keys:
            raise IoTDAAuthError(401)
        if batch_task_id in self.refused:
            raise IoTDAAuthError(403)
        if batch_task_id not in self.wire:
            raise IoTDANotFoundError(404)
        return BatchTask.from_wire(self.wire[batch_task_id])

    async def list_batch_tasks(self, *, task_type: Any, status: Any) -> Any:
        rows = [row for row in self.wire.values() if row["status"] == status]
        for place, row in enumerate(sorted(rows, key=lambda r: r["task_id"], reverse=True)):
            if place % 50 == 0:
                self.calls["list"] += 1
                await self._answer()
                if self.error:
                    raise self.error
            shown = dict(row)
            if self.counts_in_list == "left out":
                del shown["task_progress"]
            elif self.counts_in_list != "as they are":
                shown["task_progress"] = self.counts_in_list
            yield BatchTask.from_wire(shown)

    async def get_settings(self, *, again: bool) -> None:
        assert again
        self.calls["lookup"] += 1
        await self.lookup_ends.wait()
        if not self.key_in_airflow:
            raise IoTDAConfigError("There is no connection.")
        self.key = self.key_in_airflow

    async def _answer(self) -> None:
        self.was_asked.set()
        await self.answers.wait()

    async def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_reads, "_GATHER_SECONDS", 0.0)


async def look(reads: SharedReads, ids: Any) -> list[Any]:
    """Read all of them at the same time."""
    return await asyncio.gather(*map(reads.read, ids), return_exceptions=True)


async def until(is_true: Callable[[], bool]) -> None:
    for _ in range(1000):
        await asyncio.sleep(0)
        if is_true():
            return
    raise AssertionError("it never became true")


async def test_a_thousand_that_look_together_cost_a_page_for_fifty() -> None:
    platform = Platform(1000)
    reads: Any = SharedReads(platform)  # type: ignore[arg-type]

    for _ in range(2):  # all are new, as after the death of another triggerer
        tasks = await look(reads, platform.ids)

    assert [task.task_id for task in tasks] == platform.ids
    assert platform.calls == {"list": 40}


async def test_those_that_are_late_share_the_next_reading() -> None:
    platform = Platform(1000)
    reads: Any = SharedReads(platform)  # type: ignore[arg-type]
    platform.answers.clear()
    looks = [asyncio.ensure_future(look(reads, platform.ids[:500]))]
    await platform.was_asked.wait()

    for start in range(500, 1000, 10):
        looks.append(asyncio.ensure_future(look(reads, platform.ids[start : start + 10])))
        await asyncio.sleep(0.001)
    platform.answers.set()
    tasks = [task for one in looks for task in await one]

    assert [task.task_id for task in tasks] == platform.ids
    assert platform.calls["list"] <= 40
    assert not platform.calls["show"]


async def test_a_reading_that_hangs_holds_up_the_next_one_for_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared_reads, "_LONGEST_TURN", 0.01)
    platform = Platform(2)
    reads: Any = SharedReads(platform)  # type: ignore[arg-type]
    platform.answers.clear()
    hanging = asyncio.ensure_future(reads.read(platform.ids[0]))
    await platform.was_asked.wait()
    platform.answers = asyncio.Event()
    platform.answers.set()

    assert (await reads.read(platform.ids[1])).task_id == platform.ids[1]
    assert not hanging.done()
    await reads.close()


async def test_a_few_for_whom_a_list_is_not_worth_it_keep_no_others_from_it() -> None:
    platform = Platform(500)
    reads: Any = SharedReads(platform)  # type: ignore[arg-type]
    await look(reads, platform.ids)
    await look(reads, platform.ids[:6])  # the oldest, at the list's end
    platform.calls.clear()

    await look(reads, platform.ids)

    assert platform.calls == {"list": 10}


async def test_a_few_are_read_one_by_one() -> None:
    platform = Platform(3, others=500)
    reads: Any = SharedReads(platform)  # type: ignore[arg-type]

    for _ in range(3):
        await look(reads, platform.ids)

    assert platform.calls == {"show": 9}


async def test_two_guards_on_one_task_share_one_call() -> None:
    platform = Platform(1)
    reads: Any = SharedReads(platform)  # type: ignore[arg-type]

    first, second = await look(reads, platform.ids * 2)

    assert first is second
    assert platform.calls == {"show": 1}


@pytest.mark.parametrize("counts", ["left out", None, {}])
async def test_a_list_without_counts_is_asked_for_once_and_never_again(counts: Any) -> None:
    platform = Platform(100, counts_in_list=counts)
    reads: Any = SharedReads(platform)  # type: ignore[arg-type]

    for _ in range(4):
        tasks = await look(reads, platform.ids)

    assert all(task.progress.total == 1 for task in tasks)
    assert platform.calls == {"show": 400, "list": 1}


async def test_a_list_full_of_other_peoples_tasks_is_left_alone_for_a_while() -> None:
    platform = Platform(10, others=5000)
    reads: Any = SharedReads(platform)  # type: ignore[arg-type]

    for _ in range(10):
        await look(reads, platform.ids)

    assert platform.calls["show"] == 100
    assert platform.calls["list"] <= 5


async def test_one_that_has_moved_on_is_read_by_itself() -> None:
    platform = Platform(50)
    reads: Any = SharedReads(platform)  # type: ignore[arg-type]
    await look(reads, platform.ids)
    platform.wire[platform.ids[7]]["status"] = "Stopped"
    platform.calls.clear()

    tasks = await look(reads, platform.ids)

    assert str(tasks[7].status) == "Stopped"
    assert platform.calls == {"list": 1, "show": 1}


async def test_each_gets_its_own_error_and_the_others_their_tasks() -> None:
    platform = Platform(50)
    reads: Any = SharedReads(platform)  # type: ignore[arg-type]
    await look(reads, platform.ids)
    del platform.wire[platform.ids[7]]

    tasks = await look(reads, platform.ids)

    assert isinstance(tasks[7], IoTDANotFoundError)
    assert sum(isinstance(task, BatchTask) for task in tasks) == 49


async def test_an_outage_reaches_all_and_passes() -> None:
    platform = Platform(50)
    reads: Any = SharedReads(platform)  # type: ignore[arg-type]
    await look(reads, platform.ids)
    platform.error = IoTDAServerError(503)

    assert {type(answer) for answer in await look(reads, platform.ids)} == {IoTDAServerError}
    platform.error = None
    assert all(isinstance(task, BatchTask) for task in await look(reads, platform.ids))


async def test_new_keys_are_read_after_the_first_refusal_whoever_else_is_there() -> None:
    platform = Platform(2)
    reads: Any = SharedReads(platform)  # type: ignore[arg-type]
    often, seldom = platform.ids
    await look(reads, [often, seldom])
    platform.dead_keys, platform.key_in_airflow = {"old"}, "new"

    (refused,) = await look(reads, [often])
    await until(lambda: platform.key == "new")
    (task,) = await look(reads, [often])

    assert isinstance(refused, IoTDAAuthError)
    assert task.task_id == often
    assert platform.calls["lookup"] == 1
    assert not platform.closed
    await reads.close()


async def test_nobody_waits_for_a_lookup_that_hangs_and_it_is_made_once() -> None:
    platform = Platform(3)
    reads: Any = SharedReads(platform)  # type: ignore[arg-type]
    platform.refused = {platform.ids[0]}
    platform.lookup_ends.clear()

    for _ in range(3):
        answers = await look(reads, platform.ids)
        assert [type(answer) for answer in answers] == [IoTDAAuthError, BatchTask, BatchTask]

    assert platform.calls["lookup"] == 1
    assert not platform.closed
    await reads.close()
    assert platform.closed


async def test_a_lookup_that_fails_is_tried_again_after_the_next_refusal() -> None:
    platform = Platform(1)
    reads: Any = SharedReads(platform)  # type: ignore[arg-type]
    platform.dead_keys, platform.key_in_airflow = {"old"}, ""
    await look(reads, platform.ids)
    await until(lambda: platform.calls["lookup"] == 1)

    platform.key_in_airflow = "new"
    await look(reads, platform.ids)
    await until(lambda: platform.key == "new")
    (task,) = await look(reads, platform.ids)

    assert task.task_id == platform.ids[0]
    await reads.close()


async def test_a_fault_of_ours_leaves_nobody_waiting() -> None:
    platform = Platform(1)
    platform.error = ZeroDivisionError()
    reads: Any = SharedReads(platform)  # type: ignore[arg-type]

    (answer,) = await look(reads, platform.ids)

    assert isinstance(answer, ZeroDivisionError)


async def test_who_asks_during_a_reading_gets_the_next_one() -> None:
    platform = Platform(1)
    reads: Any = SharedReads(platform)  # type: ignore[arg-type]
    first = asyncio.ensure_future(reads.read(platform.ids[0]))
    await asyncio.sleep(0)
    await first

    await reads.read(platform.ids[0])

    assert platform.calls == {"show": 2}


async def test_a_guard_that_is_cancelled_does_not_take_the_others_along() -> None:
    platform = Platform(2)
    reads: Any = SharedReads(platform)  # type: ignore[arg-type]
    first, second = (asyncio.ensure_future(reads.read(key)) for key in platform.ids)
    await asyncio.sleep(0)
    first.cancel()

    assert (await second).task_id == platform.ids[1]


async def test_shared_reads_belong_to_a_connection_and_are_closed_by_the_last() -> None:
    made: list[Platform] = []

    def make() -> Any:
        made.append(Platform(1))
        return made[-1]

    async with open_shared_reads("a", make) as first:
        async with open_shared_reads("a", make) as second, open_shared_reads("b", make) as third:
            assert first is second
            assert third is not first
        assert [platform.closed for platform in made] == [False, True]
    assert [platform.closed for platform in made] == [True, True]


@pytest.mark.parametrize(
    ("began", "now", "pause"),
    [(100.0, 100.5, 9.5), (103.0, 103.5, 6.5), (109.9, 110.1, 0.0), (100.0, 125.0, 0.0)],
)
def test_all_look_at_the_same_moments_and_never_later_than_an_interval(
    began: float, now: float, pause: float
) -> None:
    assert seconds_to_tick(began, 10.0, now) == pytest.approx(pause)
