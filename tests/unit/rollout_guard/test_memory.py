"""A guard's saved memory: it is bounded, and the newest of several copies is taken."""

from __future__ import annotations

import json
from typing import Any

import pytest

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


def test_what_is_no_trail_is_never_left_out() -> None:
    memory = remembered(30, state={"history": "x" * 70_000})

    kept = fitted(memory, 60_000)

    assert kept["trail"] == []
    assert kept["state"] == memory["state"]


def test_the_copy_that_has_seen_most_is_the_newest() -> None:
    old, new = {"looks": 3, "intent": {"attempts": 1}}, {"looks": 4, "intent": None}
    decided = {"looks": 4, "intent": {"attempts": 0}}

    assert newest(None, old, new) is new
    assert newest(new, decided) is decided
    assert newest(new, dict(new)) is new
    assert newest(None, "oops", {"looks": "many"}) == {"looks": "many"}
    assert newest(None, None) is None
