"""The blocking hook over real HTTP against the emulator."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iotda_provider.exceptions import (
    IoTDAAuthError,
    IoTDAConfigError,
    IoTDAError,
    IoTDANotFoundError,
    IoTDATransportError,
    TaskNotStoppableError,
)
from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.models import SubtaskStatus, TaskStatus, TaskType

TASK, OTHER = "0123456789abcdef01234567", "0123456789abcdef01234568"


def rollout(devices: int = 5, **scenario: Any) -> Any:
    """A mark: one batch task on so many devices, in a time that only the test moves."""
    scenario = {"devices": devices, "batch_tasks": [{"task_id": TASK}], **scenario}
    return pytest.mark.iotda_emulator(scenario=scenario, speed=0)


@pytest.fixture
def hook(iotda_connection: dict[str, Any]) -> Any:
    """A hook for the emulator."""
    with IoTDAHook() as hook:
        yield hook


@pytest.fixture
def connect(iotda_emulator: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes hooks for connections that differ from the emulator's own."""

    def make(login: str | None = None, password: str | None = None, **extra: Any) -> IoTDAHook:
        connection = iotda_emulator.airflow_connection
        connection["login"] = login or connection["login"]
        connection["password"] = password or connection["password"]
        connection["extra"] |= {"max_attempts": 1, **extra}
        monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(connection))
        return IoTDAHook()

    return make


@rollout(5, failure_rate=1)
def test_a_task_is_read_with_its_counts_in_one_call(hook, iotda_emulator):
    iotda_emulator.advance(10)

    task = hook.get_batch_task(TASK)

    assert (task.task_id, task.status) == (TASK, TaskStatus.PROCESSING)
    assert (task.progress.total, task.progress.processing) == (5, 5)
    assert [entry["query"] for entry in iotda_emulator.journal()] == [{"limit": "1"}]


@rollout(1234, failure_rate=0.5)
def test_every_subtask_comes_once_in_pages_of_fifty(hook, iotda_emulator):
    iotda_emulator.advance(1000)

    everything = [row.target for row in hook.iter_subtasks(TASK)]
    failed = list(hook.iter_subtasks(TASK, status=SubtaskStatus.FAIL))

    assert len(everything) == len(set(everything)) == 1234
    assert len(failed) == hook.get_batch_task(TASK).progress.fail
    assert {row.status for row in failed} == {SubtaskStatus.FAIL}
    assert all(row.error_code for row in failed)
    assert {int(e["query"]["limit"]) for e in iotda_emulator.journal()} == {50, 1}


@rollout(400, failure_rate=0.5, failure_after={"distribution": "uniform", "min": 1, "max": 400})
def test_no_failed_device_is_missed_that_had_failed_when_the_reading_began(hook, iotda_emulator):
    iotda_emulator.advance(200)
    before = {row.target for row in hook.iter_subtasks(TASK, status="Fail")}

    read = []
    for row in hook.iter_subtasks(TASK, status="Fail"):
        read.append(row.target)
        iotda_emulator.advance(1)  # more devices fail while we read

    assert len(read) == len(set(read))
    assert before <= set(read)


@rollout(3)
def test_rows_are_read_as_they_are_needed(hook, iotda_emulator):
    rows = hook.iter_subtasks(TASK)
    assert iotda_emulator.journal() == []

    next(rows)

    assert len(iotda_emulator.journal()) == 1


@rollout(
    batch_tasks=[{"task_id": f"{n:024x}", "task_type": "firmwareUpgrade"} for n in range(1, 121)]
    + [{"task_id": OTHER, "task_type": "moduleUpgrade"}]
)
def test_all_tasks_are_listed_and_filtered(hook):
    assert len({task.task_id for task in hook.list_batch_tasks()}) == 121
    modules = hook.list_batch_tasks(task_type=TaskType.MODULE_UPGRADE)
    assert [task.task_id for task in modules] == [OTHER]
    assert list(hook.list_batch_tasks(status="Stopped")) == []


