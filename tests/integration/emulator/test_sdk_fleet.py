"""The device, group and package calls that a release pipeline makes, by the official SDK."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkiotda import v5

from iotda_provider.emulator import Emulator

PRODUCT = "64f0c1d2e3a4b5c6d7e8f900"
CANARIES = "11111111-2222-3333-4444-555555555555"
SCENARIO: dict[str, Any] = {
    "devices": 120,
    "fw_version": "1.0.0",
    "groups": [{"name": "canaries", "group_id": CANARIES, "count": 60}],
    "segments": [{"name": "old", "count": 20, "fw_version": "0.9.0", "offline_share": 1}],
    "packages": [{"package_id": "abc-1", "version": "2.0.0"}],
    "switches": {"search_per_second": None},
}

Lossless = Callable[[Any], None]


@pytest.fixture
def emulator(start: Callable[..., Emulator]) -> Emulator:
    return start(SCENARIO)


@pytest.fixture
def client(emulator: Emulator, sdk: Callable[..., v5.IoTDAClient], derived: bool) -> v5.IoTDAClient:
    return sdk(emulator, derived)


def search(client: v5.IoTDAClient, sql: str) -> Any:
    return client.search_devices(v5.SearchDevicesRequest(body=v5.SearchSql(sql)))


def test_a_group_and_its_devices(client: v5.IoTDAClient, nothing_lost: Lossless) -> None:
    groups = client.list_device_groups(v5.ListDeviceGroupsRequest())
    nothing_lost(groups)
    assert [group.name for group in groups.device_groups] == ["canaries"]
    first = client.show_devices_in_group(v5.ShowDevicesInGroupRequest(group_id=CANARIES, limit=50))
    nothing_lost(first)
    second = client.show_devices_in_group(
        v5.ShowDevicesInGroupRequest(group_id=CANARIES, limit=50, marker=first.page.marker)
    )
    assert first.page.count == 60
    devices = [device.device_id for device in first.devices + second.devices]
    assert devices == [f"device-{n:05d}" for n in range(59, -1, -1)]


def test_a_group_is_made_filled_and_deleted(client: v5.IoTDAClient, nothing_lost: Lossless) -> None:
    made = client.add_device_group(
        v5.AddDeviceGroupRequest(body=v5.AddDeviceGroupDTO(name="wave 1", description="10 %"))
    )
    nothing_lost(made)

    def act(action: str, device_id: str) -> None:
        client.create_or_delete_device_in_group(
            v5.CreateOrDeleteDeviceInGroupRequest(
                group_id=made.group_id, action_id=action, device_id=device_id
            )
        )

    act("addDevice", "device-00100")
    act("addDevice", "device-00101")
    act("removeDevice", "device-00100")
    of_device = client.list_device_groups_by_device(
        v5.ListDeviceGroupsByDeviceRequest(device_id="device-00101")
    )
    nothing_lost(of_device)
    assert [group.name for group in of_device.device_groups] == ["wave 1"]
    with pytest.raises(ClientRequestException):
        client.delete_device_group(v5.DeleteDeviceGroupRequest(group_id=made.group_id))
    act("removeDevice", "device-00101")
    renamed = client.update_device_group(
        v5.UpdateDeviceGroupRequest(
            group_id=made.group_id, body=v5.UpdateDeviceGroupDTO(name="wave one")
        )
    )
    nothing_lost(renamed)
    shown = client.show_device_group(v5.ShowDeviceGroupRequest(group_id=made.group_id))
    nothing_lost(shown)
    assert shown.name == "wave one"
    client.delete_device_group(v5.DeleteDeviceGroupRequest(group_id=made.group_id))
    groups = client.list_device_groups(v5.ListDeviceGroupsRequest()).device_groups
    assert [group.name for group in groups] == ["canaries"]


def test_a_dynamic_group_is_whoever_its_rule_fits(
    emulator: Emulator, client: v5.IoTDAClient, nothing_lost: Lossless
) -> None:
    body = v5.AddDeviceGroupDTO(
        name="outdated", group_type="DYNAMIC", dynamic_group_rule="fw_version != '2.0.0'"
    )
    made = client.add_device_group(v5.AddDeviceGroupRequest(body=body))
    nothing_lost(made)
    request = v5.ShowDevicesInGroupRequest(group_id=made.group_id, limit=1)
    assert client.show_devices_in_group(request).page.count == 120
    upgrade(client, targets=["device-00050", "device-00051"])
    emulator.advance(3600)
    assert client.show_devices_in_group(request).page.count == 118


def upgrade(client: v5.IoTDAClient, **targets: Any) -> Any:
    body = v5.CreateBatchTask(
        task_name="upgrade",
        task_type="firmwareUpgrade",
        document={"package_ids": ["abc-1"]},
        **targets,
    )
    return client.create_batch_task(v5.CreateBatchTaskRequest(body=body))


def test_a_successful_upgrade_changes_the_devices_version(
    emulator: Emulator, client: v5.IoTDAClient, nothing_lost: Lossless
) -> None:
    upgrade(client, targets_filter={"group_ids": [CANARIES]})
    emulator.advance(3600)
    new = client.show_device(v5.ShowDeviceRequest(device_id="device-00059"))
    nothing_lost(new)
    assert (new.fw_version, new.sw_version, new.status) == ("2.0.0", "1.0.0", "ONLINE")
    offline = client.show_device(v5.ShowDeviceRequest(device_id="device-00000"))
    nothing_lost(offline)
    assert (offline.fw_version, offline.status) == ("0.9.0", "OFFLINE")
    # Both have changed once: when the platform began, and a week before.
    assert new.connection_status_update_time > offline.connection_status_update_time
    assert new.active_time > offline.active_time == offline.connection_status_update_time
    assert search(client, "select count(*) from device where fw_version = '2.0.0'").count == 40


def test_devices_are_listed_by_product(client: v5.IoTDAClient, nothing_lost: Lossless) -> None:
    listed = client.list_devices(v5.ListDevicesRequest(product_id=PRODUCT, limit=50))
    nothing_lost(listed)
    assert listed.page.count == 120
    assert listed.devices[0].fw_version == "1.0.0"
    assert client.list_devices(v5.ListDevicesRequest(product_id="other")).page.count == 0


def test_devices_are_searched_by_group_and_version(
    client: v5.IoTDAClient, nothing_lost: Lossless
) -> None:
    sql = (
        f"select * from device where group_id = '{CANARIES}' and fw_version in ('0.9.0')"
        " order by marker asc limit 5,50"
    )
    found = search(client, sql)
    nothing_lost(found)
    assert [device.device_id for device in found.devices] == [
        f"device-{n:05d}" for n in range(5, 20)
    ]
    assert found.devices[0].groups == [CANARIES]


def test_packages_are_made_listed_shown_and_deleted(
    client: v5.IoTDAClient, nothing_lost: Lossless
) -> None:
    body = v5.CreateOtaPackage(
        app_id="app",
        package_type="firmwarePackage",
        product_id=PRODUCT,
        version="2.1.0",
        support_source_versions=["1.0.0", "2.0.0"],
        description="fixes",
        custom_info="{}",
        file_location=v5.FileLocation(
            v5.ObsLocation("cn-north-4", "bucket", "fw/2.1.0.bin", "SHA256", "0" * 64)
        ),
    )
    made = client.create_ota_package(v5.CreateOtaPackageRequest(body=body))
    nothing_lost(made)
    shown = client.show_ota_package(v5.ShowOtaPackageRequest(package_id=made.package_id))
    nothing_lost(shown)
    assert shown.file_location.obs_location.object_key == "fw/2.1.0.bin"
    listed = client.list_ota_package_info(
        v5.ListOtaPackageInfoRequest(package_type="firmwarePackage", product_id=PRODUCT)
    )
    nothing_lost(listed)
    assert [package.version for package in listed.packages] == ["2.1.0", "2.0.0"]
    with pytest.raises(ClientRequestException):
        client.create_ota_package(v5.CreateOtaPackageRequest(body=body))
    client.delete_ota_package(v5.DeleteOtaPackageRequest(package_id=made.package_id))
    with pytest.raises(ClientRequestException) as refusal:
        client.show_ota_package(v5.ShowOtaPackageRequest(package_id=made.package_id))
    assert refusal.value.status_code == 404


def test_what_is_made_without_an_app_id_is_in_the_default_resource_space(
    emulator: Emulator, client: v5.IoTDAClient
) -> None:
    default = client.show_device(v5.ShowDeviceRequest(device_id="device-00000")).app_id
    task_id = upgrade(client, targets=["device-00050"]).task_id
    client.add_device_group(v5.AddDeviceGroupRequest(body=v5.AddDeviceGroupDTO(name="wave")))
    other = v5.AddDeviceGroupDTO(name="other", app_id="other")
    client.add_device_group(v5.AddDeviceGroupRequest(body=other))
    tasks = v5.ListBatchTasksRequest(task_type="firmwareUpgrade", app_id=default)
    assert [task.task_id for task in client.list_batch_tasks(tasks).batchtasks] == [task_id]
    groups = client.list_device_groups(v5.ListDeviceGroupsRequest(app_id=default)).device_groups
    assert {group.name for group in groups} == {"canaries", "wave"}
    packages = v5.ListOtaPackageInfoRequest(package_type="firmwarePackage", app_id=default)
    assert client.list_ota_package_info(packages).page.count == 1
    tasks.app_id = "other"
    assert client.list_batch_tasks(tasks).page.count == 0
    request = v5.ListDeviceGroupsRequest(app_id="other")
    assert [g.name for g in client.list_device_groups(request).device_groups] == ["other"]


def test_groups_are_found_by_when_they_changed_last(
    start: Callable[..., Emulator], sdk: Callable[..., v5.IoTDAClient]
) -> None:
    emulator = start({**SCENARIO, "start_time": "20260101T000000Z"})
    client = sdk(emulator)

    def since(time: str) -> list[str]:
        request = v5.ListDeviceGroupsRequest(last_modified_time=time)
        return [group.name for group in client.list_device_groups(request).device_groups]

    emulator.advance(3600)
    client.add_device_group(v5.AddDeviceGroupRequest(body=v5.AddDeviceGroupDTO(name="wave")))
    assert since("20260101T000000Z") == ["wave", "canaries"]
    assert since("20260101T003000Z") == ["wave"]
    body = v5.UpdateDeviceGroupDTO(description="the first ones")
    client.update_device_group(v5.UpdateDeviceGroupRequest(group_id=CANARIES, body=body))
    assert since("20260101T003000Z") == ["wave", "canaries"]
    assert since("20260101T010001Z") == []


def test_a_deleted_device_is_removed_from_running_tasks(
    emulator: Emulator, client: v5.IoTDAClient
) -> None:
    task_id = upgrade(client, targets=["device-00050", "device-00051"]).task_id
    emulator.advance(2)
    client.delete_device(v5.DeleteDeviceRequest(device_id="device-00051"))
    shown = client.show_batch_task(v5.ShowBatchTaskRequest(task_id=task_id))
    assert shown.batchtask.task_progress.removed == 1
    assert shown.task_details[0].status == "Removed"
    emulator.advance(3600)
    shown = client.show_batch_task(v5.ShowBatchTaskRequest(task_id=task_id))
    assert shown.batchtask.status == "Success"
    with pytest.raises(ClientRequestException) as refusal:
        client.show_device(v5.ShowDeviceRequest(device_id="device-00051"))
    assert refusal.value.status_code == 404


def test_the_search_is_limited_to_one_a_second(
    start: Callable[..., Emulator], sdk: Callable[..., v5.IoTDAClient]
) -> None:
    emulator = start({"devices": 1})
    emulator.instance.limits._real = lambda: 0.0  # both within one moment
    client = sdk(emulator)
    search(client, "select * from device")
    with pytest.raises(ClientRequestException) as refusal:
        search(client, "select * from device")
    assert refusal.value.status_code == 429
    assert refusal.value.error_code == "APIGW.0308"
