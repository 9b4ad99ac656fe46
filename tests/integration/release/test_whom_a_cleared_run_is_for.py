"""A run that is cleared in the middle of its release: the check lets that go on."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.operators.release.check import CheckReleaseOperator

PACKAGE, GROUP = "a1b2c3d4e5f60718293a4b5c", "0000000a-0000"


@pytest.fixture
def deferrable() -> bool:
    """Nothing here waits."""
    return False


@pytest.fixture
def cleared(rollout: Any) -> Any:
    """A run of a release whose first waves are over, and all of whose devices have the version."""

    def clear(devices: int, begun: int, **parameters: Any) -> Any:
        run = rollout(
            devices=devices,
            groups=[{"name": "all", "group_id": GROUP, "count": devices}],
            already_current=0.1,
        )
        first = check(run, **parameters)
        run.plan("10%, 50%, 100%", devices=run.xcoms["check", "targets"])
        for wave in range(1, begun + 1):
            run.confirm(wave)
        run.emulator.advance(3600)
        return run, first

    return clear


def check(run: Any, **given: Any) -> Any:
    created = [f"create_{wave}" for wave in range(1, 7)]
    return run.run(
        CheckReleaseOperator(
            task_id="check",
            **{
                "package_id": PACKAGE,
                "group_ids": [GROUP],
                "online_within": 0,
                "create_task_id": [*created, "try_again"],
                **given,
            },
        )
    )


@pytest.mark.parametrize("waves", [1, 2, 3])
def test_a_release_that_is_under_way_goes_on_whatever_is_left(cleared: Any, waves: int) -> None:
    """Even if that is nobody, or too few for a first wave to pass; who is in a wave stays."""
    parameters = {"waves": "10%, 50%, 100%", "gate": 0.05, "approval": "never"}
    run, first = cleared(1000, waves, **parameters)
    planned = [run.wave(wave) for wave in (1, 2, 3)]
    again = check(run, **parameters)
    assert again["version"] == first["version"]
    assert again["devices"] + again["already_current"] == 1000
    run.plan("10%, 50%, 100%", devices=run.xcoms["check", "targets"])
    assert [run.wave(wave) for wave in (1, 2, 3)] == planned


def test_another_task_and_a_group_that_is_gone_are_told_and_do_not_end_it(
    cleared: Any, logged: Any
) -> None:
    """To end it would leave its own devices unguarded."""
    run, _ = cleared(400, 1)
    with IoTDAHook() as hook:
        hook.create_batch_task(
            task_name="by_hand",
            task_type="firmwareUpgrade",
            targets=run.wave(3)[:3],
            document={"package_ids": [PACKAGE]},
            need_confirm=True,
        )
    run.emulator.advance(1)
    gone = "0000000f-0000"
    assert check(run, group_ids=[GROUP, gone], waves=f"group:{gone}, 100%")["devices"] > 0
    lines = logged()
    assert "There is no device group" in lines
    assert "(by_hand, Waitting) holds 3 of these devices" in lines


def test_parameters_that_make_no_sense_are_refused_all_the_same(cleared: Any) -> None:
    run, _ = cleared(400, 1)
    with pytest.raises(AirflowFailException, match="waves") as refusal:
        check(run, waves="many")
    assert "Nothing was created" not in str(refusal.value)
    assert run.task_of(1) in str(refusal.value)


@pytest.mark.parametrize("manifest", ["xcom", "file"])
def test_its_batch_task_is_for_the_devices_that_were_written_down(
    cleared: Any, manifest: str, tmp_path: Any
) -> None:
    """A device that has left the group since is one of them; one that was added is not."""
    path = (tmp_path / "releases" / "manifest.json").as_uri() if manifest == "file" else None
    run, _ = cleared(400, 0, manifest_path=path)
    run.plan("10%, 100%", devices=run.xcoms["check", "targets"], manifest_path=path)
    run.create(1)
    part = run.xcoms["create_1", "return_value"]["parts"][0]
    with IoTDAHook() as hook:
        members = [row.target for row in hook.iter_subtasks(part["batch_task_id"])]
        another = next(device for device in run.devices if device not in members)
        hook.change_device_group(GROUP, members[0], add=False)
        assert check(run, manifest_path=path)["version"] == "2.0.0"

        hook.stop_batch_task(part["batch_task_id"])
        run.emulator.advance(60)
        hook.delete_batch_task(part["batch_task_id"])
        made = hook.create_batch_task(
            task_name=part["task_name"],
            task_type="firmwareUpgrade",
            targets=[*members, another],
            document={"package_ids": [PACKAGE]},
            need_confirm=True,
        )
    with pytest.raises(AirflowFailException) as refusal:
        check(run, manifest_path=path)
    assert made.task_id in str(refusal.value)
    assert f"it has {len(members) + 1} target(s), but {len(members)} are wanted" in str(
        refusal.value
    )
