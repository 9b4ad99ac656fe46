"""Which Airflow installation this is: from a setting, or from a Variable that is made once."""

from __future__ import annotations

import json
import random
import threading
import time
from typing import Any

import pytest

from iotda_provider.airflow_support import shared_text
from iotda_provider.airflow_support.installation import VARIABLE, installation_of
from iotda_provider.airflow_support.shared_text import made_once
from iotda_provider.exceptions import IoTDAConfigError

SETTING = "AIRFLOW__IOTDA__INSTALLATION_ID"


@pytest.fixture(autouse=True)
def _no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SETTING)
    monkeypatch.setattr(shared_text, "_SECONDS_TO_SETTLE", 0.2)


class TaskInstance:
    def __init__(self, task_id: str = "create") -> None:
        self.dag_id, self.run_id, self.task_id, self.map_index = "dag", "run", task_id, -1


def used_by(task_id: str) -> str:
    return installation_of({"ti": TaskInstance(task_id)})  # type: ignore[typeddict-item]


def test_the_variable_is_made_once(variables: Any) -> None:
    first = used_by("create")

    assert variables[VARIABLE] == first == used_by("another")
    assert variables.calls.count("set") == 3, "the Variable once, and a note of each task"
    assert "set [iotda] installation_id first" in variables.descriptions[VARIABLE]


def test_what_a_person_has_written_is_used_at_once(variables: Any) -> None:
    variables[VARIABLE] = " production "

    assert made_once(VARIABLE, "") == "production"
    assert variables.calls == ["get"]
    assert used_by("create") == "production"


def test_the_setting_comes_first_and_asks_nobody(
    variables: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables[VARIABLE] = "production"
    monkeypatch.setenv(SETTING, "staging")

    assert used_by("create") == "staging"
    assert variables.calls == ["get", "set"], "its note only"


def test_twenty_first_tasks_at_once_use_one(variables: Any) -> None:
    """Each finds nothing and writes its own; the last one that wrote wins, for all."""
    nothing, all_looked = variables.get, threading.Barrier(20)

    def get(name: str, default: Any = None) -> Any:
        found = nothing(name, default)
        if name == VARIABLE and found is None:
            all_looked.wait(30)
            time.sleep(random.random() / 20)
        return found

    variables.get = get
    used: list[str] = []
    tasks = [
        threading.Thread(target=lambda n=n: used.append(used_by(f"create_{n}")))  # type: ignore[misc]
        for n in range(20)
    ]
    for task in tasks:
        task.start()
    for task in tasks:
        task.join()

    assert len(used) == 20
    assert set(used) == {variables[VARIABLE]}


def test_a_task_instance_keeps_the_id_that_it_has_used(variables: Any) -> None:
    variables[VARIABLE] = "before"
    assert used_by("create") == "before"

    variables[VARIABLE] = "after"

    assert used_by("create") == "before"
    assert used_by("another") == "after"


def test_the_id_is_noted_before_it_is_used(variables: Any) -> None:
    """Where the note can't be written, nothing is created under an id that a retry may not find."""
    variables[VARIABLE] = "production"

    def down(*_: Any, **__: Any) -> None:
        raise RuntimeError("Airflow's database is down")

    variables.set = down
    with pytest.raises(RuntimeError, match="is down"):
        used_by("create")


def test_a_copied_database_is_another_installation_once_its_setting_says_so(
    variables: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = used_by("create")
    copy = json.loads(json.dumps(dict(variables)))
    monkeypatch.setenv(SETTING, "staging")
    variables.clear()
    variables.update(copy)

    assert used_by("create") == "staging" != used
    assert used_by("create") == "staging"


def test_a_variable_that_can_not_be_written_is_an_error_that_says_what_to_do(
    variables: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_text, "_SECONDS_TO_SETTLE", 0)
    variables.set = lambda *_, **__: None

    with pytest.raises(IoTDAConfigError, match=f"Variable {VARIABLE} could not be made.*by hand"):
        made_once(VARIABLE, "")
