"""Notes that outlive a try: in Airflow's task state store, or in a Variable."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from iotda_provider.airflow_support.task_notes import (
    PREFIX,
    VariableNotes,
    notes_of,
    owner_of,
)

OWNER = {"dag_id": "dag", "run_id": "manual__2026-01-01T00:00:00+00:00", "task_id": "guard"}


def notes(**ids: Any) -> VariableNotes:
    return VariableNotes({**OWNER, "map_index": -1, **ids})


def test_a_note_is_read_back_until_it_is_forgotten(variables: Any) -> None:
    assert notes().get("memory") is None

    notes().set("memory", {"looks": 1, "state": {"a": [1.5, None]}})
    assert notes().get("memory") == {"looks": 1, "state": {"a": [1.5, None]}}
    assert notes().get("stop") is None

    notes().set("memory", {"looks": 2})
    assert notes().get("memory") == {"looks": 2}
    assert len(variables) == 1

    notes().delete("memory")
    notes().delete("memory")
    assert notes().get("memory") is None
    assert not variables


@pytest.mark.parametrize(
    "other", [{"dag_id": "dags"}, {"run_id": "2"}, {"task_id": "watch"}, {"map_index": 0}]
)
def test_it_is_nobody_elses(other: dict[str, Any]) -> None:
    notes().set("memory", {"looks": 1})

    assert notes(**other).get("memory") is None


def test_a_person_can_tell_what_it_is(variables: Any) -> None:
    notes(map_index=3).set("memory", {"looks": 1})

    ((name, text),) = variables.items()
    assert name.startswith(f"{PREFIX}memory.")
    assert json.loads(text) == {**OWNER, "map_index": 3, "value": {"looks": 1}}
    assert "task_id guard" in variables.descriptions[name]
    assert "may be deleted once that run is over" in variables.descriptions[name]


def test_its_name_fits_whatever_the_ids(variables: Any) -> None:
    notes(dag_id="d" * 250, run_id="r" * 250, task_id="t" * 250).set("guard_memory", {"a": 1})

    (name,) = variables
    assert len(name) <= 100
    assert name.isascii()


@pytest.mark.parametrize("text", ["", "oops", "[]", "3", '{"value": {"looks": 1}}', "[" * 100_000])
def test_what_somebody_has_made_of_it_is_not_believed(variables: Any, text: str) -> None:
    notes().set("memory", {"looks": 1})
    (name,) = variables
    variables[name] = text

    assert notes().get("memory") is None


@pytest.mark.parametrize("value", ["[" * 800 + "]" * 800, "1e999", "Infinity", "9" * 400])
def test_a_note_that_nobody_could_work_with_is_not_believed(variables: Any, value: str) -> None:
    notes().set("memory", {"looks": 1})
    (name,) = variables
    variables[name] = variables[name].replace('"looks":1', f'"looks":{value}')

    assert notes().get("memory") is None


def test_a_worker_keeps_its_notes_in_the_task_state_store_where_there_is_one(
    variables: Any,
) -> None:
    ti: Any = SimpleNamespace(**OWNER, map_index=None)

    before: Any = {"ti": ti}
    store = SimpleNamespace()
    since: Any = {"ti": ti, "task_state_store": store}
    assert isinstance(notes_of(before), VariableNotes)
    assert notes_of(since) is store
    assert owner_of(ti) == {**OWNER, "map_index": -1}
