"""Whom to confirm in the next call."""

from __future__ import annotations

import pytest

from iotda_provider.models import TaskProgress
from iotda_provider.release.confirm_chunks import (
    checked_chunk,
    in_flight,
    next_chunk,
)

FLEET = [f"d{n}" for n in range(500)]


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
