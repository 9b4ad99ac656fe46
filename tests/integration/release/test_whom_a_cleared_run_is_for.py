"""Whom a release is for whose run is cleared in the middle: the devices of its batch task."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.operators.batch_task.create import CreateBatchTaskOperator
from iotda_provider.operators.release.check import CheckReleaseOperator

PACKAGE, GROUP = "a1b2c3d4e5f60718293a4b5c", "0000000a-0000"


@pytest.fixture
def deferrable() -> bool:
    """Nothing here waits."""
    return False


@pytest.fixture
def cleared(rollout: Any) -> Any:
    """A run of a release to so many devices, so many of which have been upgraded since."""

    def clear(devices: int, upgraded: int, **parameters: Any) -> Any:
        run = rollout(
            devices=devices,
            packages=[{"package_id": PACKAGE, "version": "2.0.0"}],
            groups=[{"name": "all", "group_id": GROUP, "count": devices}],
            batch_tasks=[],
            already_current=0.1,
        )
        first = check(run, **parameters)
        targets = run.xcoms["check", "targets"]
        made = run.run(
            CreateBatchTaskOperator(
                task_id="create",
                task_name="release",
                task_type="firmwareUpgrade",
                targets=targets,
                document={"package_ids": [PACKAGE]},
                need_confirm=True,
            )
        )
        run.emulator.advance(1)
        with IoTDAHook() as hook:
            hook.confirm_batch_task(made["batch_task_id"], targets[:upgraded])
        run.emulator.advance(3600)
        return run, first

    return clear


def check(run: Any, **given: Any) -> Any:
    return run.run(
        CheckReleaseOperator(
            task_id="check",
            **{
                "package_id": PACKAGE,
                "group_ids": [GROUP],
                "online_within": 0,
                "create_task_id": ["create", "try_again"],
                **given,
            },
        )
    )


@pytest.mark.parametrize("upgraded", [0, 500, 1000])
def test_a_release_that_is_under_way_is_for_the_devices_of_its_batch_task(
    cleared: Any, upgraded: int
) -> None:
    """Whatever is left of them: even nobody, or too few for a first wave to pass."""
    parameters = {"waves": "10%, 50%, 100%", "gate": 0.05, "approval": "never"}
    run, first = cleared(1000, upgraded, **parameters)
    targets = run.xcoms["check", "targets"]
    assert check(run, **parameters) == first
    assert sorted(run.xcoms["check", "targets"]) == sorted(targets)


def test_another_task_and_a_group_that_is_gone_are_told_and_do_not_end_it(
    cleared: Any, logged: Any
) -> None:
    """To end it would leave its own devices unguarded."""
    run, first = cleared(400, 100)
    targets = run.xcoms["check", "targets"]
    with IoTDAHook() as hook:
        hook.create_batch_task(
            task_name="by_hand",
            task_type="firmwareUpgrade",
            targets=targets[100:103],
            document={"package_ids": [PACKAGE]},
            need_confirm=True,
        )
    run.emulator.advance(1)
    gone = "0000000f-0000"
    again = check(run, group_ids=[GROUP, gone], waves=f"group:{gone}, 100%")
    assert again["devices"] == first["devices"]
    assert sorted(run.xcoms["check", "targets"]) == sorted(targets)
    lines = logged()
    assert "There is no device group" in lines
    assert "(by_hand, Waitting) holds 3 of these devices" in lines


def test_parameters_that_make_no_sense_are_refused_all_the_same(cleared: Any) -> None:
    run, _ = cleared(400, 100)
    with pytest.raises(AirflowFailException, match="waves") as refusal:
        check(run, waves="many")
    assert "Nothing was created" not in str(refusal.value)
    assert run.xcoms["create", "batch_task_id"] in str(refusal.value)
