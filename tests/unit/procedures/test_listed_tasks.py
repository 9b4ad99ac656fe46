"""Many batch tasks that are looked at again and again are read by the list."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from iotda_provider import api
from iotda_provider.exceptions import IoTDATransportError
from iotda_provider.models import BatchTask
from iotda_provider.procedures.listed_tasks import ListedTasks
from iotda_provider.transport.runner import run_blocking

IDS = [f"{number:024x}" for number in range(1, 41)]


def wire(task_id: str, status: str = "Processing", **more: Any) -> dict[str, Any]:
    counts = {"total": 10, "processing": 5, "success": 5}
    return {
        "task_id": task_id,
        "task_type": "firmwareUpgrade",
        "status": status,
        "task_progress": counts,
        **more,
    }


class Platform:
    """Answers lists, newest first, and counts them."""

    def __init__(self, *rows: dict[str, Any], error: Exception | None = None) -> None:
        self.rows = sorted(rows, key=lambda row: str(row["task_id"]), reverse=True)
        self.error = error
        self.lists = 0

    async def perform(self, call: Any) -> Any:
        self.lists += 1
        if self.error is not None:
            raise self.error
        query = dict(call.query)
        rows = [row for row in self.rows if row["task_id"] < query.get("marker", "f" * 24)]
        page: list[dict[str, Any]] = rows[: api.MAX_PAGE]
        marker = page[-1]["task_id"] if page else None
        return call.read({"batchtasks": page, "page": {"count": len(self.rows), "marker": marker}})


def read(tasks: ListedTasks, platform: Platform, ids: list[str] | None = None) -> list[str]:
    found: dict[str, BatchTask] = run_blocking(tasks.read(platform, ids or IDS))
    return sorted(found)


def known(change: Callable[[str], str] = lambda task_id: "Processing") -> ListedTasks:
    tasks = ListedTasks()
    tasks.note(BatchTask.from_wire(wire(task_id, change(task_id))) for task_id in IDS)
    return tasks


def test_one_page_shows_all_of_them() -> None:
    platform = Platform(*map(wire, IDS))
    assert read(known(), platform) == IDS
    assert platform.lists == 1


def test_the_first_reading_and_that_of_few_are_by_themselves() -> None:
    platform = Platform(*map(wire, IDS))
    assert read(ListedTasks(), platform) == []
    assert read(known(), platform, IDS[:3]) == []
    assert platform.lists == 0


def test_what_has_changed_or_is_being_stopped_is_read_by_itself() -> None:
    def now(task_id: str) -> str:
        return "Success" if task_id == IDS[0] else "Processing"

    platform = Platform(*(wire(task_id, now(task_id)) for task_id in IDS))
    assert read(known(), platform) == IDS[1:]
    assert read(known(lambda task_id: "Stopping"), platform) == []


def test_what_the_list_does_not_show_is_read_by_itself() -> None:
    without = [wire(IDS[0], task_progress=None), *map(wire, IDS[2:])]
    assert read(known(), Platform(*without)) == IDS[2:]


def test_a_list_that_saves_no_calls_rests() -> None:
    newer = [wire(f"{number:024x}") for number in range(10_000, 11_500)]
    tasks, platform = known(), Platform(*map(wire, IDS), *newer)
    assert read(tasks, platform) == []
    assert platform.lists == len(IDS) / 2
    for _ in range(30):
        assert read(tasks, platform) == []
    assert platform.lists == len(IDS) / 2


def test_a_list_that_is_refused_is_no_error() -> None:
    tasks = known()
    assert read(tasks, Platform(error=IoTDATransportError("no"))) == []
    platform = Platform(*map(wire, IDS))
    for _ in range(31):
        read(tasks, platform)
    assert read(tasks, platform) == IDS
