"""Devices are set aside into a group with a name that the platform takes, none lost for another."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from iotda_provider.exceptions import IoTDAConfigError, IoTDANotFoundError, IoTDAServerError
from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.models import DeviceGroup
from iotda_provider.operators.release import quarantine as quarantine_module
from iotda_provider.operators.release.quarantine import QuarantineDevicesOperator, group_name_of

#: What AddDeviceGroupDTO says of a name.
NAME = re.compile(r"[A-Za-z0-9\u4e00-\u9fff_? '#().,&%@!-]{1,64}")


@pytest.fixture
def deferrable() -> bool:
    """Nothing here waits."""
    return False


def quarantine(run: Any, targets: Any, name: str = "quarantine_2.0.0", **more: Any) -> Any:
    return run.run(QuarantineDevicesOperator(task_id="q", targets=targets, group_name=name, **more))


def members(run: Any, group_id: str) -> int:
    return len(run.emulator.instance.present().groups.by_id[group_id].members)


def test_names_that_the_platform_takes_stay_as_they_are() -> None:
    for name in ("quarantine_2.0.0", "隔离 (v1), it's #3 & 4 %@!-?", "x" * 64):
        assert group_name_of(name) == name


def test_other_names_are_made_into_some_that_differ_where_they_differ() -> None:
    wanted = [
        "quarantine_V1.0.0+build/17",
        "quarantine_V1.0.0_build_17",
        "quarantine_V1.0.0+build:17",
        "quarantine_" + "1" * 256,
        "quarantine_" + "1" * 255,
        "quarantine_é\n",
        "+" * 100,
    ]
    names = [group_name_of(name) for name in wanted]
    assert len(set(names)) == len(wanted)
    assert all(NAME.fullmatch(name) for name in names), names
    assert names == [group_name_of(name) for name in wanted]
    assert names[0].startswith("quarantine_V1.0.0_build_17_")
    for nothing in ("", "None", None):
        with pytest.raises(IoTDAConfigError, match="group_name"):
            group_name_of(nothing)


def test_a_version_with_other_characters_has_one_group(rollout: Any, logged: Any) -> None:
    run = rollout(devices=20, batch_tasks=[])
    name = "quarantine_V1.0.0+build/" + "7" * 60
    first = quarantine(run, ["device-00001"], name)
    again = quarantine(run, ["device-00001", "device-00002"], name)
    assert first["name"] == again["name"] == group_name_of(name)
    assert first["group_id"] == again["group_id"]
    assert (again["requested"], again["added"], again["already_in"]) == (2, 2, 1)
    assert f"The group is {first['name']} ({first['group_id']})" in logged()
    assert members(run, first["group_id"]) == 2


def test_any_number_of_devices_is_put_there_past_some_that_are_refused(rollout: Any) -> None:
    run = rollout(devices=300, batch_tasks=[])
    targets = [f"device-{n:05d}" for n in range(300)]
    for place in (0, 120, 299):
        targets[place] = f"gone-{place}"
    found = quarantine(run, targets)
    assert (found["requested"], found["added"]) == (300, 297)
    assert [row["target"] for row in found["failed"]] == ["gone-0", "gone-120", "gone-299"]
    assert members(run, found["group_id"]) == 297


def test_more_devices_than_a_group_takes_are_in_several(
    rollout: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(quarantine_module, "MOST_IN_GROUP", 40)
    run = rollout(devices=100, batch_tasks=[])
    file = tmp_path / "to_quarantine.txt"
    file.write_text("".join(f"{device}\n" for device in run.devices[:30]))
    first = quarantine(run, file.as_uri())
    assert "more_groups" not in first
    file.write_text("".join(f"{device}\n" for device in run.devices))
    found = quarantine(run, file.as_uri())
    assert (found["requested"], found["added"], found["already_in"]) == (100, 100, 30)
    assert found["group_id"] == first["group_id"]
    groups = [found["group_id"], *found["more_groups"]]
    assert [members(run, group_id) for group_id in groups] == [40, 40, 20]
    by_id = run.emulator.instance.present().groups.by_id
    name = by_id[groups[0]].name
    assert [by_id[one].name for one in groups[1:]] == [f"{name}_part_2", f"{name}_part_3"]
    # Cleared, it finds all of them where they are.
    calls = len(run.emulator.journal("create_or_delete_device_in_group"))
    again = quarantine(run, file.as_uri())
    assert (again["already_in"], again["more_groups"]) == (100, found["more_groups"])
    assert len(run.emulator.journal("create_or_delete_device_in_group")) == calls


def test_so_many_devices_that_are_refused_fit_into_an_xcom(rollout: Any) -> None:
    run = rollout(devices=1, batch_tasks=[])
    found = quarantine(run, [f"gone-{n}" for n in range(600)])
    assert (found["requested"], found["added"], len(found["failed"])) == (600, 0, 250)
    assert len(json.dumps(found)) < 100_000


def test_trouble_with_one_device_does_not_keep_the_others_out(
    rollout: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = rollout(devices=20, batch_tasks=[])
    real = IoTDAHook.change_device_group
    ill = {"device-00003"}
    asked: list[str] = []

    def change(self: Any, group_id: str, device_id: str, *, add: bool) -> None:
        asked.append(device_id)
        if device_id in ill:
            raise IoTDAServerError(500, "IOTDA.000001", "trouble")
        real(self, group_id, device_id, add=add)

    monkeypatch.setattr(IoTDAHook, "change_device_group", change)
    targets = [f"device-{n:05d}" for n in range(20)]
    with pytest.raises(IoTDAServerError):
        quarantine(run, targets)
    (group,) = run.emulator.instance.present().groups.by_id.values()
    assert len(group.members) == 19
    ill.clear()
    asked.clear()
    assert quarantine(run, targets)["added"] == 20
    assert asked == ["device-00003"]
    ill.update(targets)
    asked.clear()
    with pytest.raises(IoTDAServerError):
        quarantine(run, targets, "another")
    assert len(asked) == 3, "where all of them fail, it is no device's fault"


def test_a_proxys_404_says_nothing_of_a_device(rollout: Any) -> None:
    run = rollout(devices=20, batch_tasks=[])
    change = "create_or_delete_device_in_group"
    run.emulator.add_fault("html", status=404, call=change, count=2)
    with pytest.raises(IoTDANotFoundError, match="a proxy or load balancer"):
        quarantine(run, run.devices)
    assert quarantine(run, run.devices)["added"] == 20


def test_trouble_with_one_group_does_not_keep_the_next_ones_empty(
    rollout: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine_module, "MOST_IN_GROUP", 40)
    run = rollout(devices=100, batch_tasks=[])
    real = IoTDAHook.change_device_group
    ill: set[str] = set()
    first: list[str] = []

    def change(self: Any, group_id: str, device_id: str, *, add: bool) -> None:
        first.append(group_id)
        if device_id in ill or (not ill and group_id == first[0]):
            raise IoTDAServerError(500, "IOTDA.000001", "trouble")
        real(self, group_id, device_id, add=add)

    monkeypatch.setattr(IoTDAHook, "change_device_group", change)
    with pytest.raises(IoTDAServerError):
        quarantine(run, run.devices)
    by_id = run.emulator.instance.present().groups.by_id
    assert [len(group.members) for group in by_id.values()] == [0, 40, 20]
    ill.add("device-00007")
    with pytest.raises(IoTDAServerError):
        quarantine(run, run.devices)
    assert [len(group.members) for group in by_id.values()] == [39, 40, 20]
    ill.add("nobody")
    ill.discard("device-00007")
    assert quarantine(run, run.devices)["added"] == 100


def test_another_group_of_that_name_is_no_quarantine(rollout: Any) -> None:
    run = rollout(devices=20, batch_tasks=[])
    with IoTDAHook() as hook:
        theirs = hook.create_device_group(name="quarantine_2.0.0", description="spare parts")
    with pytest.raises(AirflowFailException, match="'spare parts', not 'bad firmware'"):
        quarantine(run, ["device-00001"], description="bad firmware")
    assert members(run, theirs.group_id) == 0
    assert quarantine(run, ["device-00001"])["group_id"] == theirs.group_id
    assert quarantine(run, ["device-00001"], description="spare parts")["added"] == 1


@pytest.mark.parametrize(
    ("groups", "why"),
    [
        ([DeviceGroup("a" * 36, "quarantine_2.0.0", None, "DYNAMIC")], "type is DYNAMIC"),
        ([DeviceGroup(c * 36, "quarantine_2.0.0") for c in "ab"], "There are 2 device groups"),
    ],
)
def test_nor_is_a_dynamic_group_or_one_of_several(
    rollout: Any, monkeypatch: pytest.MonkeyPatch, groups: Any, why: str
) -> None:
    run = rollout(devices=20, batch_tasks=[])
    monkeypatch.setattr(IoTDAHook, "list_device_groups", lambda *_, **__: iter(groups))
    with pytest.raises(AirflowFailException, match=why):
        quarantine(run, ["device-00001"])
    assert not run.emulator.journal("create_or_delete_device_in_group")
