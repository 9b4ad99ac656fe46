"""Ids in order, some of them, and values for them: as a set and a dictionary, in less memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotda_provider.models.sorted_ids import MarkedIds, SortedIds, ValuesOfIds

IDS = st.lists(st.text("ab_-Z9", min_size=1, max_size=3))


@given(IDS, IDS, IDS)
def test_they_hold_what_a_set_holds(first: list[str], more: list[str], marked: list[str]) -> None:
    ids = SortedIds(first)
    ids.update(more)
    assert list(ids) == sorted({*first, *more})
    assert all((one in ids) == (one in {*first, *more}) for one in marked)
    assert all(ids.own(one) == (one if one in ids else None) for one in marked)
    assert 7 not in ids
    some = MarkedIds(ids)
    assert [one for one in marked if some.add(one)] == [
        one for one in dict.fromkeys(marked) if one in ids
    ]
    assert list(some) == sorted(set(marked) & set(ids))
    assert len(some) == len(set(marked) & set(ids))
    assert list(some.others) == sorted(set(ids) - set(marked))
    assert list(SortedIds(some)) == list(some)
    for one in marked[:2]:
        some.discard(one)
        assert one not in some


@given(IDS, IDS)
def test_they_have_values_as_a_dictionary_has(first: list[str], chosen: list[str]) -> None:
    ids = SortedIds(first)
    values, expected = ValuesOfIds(ids), {}
    for number, one in enumerate(one for one in chosen if one in ids):
        values[one] = expected[one] = number
    assert dict(values) == expected
    for one in chosen[:2]:
        assert values.pop(one, None) == expected.pop(one, None)
    assert (dict(values), len(values)) == (expected, len(expected))
    with pytest.raises(KeyError):
        values["no such id"] = 1


@pytest.mark.parametrize("make", [SortedIds, lambda ids: MarkedIds(SortedIds(ids))])
def test_they_take_little_memory_whatever_their_number(make: Callable[[list[str]], object]) -> None:
    for number in (20_000, 25_000, 40_000):  # of hashes, a table doubles in between
        ids = [f"5c8fb9d0e2f14a5b9c0d1e2f_{one * 7 % number:07}" for one in range(number)]
        tracemalloc.start()
        made = make(ids)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert made is not None
        assert peak < 25 * number
