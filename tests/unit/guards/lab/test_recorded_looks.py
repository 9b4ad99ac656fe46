"""The audit trail and its replay."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iotda_provider.guards import (
    Decision,
    Look,
    MaxFailures,
    Overdue,
    SequentialFailureTest,
    Stalled,
    evaluate,
)
from iotda_provider.guards.audit import (
    AuditTrail,
    audit_header,
    audit_record,
    look_of,
)
from iotda_provider.guards.lab.recorded_looks import looks_of, read_audit
from iotda_provider.guards.lab.replay import replay
from iotda_provider.models import TaskProgress

RULES = [SequentialFailureTest(0.02, hold_at=10), MaxFailures(40)]
START = 1_790_000_000.0


def looks(*failed: int, every: float = 10.0, total: int = 1000, **facts: Any) -> Iterator[Look]:
    for index, count in enumerate(failed):
        progress = TaskProgress(total=total, fail=count, processing=total - count)
        yield Look(time=START + every * index, progress=progress, **facts)


def trail_of(seen: Iterator[Look] | list[Look], limit: int = 500) -> AuditTrail:
    state, trail = None, AuditTrail(limit)
    for look in seen:
        state, verdict = evaluate(RULES, state, look)
        trail.add(audit_record(look, verdict, status="Processing"))
    return trail


def lines_of(records: list[dict[str, Any]]) -> str:
    return "\n".join(map(json.dumps, records))


def test_a_record_tells_time_counts_evidence_and_decision_in_plain_json() -> None:
    (look,) = looks(39, failures_by_class={"firmware": 39}, clusters={"a": (39, 1000)})
    record = audit_record(look, evaluate(RULES, None, look)[1], status=["Processing"] * 2)
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["time"] == "2026-09-21T14:13:20.000Z"
    assert record["progress"]["fail"] == 39
    assert record["decision"] == "breach"
    assert record["rule"] == "SequentialFailureTest"
    assert record["rules"][0] == {
        "rule": "SequentialFailureTest",
        "decision": "breach",
        "measure": "log_evidence",
        "value": 5.19434,
        "bound": 4.60517,
    }
    assert look_of(record) == look


def test_looks_that_saw_the_same_are_one_record_and_replay_as_many() -> None:
    seen = list(looks(0, 0, 0, 5, 5, 5, 5))
    trail = trail_of(seen)
    assert [record.get("looks", 1) for record in trail.records] == [3, 4]
    assert list(looks_of(trail.records)) == seen


@settings(deadline=None)
@given(st.lists(st.integers(0, 45), min_size=1, max_size=80))
def test_a_trail_is_bounded_and_keeps_the_first_and_the_last_look(failed: list[int]) -> None:
    seen = list(looks(*failed))
    trail = trail_of(seen, limit=10)
    assert len(trail.records) <= 10
    assert look_of(trail.records[0]) == seen[0]
    told = list(looks_of(trail.records))
    assert told[-1] == seen[-1]
    assert len(told) + sum(record.get("omitted", 0) for record in trail.records) == len(seen)


def test_thinning_keeps_the_looks_at_which_the_decision_changed() -> None:
    trail = trail_of(looks(*range(60)), limit=20)
    decisions = [record["decision"] for record in trail.records]
    assert "hold" in decisions
    first = next(record for record in trail.records if record["decision"] == "breach")
    assert first["progress"]["fail"] == 39


def test_a_file_round_trips() -> None:
    trail = trail_of(looks(*range(50)))
    audit = read_audit(lines_of([audit_header(RULES, batch_task_id="5c8f"), *trail.records]))
    assert audit.header["batch_task_id"] == "5c8f"
    assert list(audit.records) == trail.records
    assert not audit.cut_off


def test_a_last_line_that_broke_off_is_left_out() -> None:
    lines = lines_of(trail_of(looks(*range(5))).records).splitlines()
    for length in range(1, len(lines[-1]) - 2, 7):
        audit = read_audit("\n".join([*lines[:-1], lines[-1][:length]]))
        assert audit.cut_off
        assert len(audit.records) == 4


@pytest.mark.parametrize(
    "line", ["{", "5", "[]", "null", "{}", '{"time": "x", "progress": {}}', '{"progress": {}}']
)
def test_a_broken_line_elsewhere_is_named(line: str) -> None:
    lines = lines_of(trail_of(looks(*range(5))).records).splitlines()
    with pytest.raises(ValueError, match="line 3 is not a record"):
        read_audit("\n".join([*lines[:2], line, *lines[2:]]))


def test_a_format_of_the_future_is_refused() -> None:
    with pytest.raises(ValueError, match="version 2"):
        read_audit(json.dumps({"audit": "iotda-guard", "version": 2}))


@pytest.mark.parametrize("limit", [0, 9, True, "100", 50.0])
def test_a_bad_limit_is_named(limit: object) -> None:
    with pytest.raises(ValueError, match="limit"):
        AuditTrail(limit)  # type: ignore[arg-type]


class TestReplay:
    def test_it_shows_when_other_rules_would_have_stopped(self) -> None:
        trail = trail_of(looks(*range(60)))
        outcomes = replay(
            list(looks_of(trail.records)),
            [MaxFailures(3), SequentialFailureTest(0.02, hold_at=10), MaxFailures(500)],
        )
        early, test, never = outcomes
        assert early.broken is not None
        assert early.broken.after_seconds == 30
        assert test.held is not None
        assert test.held.after_seconds < 390
        assert test.broken is not None
        assert test.broken.after_seconds == 390
        assert test.broken.verdict.evidence["failed"] == 39
        assert never.broken is None
        assert never.looks == 60
        assert never.last is not None
        assert never.last.decision is Decision.CONTINUE

    def test_rules_with_a_clock_see_every_look_of_a_quiet_night(self) -> None:
        seen = list(looks(*[0] * 361))
        whole = replay(list(looks_of(trail_of(seen).records)), [Stalled(1800), Overdue(900, 0.02)])
        assert [outcome.broken and outcome.broken.after_seconds for outcome in whole] == [1800, 900]

    def test_what_the_file_does_not_tell_is_not_guessed(self) -> None:
        (outcome,) = replay(list(looks(*range(60))), [MaxFailures(50, failure_class="firmware")])
        assert outcome.broken is None
        assert outcome.unsure == 10

    def test_looks_at_a_task_that_was_being_stopped_are_not_judged(self) -> None:
        seen = [*looks(0, 1), *looks(900, being_stopped=True)]
        (outcome,) = replay(seen, [MaxFailures(10)])
        assert outcome.broken is None
