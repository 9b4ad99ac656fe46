"""Every batch-task method of the official SDK's own client, which nobody here wrote."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkiotda import v5

from iotda_provider.emulator import Emulator

TASK = "0123456789abcdef01234567"
DOCUMENT = {"package_ids": ["32822e5744a45ede319d2c50"]}

Lossless = Callable[[Any], None]


@pytest.fixture
def emulator(start: Callable[..., Emulator]) -> Emulator:
    scenario = {"devices": 20, "failure_rate": 0.5, "batch_tasks": [{"task_id": TASK}]}
    return start(scenario, seed=1)


@pytest.fixture
def client(emulator: Emulator, sdk: Callable[..., v5.IoTDAClient], derived: bool) -> v5.IoTDAClient:
    return sdk(emulator, derived)


def create(client: v5.IoTDAClient, **fields: Any) -> Any:
    body = {"task_name": "canary", "task_type": "firmwareUpgrade", "document": DOCUMENT}
    return client.create_batch_task(
        v5.CreateBatchTaskRequest(body=v5.CreateBatchTask(**{**body, **fields}))
    )


def show(client: v5.IoTDAClient, task_id: str = TASK, **query: Any) -> Any:
    return client.show_batch_task(v5.ShowBatchTaskRequest(task_id=task_id, **query))


def test_a_task_comes_back_with_every_field_that_it_was_created_with(
    client: v5.IoTDAClient, nothing_lost: Lossless
) -> None:
    made = create(
        client,
        app_id="app",
        task_mode="GATEWAY",
        need_confirm=True,
        task_ext_info={"note": "水表"},
        targets=["device-00001", "device-00002"],
        task_policy=v5.TaskPolicy(retry_count=5, retry_interval=1440),
    )
    nothing_lost(made)
    assert made.status == "Initializing"
    assert made.task_progress.total == made.task_progress.waitting == 2
    assert made.targets == ["device-00001", "device-00002"]
    assert made.task_ext_info == {"note": "水表"}
    assert made.task_policy.retry_interval == 1440
    nothing_lost(show(client, made.task_id))


def test_show_and_list_lose_nothing(
    emulator: Emulator, client: v5.IoTDAClient, nothing_lost: Lossless
) -> None:
    emulator.advance(3600)
    shown = show(client, limit=50)
    nothing_lost(shown)
    assert shown.batchtask.status == "PartialSuccess"
    assert {row.status for row in shown.task_details} == {"Success", "Fail"}
    assert all(row.error.error_code for row in shown.task_details if row.status == "Fail")
    assert {row.output for row in shown.task_details if row.status == "Success"} == {"success"}
    listed = client.list_batch_tasks(
        v5.ListBatchTasksRequest(task_type="firmwareUpgrade", limit=50, status="PartialSuccess")
    )
    nothing_lost(listed)
    assert [task.task_id for task in listed.batchtasks] == [TASK]
    assert listed.page.count == 1


def test_a_target_that_is_not_in_the_task_fails_and_one_that_is_stops(
    emulator: Emulator, client: v5.IoTDAClient, nothing_lost: Lossless
) -> None:
    emulator.advance(2)
    body = v5.BatchTargets(["stranger", "device-00001"])
    stopped = client.stop_batch_task(v5.StopBatchTaskRequest(task_id=TASK, body=body))
    nothing_lost(stopped)
    assert [(r.target, r.status, r.error_code) for r in stopped.targets] == [
        ("stranger", "failure", "IOTDA.014219"),
        ("device-00001", "success", None),
    ]
    emulator.advance(10)
    assert show(client, target="device-00001").task_details[0].status == "Stopped"


def test_a_whole_stop_takes_its_time(emulator: Emulator, client: v5.IoTDAClient) -> None:
    emulator.advance(2)
    request = v5.StopBatchTaskRequest(task_id=TASK, body=v5.BatchTargets())
    assert client.stop_batch_task(request).targets is None
    assert show(client).batchtask.status == "Stopping"
    with pytest.raises(ClientRequestException) as refusal:
        client.stop_batch_task(request)
    assert refusal.value.status_code == 400
    emulator.advance(10)
    task = show(client).batchtask
    assert task.status == "Stopped"
    assert task.task_progress.stopped == 20


def test_what_failed_is_retried(
    emulator: Emulator, client: v5.IoTDAClient, nothing_lost: Lossless
) -> None:
    emulator.advance(3600)
    failed = show(client, task_detail_status="Fail", limit=50)
    before = failed.batchtask.task_progress.fail
    assert failed.page.count == before > 0
    body = v5.BatchTargets([failed.task_details[0].target])
    answer = client.retry_batch_task(v5.RetryBatchTaskRequest(task_id=TASK, body=body))
    nothing_lost(answer)
    assert [result.status for result in answer.targets] == ["success"]
    assert show(client).batchtask.status == "Processing"
    client.retry_batch_task(v5.RetryBatchTaskRequest(task_id=TASK, body=v5.BatchTargets()))
    assert show(client).batchtask.task_progress.fail == 0
    emulator.advance(3600)
    assert show(client).batchtask.task_progress.fail < before


def test_what_waits_for_confirmation_is_confirmed(
    emulator: Emulator, client: v5.IoTDAClient, nothing_lost: Lossless
) -> None:
    targets = [f"device-{n:05d}" for n in range(5)]
    task_id = create(client, targets=targets, need_confirm=True).task_id
    emulator.advance(7200)
    assert show(client, task_id).batchtask.task_progress.waitting == 5
    answer = client.confirm_batch_task(
        v5.ConfirmBatchTaskRequest(task_id=task_id, body=v5.BatchTargets(targets[:2]))
    )
    nothing_lost(answer)
    emulator.advance(7200)
    task = show(client, task_id).batchtask
    assert task.status == "Processing"
    assert task.task_progress.waitting == 3
    client.confirm_batch_task(v5.ConfirmBatchTaskRequest(task_id=task_id, body=v5.BatchTargets()))
    emulator.advance(7200)
    assert show(client, task_id).batchtask.task_progress.waitting == 0


def test_a_call_without_a_body_is_for_all(emulator: Emulator, client: v5.IoTDAClient) -> None:
    held = create(client, targets=["device-00001"], need_confirm=True).task_id
    emulator.advance(2)
    client.confirm_batch_task(v5.ConfirmBatchTaskRequest(task_id=held))
    assert show(client, held).batchtask.task_progress.processing == 1
    client.stop_batch_task(v5.StopBatchTaskRequest(task_id=TASK))
    assert show(client).batchtask.status == "Stopping"
    emulator.advance(3600)
    assert show(client).batchtask.task_progress.stopped == 20
    failed = create(client, targets=["stranger"]).task_id
    emulator.advance(60)
    answer = client.retry_batch_task(v5.RetryBatchTaskRequest(task_id=failed))
    assert (answer.status_code, answer.targets) == (200, None)


@pytest.mark.parametrize("status", ["DeviceInProgress", "Rejected"])
def test_statuses_that_no_subtask_has_find_none(
    emulator: Emulator, client: v5.IoTDAClient, status: str
) -> None:
    shown = show(client, task_detail_status=status)
    assert (shown.task_details, shown.page.count) == ([], 0)


@pytest.mark.parametrize(
    "task_type", ["sendEmails", "sendSmss", "addDevicesToGroup", "deviceConfig", "deviceJob"]
)
def test_types_that_only_the_console_makes_can_be_listed_and_not_created(
    client: v5.IoTDAClient, task_type: str
) -> None:
    listed = client.list_batch_tasks(v5.ListBatchTasksRequest(task_type=task_type))
    assert (listed.batchtasks, listed.page.count) == ([], 0)
    with pytest.raises(ClientRequestException) as refusal:
        create(client, task_type=task_type, targets=["device-00001"])
    assert refusal.value.status_code == 400


def test_lists_need_a_type(client: v5.IoTDAClient) -> None:
    with pytest.raises(ClientRequestException) as refusal:
        client.list_batch_tasks(v5.ListBatchTasksRequest())
    assert (refusal.value.status_code, refusal.value.error_code) == (400, "IOTDA.000006")


def test_a_file_of_targets_is_refused(client: v5.IoTDAClient) -> None:
    for targets in ({"targets": ["device-00001"]}, {}):
        with pytest.raises(ClientRequestException, match="document_source"):
            create(client, document_source="5c8f9e2d7a6b4c3d1e0f9a8b", **targets)
    with pytest.raises(ClientRequestException) as refusal:
        client.list_batch_task_files(v5.ListBatchTaskFilesRequest())
    assert (refusal.value.status_code, refusal.value.error_code) == (404, "APIGW.0101")


def test_only_a_task_that_has_ended_is_deleted(emulator: Emulator, client: v5.IoTDAClient) -> None:
    emulator.advance(2)
    with pytest.raises(ClientRequestException) as refusal:
        client.delete_batch_task(v5.DeleteBatchTaskRequest(task_id=TASK))
    assert refusal.value.status_code == 400
    emulator.advance(3600)
    assert client.delete_batch_task(v5.DeleteBatchTaskRequest(task_id=TASK)).status_code == 204
    with pytest.raises(ClientRequestException) as refusal:
        show(client)
    assert refusal.value.status_code == 404


def test_devices_are_frozen_and_deleted_by_their_ids(
    emulator: Emulator, client: v5.IoTDAClient
) -> None:
    create(client, task_type="freezeDevices", document=None, targets=["device-00007"])
    emulator.advance(10)
    request = v5.ShowDeviceRequest(device_id="device-00007")
    assert client.show_device(request).status == "FROZEN"
    create(client, task_type="deleteDevices", document=None, targets=["device-00007"])
    emulator.advance(10)
    with pytest.raises(ClientRequestException) as refusal:
        client.show_device(request)
    assert refusal.value.status_code == 404


def test_a_wrong_key_is_refused(
    emulator: Emulator, sdk: Callable[..., v5.IoTDAClient], derived: bool
) -> None:
    for wrong in ({"sk": "wrong"}, {"ak": "wrong"}, {"token": "unasked"}):
        with pytest.raises(ClientRequestException) as refusal:
            sdk(emulator, derived, **wrong).list_batch_tasks(
                v5.ListBatchTasksRequest(task_type="firmwareUpgrade")
            )
        assert refusal.value.status_code == 401
        assert refusal.value.error_code == "APIGW.0301"
        assert refusal.value.request_id


def test_a_temporary_key_needs_its_token(
    start: Callable[..., Emulator], sdk: Callable[..., v5.IoTDAClient], derived: bool
) -> None:
    emulator = start(security_token="token")
    sdk(emulator, derived, token="token").list_batch_tasks(
        v5.ListBatchTasksRequest(task_type="firmwareUpgrade")
    )
    for wrong in (None, "other"):
        with pytest.raises(ClientRequestException):
            sdk(emulator, derived, token=wrong).list_batch_tasks(
                v5.ListBatchTasksRequest(task_type="firmwareUpgrade")
            )
