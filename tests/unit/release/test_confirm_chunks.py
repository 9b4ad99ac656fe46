"""Whom to confirm in the next call."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotda_provider.models import TaskProgress
from iotda_provider.release.confirm_chunks import (
    MAX_CHUNK,
    checked_chunk,
    in_flight,
    next_chunk,
    still_waiting,
)

FLEET = [f"d{n}" for n in range(500)]


def test_only_members_that_wait_in_the_order_of_the_manifest() -> None:
    assert still_waiting(["c", "a", "b"], ["a", "c", "x"]) == ["c", "a"]


@given(
    queue=st.integers(0, 400),
    flying=st.integers(0, 400),
    most=st.none() | st.integers(1, 400),
    chunk=st.integers(1, 200),
)
def test_a_call_never_exceeds_any_limit(
    queue: int, flying: int, most: int | None, chunk: int
) -> None:
    found = next_chunk(FLEET[:queue], flying, most, chunk)
    assert found == FLEET[: len(found)]
    assert len(found) <= min(chunk, MAX_CHUNK, queue)
    assert most is None or not found or flying + len(found) <= most


def test_an_empty_confirmation_can_never_be_sent() -> None:
    assert next_chunk([], 0, None) == []
    assert next_chunk(FLEET, 10, 10) == []
    with pytest.raises(ValueError, match="1 to 100"):
        checked_chunk([], frozenset(FLEET))


def test_nobody_outside_of_the_waves_so_far_can_be_confirmed() -> None:
    with pytest.raises(ValueError, match="no wave"):
        checked_chunk(["stranger"], frozenset(FLEET))
    with pytest.raises(ValueError, match="1 to 100"):
        checked_chunk(FLEET[:101], frozenset(FLEET))
    assert checked_chunk(FLEET[:100], frozenset(FLEET)) == FLEET[:100]


def test_what_is_under_way() -> None:
    progress = TaskProgress(total=100, processing=5, fail_wait_retry=2, waiting=93)
    assert in_flight(progress, 3) == 10
    assert in_flight(progress, -3) == 7
