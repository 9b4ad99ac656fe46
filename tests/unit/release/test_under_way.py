"""The list of releases that are under way: its order, who is over, and what makes no sense."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

import pytest

from iotda_provider.release import under_way
from iotda_provider.release.other_releases import LIFETIME, ReleaseNote
from iotda_provider.release.under_way import VARIABLE

LOG = logging.getLogger("airflow.task")
GROUP = "0000000a-0000"
MOST = 1500


def note(name: str, run: str = "run") -> ReleaseNote:
    return ReleaseNote(name, name, run, "2.0.0", None, (GROUP,))


def dags(notes: list[ReleaseNote]) -> list[str]:
    return [one.dag_id for one in notes]


def test_each_sees_those_before_it_and_keeps_its_place(variables: Any) -> None:
    assert dags(under_way.enter(note("a"), LOG)) == []
    assert dags(under_way.enter(note("b"), LOG)) == ["a"]
    assert dags(under_way.enter(note("c"), LOG)) == ["a", "b"]
    # A later wave of each: nobody stands back for whom has begun later.
    assert dags(under_way.enter(note("b"), LOG)) == ["a"]
    assert dags(under_way.enter(note("a"), LOG)) == []
    assert dags(under_way.others("b", "run", LOG)) == ["a", "c"]
    assert dags(under_way.others("new", "run", LOG)) == ["a", "b", "c"]
    assert dags(under_way.others("b", "another run", LOG)) == ["a", "b", "c"]


def test_of_two_releases_of_one_run_each_sees_another_one_between_them(variables: Any) -> None:
    first, second = note("a"), replace(note("c"), dag_id="a")
    assert under_way.enter(first, LOG) == []
    assert dags(under_way.enter(note("b"), LOG)) == ["a"]
    assert dags(under_way.enter(second, LOG)) == ["b"]
    assert under_way.enter(first, LOG) == []
    assert dags(under_way.enter(note("b"), LOG)) == ["a"]


def test_a_note_that_another_overwrites_sees_all_others_as_before_it(
    variables: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way.enter(note("a"), LOG)
    under_way.enter(note("b"), LOG)
    both = variables[VARIABLE]
    monkeypatch.setattr(variables, "set", lambda *a, **k: variables.__setitem__(VARIABLE, theirs))
    theirs = json.dumps([one for one in json.loads(both) if one["dag_id"] == "b"])
    assert dags(under_way.enter(note("a"), LOG)) == ["b"]


def test_what_others_write_while_airflow_is_asked_is_kept(
    variables: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way.enter(note("a"), LOG)

    def is_under_way(dag_id: str, run_id: str) -> bool:
        monkeypatch.setattr(under_way, "is_under_way", lambda dag_id, run_id: True)
        under_way.enter(note("b"), LOG)
        return True

    monkeypatch.setattr(under_way, "is_under_way", is_under_way)
    assert dags(under_way.enter(note("c"), LOG)) == ["a", "b"]


def test_a_release_that_has_ended_leaves_the_list_alone_and_may_enter_again(
    variables: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for name in "abc":
        under_way.enter(note(name), LOG)
    under_way.leave("a", LOG)
    under_way.leave("of nobody", LOG)
    assert dags(under_way.others("new", "run", LOG)) == ["b", "c"]
    assert dags(under_way.enter(note("a"), LOG)) == ["b", "c"]
    variables.is_down = True
    under_way.leave("a", LOG)
    assert "counts until this DAG run ends" in caplog.text


def test_a_run_that_is_over_counts_no_more_and_is_removed_by_the_next(variables: Any) -> None:
    for name in "abc":
        under_way.enter(note(name), LOG)
    variables.runs_over.add(("a", "run"))
    assert dags(under_way.others("new", "run", LOG)) == ["b", "c"]
    assert dags(under_way.enter(note("c"), LOG)) == ["b"]
    assert [one["dag_id"] for one in json.loads(variables[VARIABLE])] == ["b", "c"]
    # It is cleared, and goes on: the others have begun before by now.
    variables.runs_over.clear()
    assert dags(under_way.enter(note("a"), LOG)) == ["b", "c"]


def test_a_note_counts_for_thirty_days_since_the_last_wave_began(
    variables: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1e9]
    monkeypatch.setattr(under_way.time, "time", lambda: now[0])
    under_way.enter(note("a"), LOG)
    now[0] += 0.9 * LIFETIME
    assert dags(under_way.others("new", "run", LOG)) == ["a"]
    under_way.enter(note("a"), LOG)
    now[0] += 0.9 * LIFETIME
    assert dags(under_way.others("new", "run", LOG)) == ["a"]
    now[0] += 0.2 * LIFETIME
    assert dags(under_way.others("new", "run", LOG)) == []


@pytest.mark.parametrize(
    "left",
    [
        "no JSON",
        "[" * 100_000,
        "{}",
        '{"a": {}}',
        "[1, null, [], {}]",
        '[{"release": "x"}]',
        "[NaN]",
        "[" + "0," * 600_000 + "0]",
    ],
    ids=range(8),
)
def test_what_is_no_list_of_notes_is_as_none_and_is_said(
    variables: Any, left: str, caplog: pytest.LogCaptureFixture
) -> None:
    variables[VARIABLE] = left
    assert under_way.others("new", "run", LOG) == []
    (said,) = [record.getMessage() for record in caplog.records]
    assert VARIABLE in said
    assert len(said) < MOST
    under_way.enter(note("a"), LOG)
    assert [one["dag_id"] for one in json.loads(variables[VARIABLE])] == ["a"]


@pytest.mark.parametrize(
    "change",
    [
        {"end": 1.0},
        {"end": "soon"},
        {"end": 1e300},
        {"dag_id": 5},
        {"run_id": "run\n"},
        {"version": "v" * 300},
        {"product_id": ["p"]},
        {"group_ids": GROUP},
        {"group_ids": ["no id"]},
        {"group_ids": []},
        {"group_ids": {GROUP: 1}},
        {"group_ids": [GROUP + f"{n}" for n in range(1001)]},
        {"more": 1},
    ],
)
def test_a_note_that_is_old_or_damaged_is_passed_over_and_others_are_not(
    variables: Any, change: dict[str, Any]
) -> None:
    for name in "ab":
        under_way.enter(note(name), LOG)
    first, second = json.loads(variables[VARIABLE])
    variables[VARIABLE] = json.dumps([{**first, **change}, second])
    assert dags(under_way.others("new", "run", LOG)) == ["b"]


def test_a_run_counts_where_airflow_can_not_say_that_it_is_over(
    variables: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    under_way.enter(note("a"), LOG)

    def is_under_way(dag_id: str, run_id: str) -> bool:
        raise RuntimeError("Airflow's API is down")

    monkeypatch.setattr(under_way, "is_under_way", is_under_way)
    assert dags(under_way.others("new", "run", LOG)) == ["a"]
    assert "by a, run run" in caplog.text
    assert "counts as under way" in caplog.text


def test_while_the_list_can_not_be_read_it_is_not_taken_for_an_empty_one(variables: Any) -> None:
    variables.is_down = True
    run = {"dag_id": "a", "run_id": "run"}
    assert under_way.recall(run, None, LOG) is None
    assert under_way.recall(run, note("a"), LOG) is None
