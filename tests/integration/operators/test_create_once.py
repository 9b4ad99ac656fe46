"""One task instance never leaves two batch tasks, whatever gets lost and whoever else tries."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import requests
from tests.airflow_values import as_xcom

from iotda_provider.exceptions import (
    BatchTaskDiffersError,
    IoTDAApiError,
    IoTDAServerError,
    IoTDATransportError,
)
from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.operators.batch_task.create import (
    CreateBatchTaskOperator,
    stamp_of,
    stamped_name,
)

pytestmark = pytest.mark.iotda_emulator(scenario={"devices": 5}, speed=1)

NAME = stamped_name("canary", stamp_of("tests", "dag", "run", "create", -1))
# What becomes of the answer to a creation: the platform has acted, or it has acted or not.
SPOILT: list[tuple[str, dict[str, Any]]] = [("lost", {}), ("truncate", {}), ("malformed", {})]
INSTEAD: list[tuple[str, dict[str, Any]]] = [
    ("reset", {}),
    ("html", {}),
    ("status", {"status": 500, "body": {}}),
    ("status", {"status": 503, "body": {}}),
]
AMBIGUOUS = [
    *((kind, more, True) for kind, more in (*SPOILT, *INSTEAD)),
    *((kind, more, False) for kind, more in INSTEAD),
]


class TaskInstance:
    dag_id, run_id, task_id, map_index, try_number = "dag", "run", "create", -1, 1

    def __init__(self) -> None:
        self.xcoms: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = as_xcom(value)


@pytest.fixture
def create(iotda_connection: Any) -> Callable[..., dict[str, Any]]:
    """Runs the operator once, as one try of one task instance."""

    def run(**parameters: Any) -> dict[str, Any]:
        operator = CreateBatchTaskOperator(
            **{
                "task_id": "create",
                "task_name": "canary",
                "task_type": "firmwareUpgrade",
                "targets": ["device-00001"],
                "document": {"package_ids": ["32822e5744a45ede319d2c50"]},
                **parameters,
            }
        )
        return operator.execute({"ti": TaskInstance()})  # type: ignore[typeddict-item]

    return run


def tasks(emulator: Any) -> list[Any]:
    """The emulator's tasks with this task instance's stamp."""
    with IoTDAHook() as hook:
        return [task for task in hook.list_batch_tasks() if task.task_name == NAME]


def test_the_name_holds_the_stamp(create: Any, iotda_emulator: Any) -> None:
    result = create()

    (task,) = tasks(iotda_emulator)
    assert (task.task_id, result["created"]) == (result["batch_task_id"], True)
    assert len(iotda_emulator.journal("create_batch_task")) == 1


@pytest.mark.parametrize(("kind", "more", "acted"), AMBIGUOUS)
def test_a_lost_answer_neither_loses_nor_doubles_the_task(
    create: Any, iotda_emulator: Any, kind: str, more: dict[str, Any], acted: bool
) -> None:
    iotda_emulator.add_fault(kind, call="create_batch_task", count=1, acted=acted, **more)

    result = create()

    (task,) = tasks(iotda_emulator)
    assert (task.task_id, result["created"]) == (result["batch_task_id"], True)
    assert len(iotda_emulator.journal("create_batch_task")) == (1 if acted else 2)


@pytest.mark.parametrize(("kind", "more"), INSTEAD)
def test_trouble_that_stays_is_an_error_and_the_next_try_finds_nothing_twice(
    create: Any, iotda_emulator: Any, kind: str, more: dict[str, Any]
) -> None:
    iotda_emulator.add_fault(kind, call="create_batch_task", acted=False, **more)
    with pytest.raises((IoTDATransportError, IoTDAServerError)):
        create()
    iotda_emulator.clear_faults()

    result = create()

    (task,) = tasks(iotda_emulator)
    assert (task.task_id, result["created"]) == (result["batch_task_id"], True)


def test_a_throttled_creation_is_repeated(create: Any, iotda_emulator: Any) -> None:
    iotda_emulator.add_fault("throttle", call="create_batch_task", count=1, retry_after=0)

    create()

    assert len(tasks(iotda_emulator)) == 1


def test_a_refusal_is_final(create: Any, iotda_emulator: Any) -> None:
    iotda_emulator.add_fault("status", status=400, body={}, call="create_batch_task")

    with pytest.raises(IoTDAApiError):
        create()
    assert len(iotda_emulator.journal("create_batch_task")) == 1


def test_a_task_in_another_resource_space_is_found_and_no_second_one_created(
    create: Any, iotda_emulator: Any
) -> None:
    # A task does not say in which one it is; the list of a resource space does.
    first = create(app_id="space1")
    assert create(app_id="space1")["batch_task_id"] == first["batch_task_id"]

    with pytest.raises(BatchTaskDiffersError, match=f"{first['batch_task_id']}.* space2, which is"):
        create(app_id="space2")
    assert len(iotda_emulator.journal("create_batch_task")) == 1
    assert not iotda_emulator.journal("stop_batch_task")


def test_another_try_finds_the_task(create: Any, iotda_emulator: Any) -> None:
    first = create()
    second = create()

    assert second["batch_task_id"] == first["batch_task_id"]
    assert (first["created"], second["created"]) == (True, False)
    assert len(iotda_emulator.journal("create_batch_task")) == 1


def test_another_try_may_be_told_to_fail(create: Any) -> None:
    create()

    with pytest.raises(Exception, match="on_existing is 'fail'"):
        create(on_existing="fail")


def test_the_answer_that_was_lost_is_not_an_existing_task(create: Any, iotda_emulator: Any) -> None:
    iotda_emulator.add_fault("reset", call="create_batch_task", count=1, acted=True)

    assert create(on_existing="fail")["created"]


def test_a_zombies_task_is_stopped_and_said(
    create: Any, iotda_emulator: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Two workers look, find nothing, and create; the other one is a moment earlier."""
    others: list[str] = []
    send = requests.Session.send

    def after_the_other(session: Any, request: Any, **options: Any) -> Any:
        if request.method == "POST" and not others:
            others.append("")
            with IoTDAHook() as hook:
                others[0] = hook.create_batch_task(**json.loads(request.body)).task_id
        return send(session, request, **options)

    monkeypatch.setattr(requests.Session, "send", after_the_other)
    result = create()

    (other,) = others
    found = {task.task_id: task.status for task in tasks(iotda_emulator)}
    assert len(found) == 2
    (surplus,) = result["surplus"]
    kept = result["batch_task_id"]
    assert {kept, surplus["batch_task_id"]} == set(found)
    assert other in found
    assert kept == min(found)  # the oldest, for whoever looks
    assert found[surplus["batch_task_id"]].is_stop
    assert not found[kept].is_stop
    said = capsys.readouterr()
    assert "was created a second time" in said.out + said.err
