"""What is written down of accepted confirmations: small, exact, and about one batch task only."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotda_provider.release.ledger import Ledger, pack, unpack

FLEET = [f"d{n:03}" for n in range(40)]


@given(st.integers(0, 40), st.sets(st.integers(0, 39)))
def test_devices_come_back_as_they_were(size: int, places: set[int]) -> None:
    order = FLEET[:size]
    chosen = {order[place] for place in places if place < size}
    assert set(unpack(order, pack(order, chosen))) == chosen


def ledger(members: Sequence[str] = FLEET, batch_task_id: str = "aa") -> Ledger:
    return Ledger(batch_task_id, members)


def read(record: dict[str, object]) -> Ledger:
    """What the next task makes of it."""
    found = ledger()
    assert found.merge(json.loads(json.dumps(record)))
    return found


def test_what_one_task_has_written_the_next_one_reads() -> None:
    first = ledger()
    first.note_asking(FLEET[:9])
    first.note_answer(FLEET[:7], FLEET[3:7])
    first.note_seen(FLEET[30:], FLEET[20:22])
    second = read(first.to_json())
    assert second.accepted == {*FLEET[3:7]}
    assert second.unanswered == {*FLEET[7:9]}
    assert second.elsewhere == {*FLEET[20:22]}
    assert second.exposed == {*FLEET[3:9], *FLEET[20:22]}
    assert second.not_confirmed == [*FLEET[:3], *FLEET[7:20], *FLEET[22:]]
    assert (first.to_json()["confirmed"], first.to_json()["exposed"]) == (4, 8)


def test_whose_answer_was_lost_may_have_started_until_the_answer_is_known() -> None:
    mine = ledger()
    mine.note_asking(FLEET[:5])
    older = mine.to_json()
    mine.note_answer(FLEET[:5], FLEET[:2])
    assert mine.merge(older)  # another process's copy, of before the answer
    assert (mine.accepted, mine.unanswered) == ({*FLEET[:2]}, set())
    mine.note_asking(FLEET[2:5])  # asked once more
    assert mine.exposed == {*FLEET[:5]}


def test_whoever_is_seen_to_have_started_was_confirmed_by_whoever_asked() -> None:
    mine = ledger()
    mine.note_asking(FLEET[:4])
    mine.note_seen(waiting=FLEET[2:10], started=[*FLEET[:2], *FLEET[20:22]])
    assert (mine.accepted, mine.unanswered) == ({*FLEET[:2]}, set())
    assert mine.elsewhere == {*FLEET[20:22]}


def test_what_another_process_asks_for_is_kept_and_what_it_has_confirmed_too() -> None:
    mine, other = ledger(), ledger()
    mine.note_asking(FLEET[:3])
    mine.note_answer(FLEET[:3], FLEET[:3])
    other.note_asking(FLEET[2:6])
    assert mine.merge(other.to_json())
    assert (mine.accepted, mine.unanswered) == ({*FLEET[:3]}, {*FLEET[3:6]})
    other.note_answer(FLEET[2:6], FLEET[2:6])
    assert mine.merge(other.to_json())
    assert (mine.accepted, mine.unanswered) == ({*FLEET[:6]}, set())


@pytest.mark.parametrize(
    "record", [None, {}, [], "text", {"version": 2}, {"version": 1, "digest": "", "accepted": ""}]
)
def test_what_is_no_record_is_not_believed(record: object) -> None:
    mine = ledger()
    assert not mine.merge(record)
    assert not mine.accepted


def test_another_batch_tasks_record_and_a_damaged_one_are_not_believed() -> None:
    mine, other = ledger(), ledger(batch_task_id="bb")
    other.note_answer(FLEET, FLEET)
    assert not mine.merge(other.to_json())
    for text in ("", "no base64!", "AAAA", pack(FLEET[:3], FLEET[:3])):
        assert not mine.merge({**mine.to_json(), "accepted": text})
    for odd in ({"unanswered": "no base64!"}, {"lately": [[1, float("inf")]]}):
        assert not mine.merge({**mine.to_json(), **odd})
    assert not mine.exposed


def test_thirty_thousand_devices_fit_where_anything_fits() -> None:
    fleet = [f"5c8fb9d0e2f14a5b{n:08x}" for n in range(30_000)]
    mine = ledger(fleet)
    half = random.Random(7).sample(fleet, 15_000)  # as hard to compress as can be
    mine.note_answer(half, half)
    assert 3_000 < len(json.dumps(mine.to_json())) < 5_200


def test_text_that_would_fill_the_memory_is_refused() -> None:
    import base64
    import zlib

    bomb = base64.b64encode(zlib.compress(bytes(50_000_000))).decode()
    with pytest.raises(ValueError, match="other devices"):
        unpack(FLEET, bomb)


def test_how_many_were_accepted_lately_outlives_a_task_too() -> None:
    first, second = ledger(), ledger()
    assert "lately" not in first.to_json()
    first.note_lately(10, 1000.0, within=100)
    first.note_lately(5, 1005.0, within=100)
    first.note_lately(7, 1050.0, within=100)
    for _ in range(2):  # there are two copies of a record
        assert second.merge(json.loads(json.dumps(first.to_json())))
    assert second.count_lately(1060.0, within=100) == 22
    assert second.count_lately(1140.0, within=100) == 7
    assert second.count_lately(1200.0, within=100) == 0
    second.note_lately(1, 1200.0, within=100)
    assert len(second.to_json()["lately"]) == 1
    assert not second.merge({**first.to_json(), "lately": "nonsense"})


def test_what_two_accept_in_the_same_moments_is_counted_for_both() -> None:
    first, second = ledger(), ledger()
    for now in (1000.0, 1001.0, 1002.0):
        first.note_lately(3, now, within=100)
        second.note_lately(5, now + 0.01, within=100)
        mine, theirs = first.to_json(), second.to_json()
        assert first.merge(theirs)
        assert second.merge(mine)
    assert first.count_lately(1003.0, within=100) == 24
    assert second.count_lately(1003.0, within=100) == 24
