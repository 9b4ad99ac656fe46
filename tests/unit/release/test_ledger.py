"""What is written down of accepted confirmations: small, exact, and about one fleet only."""

from __future__ import annotations

import json
import random

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


def test_what_one_task_has_written_the_next_one_reads() -> None:
    first, second = Ledger(FLEET), Ledger(reversed(FLEET))
    first.add(FLEET[3:7])
    second.add(FLEET[:2])
    assert second.merge(json.loads(json.dumps(first.to_json())))
    assert second.accepted == {*FLEET[:2], *FLEET[3:7]}
    assert (len(second), FLEET[3] in second, FLEET[9] in second) == (6, True, False)


def test_who_had_not_been_let_start_at_a_stop_is_in_there_too() -> None:
    first, second = Ledger(FLEET), Ledger(FLEET)
    assert "left" not in first.to_json()
    first.note_left(FLEET[5:9])
    assert second.merge(json.loads(json.dumps(first.to_json())))
    assert second.left == {*FLEET[5:9]}
    assert not second.merge({**first.to_json(), "left": "no base64!"})
    assert second.left == {*FLEET[5:9]}
    empty, third = Ledger(FLEET), Ledger(FLEET)
    empty.note_left(())
    assert third.merge(empty.to_json())
    assert third.left == frozenset()


def test_of_two_stops_only_those_are_left_of_whom_both_say_so() -> None:
    first, second = Ledger(FLEET), Ledger(FLEET)
    first.note_left(FLEET[5:9])
    second.note_left(FLEET[7:12])
    assert second.merge(first.to_json())
    assert second.left == {*FLEET[7:9]}


def test_an_older_record_does_not_bring_back_who_was_left_and_another_stop_does() -> None:
    mine, other = Ledger(FLEET), Ledger(FLEET)
    mine.note_left(FLEET[5:9])
    older = mine.to_json()
    mine.drop_left()
    assert mine.merge(older)
    assert mine.left is None
    other.note_left(FLEET[6:9])
    assert mine.merge(other.to_json())
    assert mine.left == {*FLEET[6:9]}
    mine.drop_left()
    mine.note_left(FLEET[5:9])  # a stop of its own, with the same devices as an earlier one
    assert mine.left == {*FLEET[5:9]}


@pytest.mark.parametrize(
    "record", [None, {}, [], "text", {"version": 1}, {"version": 2, "digest": "", "accepted": ""}]
)
def test_what_is_no_record_is_not_believed(record: object) -> None:
    ledger = Ledger(FLEET)
    assert not ledger.merge(record)
    assert not ledger.accepted


def test_another_fleets_record_and_a_damaged_one_are_not_believed() -> None:
    ledger, other = Ledger(FLEET), Ledger(FLEET[1:])
    other.add(FLEET[1:3])
    assert not ledger.merge(other.to_json())
    for text in ("", "no base64!", "AAAA", pack(FLEET[:3], FLEET[:3])):
        assert not ledger.merge({**ledger.to_json(), "accepted": text})
    for odd in ({"wave": float("inf")}, {"outside": float("inf")}, {"lately": [[1, float("inf")]]}):
        assert not ledger.merge({**ledger.to_json(), **odd})
    assert not ledger.accepted


def test_thirty_thousand_devices_fit_where_anything_fits() -> None:
    fleet = [f"5c8fb9d0e2f14a5b{n:08x}" for n in range(30_000)]
    ledger = Ledger(fleet)
    ledger.add(random.Random(7).sample(fleet, 15_000))  # as hard to compress as can be
    assert 3_000 < len(json.dumps(ledger.to_json())) < 5_200


def test_text_that_would_fill_the_memory_is_refused() -> None:
    import base64
    import zlib

    bomb = base64.b64encode(zlib.compress(bytes(50_000_000))).decode()
    with pytest.raises(ValueError, match="other devices"):
        unpack(FLEET, bomb)


def test_how_many_were_accepted_lately_outlives_a_task_too() -> None:
    first, second = Ledger(FLEET), Ledger(FLEET)
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


def test_how_far_it_came_and_who_else_has_started_never_becomes_less() -> None:
    first, second = Ledger(FLEET), Ledger(FLEET)
    assert not {"wave", "outside"} & first.to_json().keys()
    first.wave, first.outside = 3, 7
    second.wave, second.outside = 1, 9
    assert second.merge(json.loads(json.dumps(first.to_json())))
    assert (second.wave, second.outside) == (3, 9)
    assert not second.merge({**first.to_json(), "wave": "nonsense"})


def test_what_two_accept_in_the_same_moments_is_counted_for_both() -> None:
    first, second = Ledger(FLEET), Ledger(FLEET)
    for now in (1000.0, 1001.0, 1002.0):
        first.note_lately(3, now, within=100)
        second.note_lately(5, now + 0.01, within=100)
        mine, theirs = first.to_json(), second.to_json()
        assert first.merge(theirs)
        assert second.merge(mine)
    assert first.count_lately(1003.0, within=100) == 24
    assert second.count_lately(1003.0, within=100) == 24
