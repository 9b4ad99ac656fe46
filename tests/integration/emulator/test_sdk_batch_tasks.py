"""The official SDK's own client, which nobody here wrote, against the emulator."""

from collections.abc import Callable, Iterator

import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkcore.region.region import Region
from huaweicloudsdkiotda import v5

from iotda_provider.emulator import Emulator

TASK = "0123456789abcdef01234567"


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    scenario = {"devices": 20, "failure_rate": 0.5, "batch_tasks": [{"task_id": TASK}]}
    with Emulator(scenario, seed=1, speed=0) as emulator:
        yield emulator


@pytest.fixture(params=[False, True], ids=["SDK-HMAC-SHA256", "V11-HMAC-SHA256"])
def derived(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def client(emulator: Emulator, derived: bool) -> v5.IoTDAClient:
    return make_client(emulator, lambda request: derived)


def make_client(
    emulator: Emulator, derived: Callable[[object], bool], sk: str | None = None
) -> v5.IoTDAClient:
    settings = emulator.instance.settings
    credentials = BasicCredentials(settings.ak, sk or settings.sk, settings.project_id)
    return (
        v5.IoTDAClient.new_builder()
        .with_credentials(credentials.with_derived_predicate(derived))
        .with_region(Region("cn-north-4", emulator.url))
        .build()
    )


def test_create_show_list_and_stop(emulator: Emulator, client: v5.IoTDAClient) -> None:
    made = client.create_batch_task(
        v5.CreateBatchTaskRequest(
            body=v5.CreateBatchTask(
                task_name="canary",
                task_type="firmwareUpgrade",
                targets=["device-00001", "device-00002"],
                document={"package_ids": ["32822e5744a45ede319d2c50"]},
            )
        )
    )
    assert made.status == "Initializing"
    emulator.advance(2)
    shown = client.show_batch_task(v5.ShowBatchTaskRequest(task_id=made.task_id, limit=1))
    assert shown.batchtask.status == "Processing"
    assert shown.page.count == 2
    assert len(shown.task_details) == 1
    listed = client.list_batch_tasks(v5.ListBatchTasksRequest(limit=50))
    assert {task.task_id for task in listed.batchtasks} == {TASK, made.task_id}
    stopped = client.stop_batch_task(
        v5.StopBatchTaskRequest(
            task_id=made.task_id, body=v5.BatchTargets(["device-00001", "stranger"])
        )
    )
    assert [result.status for result in stopped.targets] == ["success", "failure"]
    assert stopped.targets[1].error_code == "IOTDA.014219"


def test_a_whole_stop_takes_its_time(emulator: Emulator, client: v5.IoTDAClient) -> None:
    emulator.advance(2)
    client.stop_batch_task(v5.StopBatchTaskRequest(task_id=TASK, body=v5.BatchTargets()))
    show = v5.ShowBatchTaskRequest(task_id=TASK, limit=1)
    assert client.show_batch_task(show).batchtask.status == "Stopping"
    emulator.advance(10)
    task = client.show_batch_task(show).batchtask
    assert task.status == "Stopped"
    assert task.task_progress.stopped == 20


def test_a_wrong_key_is_refused(emulator: Emulator, derived: bool) -> None:
    client = make_client(emulator, lambda request: derived, sk="wrong")
    with pytest.raises(ClientRequestException) as refusal:
        client.list_batch_tasks(v5.ListBatchTasksRequest())
    assert refusal.value.status_code == 401
    assert refusal.value.error_code == "APIGW.0301"
