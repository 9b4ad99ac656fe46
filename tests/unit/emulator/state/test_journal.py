"""The journal of requests."""

from __future__ import annotations

from iotda_provider.emulator.state.journal import Journal


def test_the_journal_is_read_by_call_and_number() -> None:
    journal = Journal(before=[{"n": 7, "call": "old"}])
    for call in ("show_batch_task", None, "stop_batch_task"):
        journal.add({"call": call})
    assert [entry["n"] for entry in journal.entries()] == [7, 8, 9, 10]
    assert [entry["n"] for entry in journal.entries("s*_batch_task", after=8)] == [10]
    assert [entry["n"] for entry in journal.entries(limit=2)] == [7, 8]
