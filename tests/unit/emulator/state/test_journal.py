"""The journal of requests."""

from __future__ import annotations

import pytest

from iotda_provider.emulator.common.errors import ScenarioError
from iotda_provider.emulator.state.journal import MAX_ENTRIES, Journal


def test_the_journal_is_read_by_call_and_number() -> None:
    journal = Journal(before=[{"n": 7, "call": "old"}])
    for call in ("show_batch_task", None, "stop_batch_task"):
        journal.add({"call": call})
    assert [entry["n"] for entry in journal.entries()] == [7, 8, 9, 10]
    assert [entry["n"] for entry in journal.entries("s*_batch_task", after=8)] == [10]
    assert [entry["n"] for entry in journal.entries(limit=2)] == [7, 8]


def test_a_pattern_that_matches_no_call_is_refused_rather_than_answered_with_nothing() -> None:
    with pytest.raises(ScenarioError, match=r"^journal\.call matches no call: 'stop_batchtask'; "):
        Journal().entries("stop_batchtask")


def test_all_requests_are_counted_whatever_is_kept() -> None:
    journal = Journal()
    for _ in range(MAX_ENTRIES + 5):
        journal.add({"call": "show_batch_task"})
    journal.add({"call": None})
    assert len(journal.entries()) == MAX_ENTRIES
    assert journal.counts == {"show_batch_task": MAX_ENTRIES + 5, "": 1}
    journal.clear()
    assert not journal.counts