@rollout(260)
def test_targets_are_stopped_by_the_hundred_with_one_result_for_each(hook, iotda_emulator):
    iotda_emulator.advance(2)
    targets = [f"device-{n:05}" for n in range(1, 251)] + ["stranger"]

    results = hook.stop_batch_task(TASK, targets)

    assert [result.target for result in results] == targets
    assert [(r.target, r.error_code) for r in results.failed] == [("stranger", "IOTDA.014219")]
    sent = [entry["body"]["targets"] for entry in iotda_emulator.journal("stop_batch_task")]
    assert sorted(map(len, sent)) == [51, 100, 100]


@rollout(400, success_after=1e7)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    inside=st.lists(st.integers(0, 399), max_size=350),
    strangers=st.lists(st.text("abc_-", min_size=1, max_size=9), max_size=20),
    seed=st.randoms(use_true_random=False),
)
def test_any_targets_have_one_definite_result_each_however_often_they_are_asked_for(
    hook, iotda_emulator, inside, strangers, seed
):
    iotda_emulator.clear_journal()
    iotda_emulator.advance(2)
    members = {f"device-{number:05}" for number in inside}
    targets = [*(f"device-{number:05}" for number in inside), *strangers]
    seed.shuffle(targets)

    results = hook.stop_batch_task(TASK, targets)

    assert [result.target for result in results] == list(dict.fromkeys(targets))
    assert {result.target for result in results.succeeded} == members
    assert {result.error_code for result in results.failed} <= {"IOTDA.014219"}
    sent = [entry["body"]["targets"] for entry in iotda_emulator.journal("stop_batch_task")]
    assert all(1 <= len(chunk) <= 100 for chunk in sent)
    assert len(sent) == -(-len(results) // 100)


@rollout(5)
def test_no_targets_are_no_call_and_never_the_whole_task(hook, iotda_emulator):
    for act in (hook.stop_batch_task, hook.retry_batch_task, hook.confirm_batch_task):
        assert len(act(TASK, [])) == 0
        with pytest.raises(IoTDAConfigError, match="targets must be a list of ids"):
            act(TASK, "device-00001")
    assert iotda_emulator.journal() == []


@rollout(5)
def test_stopping_the_whole_task_twice_is_harmless(hook, iotda_emulator):
    iotda_emulator.advance(2)

    assert len(hook.stop_batch_task(TASK)) == 0
    assert len(hook.stop_batch_task(TASK)) == 0
    iotda_emulator.advance(1000)
    assert len(hook.stop_batch_task(TASK)) == 0
    assert hook.get_batch_task(TASK).status is TaskStatus.STOPPED


@rollout(5)
@pytest.mark.parametrize("targets", [None, ["device-00001"]])
def test_a_task_that_has_run_to_its_end_can_not_be_stopped(hook, iotda_emulator, targets):
    iotda_emulator.advance(1000)

    with pytest.raises(TaskNotStoppableError, match="has already ended as Success") as error:
        hook.stop_batch_task(TASK, targets)
    assert error.value.status is TaskStatus.SUCCESS


@rollout(5, batch_tasks=[{"task_id": TASK, "task_type": "moduleUpgrade"}])
def test_a_module_upgrade_can_not_be_stopped(hook):
    with pytest.raises(TaskNotStoppableError, match="is a moduleUpgrade"):
        hook.stop_batch_task(TASK)


@rollout(5)
def test_a_task_is_created_and_deleted(hook, iotda_emulator):
    task = hook.create_batch_task(
        task_name="canary",
        task_type="firmwareUpgrade",
        targets=["device-00001"],
        document={"package_ids": ["32822e5744a45ede319d2c50"]},
    )
    iotda_emulator.advance(1000)
    assert hook.get_batch_task(task.task_id).status.is_completed

    hook.delete_batch_task(task.task_id)

    with pytest.raises(IoTDANotFoundError):
        hook.get_batch_task(task.task_id)


@rollout(5)
def test_any_other_path_is_called_signed(hook):
    response = hook.run("/v5/iot/{project_id}/devices/device-00001")
    assert response.json()["device_id"] == "device-00001"
    assert hook.run("devices", params={"limit": 2}).json()["devices"][1]
    with pytest.raises(IoTDANotFoundError):
        hook.run("devices/nobody")
    answer = hook.run("devices/nobody", extra_options={"check_response": False})
    assert answer.status_code == 404


@rollout(5)
@pytest.mark.parametrize("derived_auth", ["auto", "always", "never"])
def test_both_signatures_are_accepted_with_characters_that_need_encoding(connect, derived_auth):
    with connect(derived_auth=derived_auth) as hook:
        assert hook.get_batch_task(TASK).task_id == TASK
        query = {"device_name": "a b+c~é/?&=%", "unknown": "", "limit": 1}
        assert hook.run("devices", params=query).status_code == 200


@rollout(5)
def test_a_wrong_key_is_refused_and_says_what_to_check(connect):
    with (
        connect(password="not-the-secret-key") as hook,
        pytest.raises(IoTDAAuthError, match=r"APIGW\.0301.*secret key.*request id") as error,
    ):
        hook.get_batch_task(TASK)
    assert "not-the-secret-key" not in str(error.value)


@rollout(5)
def test_the_project_of_another_is_refused(connect):
    with connect(project_id="another") as hook, pytest.raises(IoTDAError) as error:
        hook.get_batch_task(TASK)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.iotda_emulator(
    scenario={"batch_tasks": [{"task_id": TASK}], "switches": {"instance_id": "instance-7"}}
)
def test_an_instance_is_named_by_the_connection_or_by_the_hook(connect):
    with connect() as hook:
        assert hook.get_batch_task(TASK).task_id == TASK
    with connect(instance_id="another") as hook, pytest.raises(IoTDAError):
        hook.get_batch_task(TASK)
    with IoTDAHook(instance_id="instance-7") as hook:
        assert hook.get_batch_task(TASK).task_id == TASK


@rollout(5)
def test_a_closed_hook_opens_again_when_it_is_used_again(hook):
    assert hook.get_batch_task(TASK)
    hook.close()
    assert hook.get_batch_task(TASK)


@rollout(5)
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "html", "status": 200},
        {"kind": "html", "status": 502},
        {"kind": "truncate"},
        {"kind": "malformed"},
        {"kind": "reset"},
        {"kind": "lost"},
        {"kind": "status", "status": 200, "body": {"batchtask": {"task_id": OTHER}}},
        {"kind": "status", "status": 200, "body": [None]},
        {"kind": "status", "status": 200, "body": {"batchtask": {"task_id": TASK, "status": 7}}},
        {"kind": "status", "status": 503, "body": "x" * 1_000_000},
    ],
    ids=lambda fault: f"{fault['kind']} {fault.get('status', '')}",
)
def test_an_answer_that_is_none_is_one_line_and_the_next_one_is_believed(
    connect, iotda_emulator, fault
):
    iotda_emulator.add_fault(**fault, count=1)
    with connect() as hook:
        with pytest.raises(IoTDAError, match=f"Could not read batch task {TASK}") as error:
            hook.get_batch_task(TASK)
        assert len(str(error.value).splitlines()) == 1
        assert len(str(error.value)) < 1_500
        assert hook.get_batch_task(TASK).progress.total == 5


@rollout(5)
def test_a_creation_whose_answer_was_cut_off_is_not_repeated(connect, iotda_emulator):
    iotda_emulator.add_fault("truncate", call="create_batch_task", acted=True)
    with connect(max_attempts=4) as hook, pytest.raises(IoTDATransportError) as error:
        hook.create_batch_task(
            task_name="canary",
            task_type="firmwareUpgrade",
            targets=["device-00001"],
            document={"package_ids": ["32822e5744a45ede319d2c50"]},
        )
    assert error.value.sent
    assert len(iotda_emulator.journal("create_batch_task")) == 1
