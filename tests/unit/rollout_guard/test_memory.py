"""A guard's saved memory: it is bounded, and the newest of several copies is taken."""

from __future__ import annotations

import json
from typing import Any

import pytest

from iotda_provider.airflow_support.task_notes import LARGEST
from iotda_provider.models import BatchTask
from iotda_provider.rollout_guard import Memory
from iotda_provider.rollout_guard.memory import fitted, newest

IDS = ("0123456789abcdef01234567",)


def remembered(records: int, **more: Any) -> dict[str, Any]:
    memory = Memory(IDS, **more).to_json()
    memory["trail"] = [
        {
            "time": number,
            "progress": {"fail": number},
            "decision": "continue",
            "sentence": "x" * 400,
        }
        for number in range(records)
    ]
    return memory


def size(memory: Any) -> int:
    return len(json.dumps(memory, separators=(",", ":")))


def test_a_small_memory_is_written_down_whole() -> None:
    memory = remembered(20, looks=20)

    assert fitted(memory, 60_000) == memory


@pytest.mark.parametrize("records", [150, 200, 1000, 5000])
def test_of_a_large_one_the_trail_is_thinned(records: int) -> None:
    memory = remembered(records, looks=records, intent={"attempts": 1}, state={"started": 7})

    kept = fitted(memory, 60_000)

    assert 20_000 < size(kept) <= 60_000
    assert {**kept, "trail": None} == {**memory, "trail": None}
    assert (kept["trail"][0]["time"], kept["trail"][-1]["time"]) == (0, records - 1)
    assert len(memory["trail"]) == records


def test_what_is_no_trail_is_never_left_out_and_three_records_stay() -> None:
    memory = remembered(30, state={"history": "x" * 70_000})

    kept = fitted(memory, 60_000)

    assert [record["time"] for record in kept["trail"]] == [0, kept["trail"][1]["time"], 29]
    assert sum(1 + record.get("omitted", 0) for record in kept["trail"]) == 30
    assert kept["state"] == memory["state"]


@pytest.mark.parametrize("decisions", ["continue", "continue hold", "hold continue continue"])
@pytest.mark.parametrize("records", range(12))
def test_thinning_ends_whatever_was_decided(records: int, decisions: str) -> None:
    words = decisions.split()
    memory = remembered(records)
    for number, record in enumerate(memory["trail"]):
        record["decision"] = words[number % len(words)]

    assert len(fitted(memory, 0)["trail"]) == min(records, 3)


@pytest.mark.parametrize("batch_tasks", [1, 14, 34, 200])
def test_a_guard_of_many_batch_tasks_keeps_some_of_its_trail(batch_tasks: int) -> None:
    """As docs/deployment.md says: 0.4 kB for each further batch task, 0.1 kB of it in XComs."""
    ids = tuple(f"6b0c15d7b5e7fe097a{number:06d}" for number in range(batch_tasks))
    guard = Memory(ids)
    counts = {"total": 30_000, "success": 29_900, "fail": 100}
    task = {"task_type": "firmwareUpgrade", "status": "PartialSuccess", "task_progress": counts}
    guard.note_ended([BatchTask.from_wire({**task, "task_id": each}) for each in ids[1:]])
    memory = {**guard.to_json(), "trail": remembered(100)["trail"]}

    kept = fitted(memory, LARGEST)

    assert len(kept["trail"]) >= 3
    assert size(kept) <= LARGEST + 300 * (batch_tasks - 1)
    assert kept["ended"] == memory["ended"]


def test_the_copy_that_has_seen_most_is_the_newest() -> None:
    old, new = {"looks": 3, "intent": {"attempts": 1}}, {"looks": 4, "intent": None}
    decided = {"looks": 4, "intent": {"attempts": 0}}

    assert newest(None, old, new) is new
    assert newest(new, decided) is decided
    assert newest(new, dict(new)) is new
    assert newest(None, "oops", {"looks": "many"}) == {"looks": "many"}
    assert newest(None, None) is None


def test_what_a_guard_knew_of_more_batch_tasks_is_known_of_some_of_them() -> None:
    """A release's wave has created one since; a triggerer that goes on with it starts without."""
    known = Memory(("1", "2"), looks=3).to_json()
    for ids, looks in ((("1",), 3), (("2", "1"), 3), (("1", "2", "3"), 0), (("3",), 0)):
        memory = Memory.from_json(known, ids)
        assert (memory.batch_task_ids, memory.looks) == (ids, looks)
