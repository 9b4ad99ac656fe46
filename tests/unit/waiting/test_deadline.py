"""When a wait ends, and by which limit."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotda_provider.waiting.deadline import Deadline


@pytest.mark.parametrize(
    ("execution_timeout", "deadline"),
    [
        (None, Deadline(160, "timeout")),
        (timedelta(seconds=55), Deadline(145, "execution_timeout")),
        (timedelta(seconds=300), Deadline(160, "timeout")),
    ],
)
def test_the_earlier_limit_counts(execution_timeout: Any, deadline: Deadline):
    assert Deadline.of(60, execution_timeout, began=90, now=100) == deadline


@given(at=st.floats(0, 1e6), now=st.floats(0, 1e6), poll=st.floats(0.1, 3600))
def test_airflows_own_limit_is_later_than_the_triggers(at, now, poll):
    assert Deadline(at).for_airflow(poll, now=now) > timedelta(seconds=max(0, at - now) + poll)
