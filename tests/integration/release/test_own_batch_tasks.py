"""The batch tasks of a run of its own: no conflict when it is cleared, and told as they are now."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.operators.batch_task.create import (
    CreateBatchTaskOperator,
    stamp_of,
    stamped_name,
)
from iotda_provider.operators.release.check import CheckReleaseOperator

TASK_ID = "5c8fb9d0e2f14a5b9c0d1e2f"
PACKAGE, GROUP = "a1b2c3d4e5f60718293a4b5c", "0000000a-0000"
WORLD: dict[str, Any] = {
    "devices": 100,
    "packages": [{"package_id": PACKAGE, "version": "2.0.0"}],
    "groups": [{"name": "all", "group_id": GROUP, "count": 100}],
}
CREATE = "rollout.wave_1_create"
OWN = stamp_of("tests", "dag", "run", "try_again", -1)


@pytest.fixture
def deferrable() -> bool:
    """Nothing here waits."""
    return False


def check(run: Any, **given: Any) -> Any:
    return run.run(
        CheckReleaseOperator(task_id="check", package_id=PACKAGE, group_ids=[GROUP], **given)
    )


def waiting(name: str) -> dict[str, Any]:
    return {"task_id": TASK_ID, "task_name": name, "targets": 5, "need_confirm": True}


def make(run: Any, *targets: str) -> Any:
    return run.run(
        CreateBatchTaskOperator(
            task_id="try_again",
            task_name="again",
            task_type="firmwareUpgrade",
            targets=list(targets),
            document={"package_ids": [PACKAGE]},
            need_confirm=True,
        )
    )


def test_a_cleared_runs_own_tasks_are_no_others(rollout: Any) -> None:
    run = rollout(**WORLD, batch_tasks=[waiting(stamped_name("again", OWN))])
    assert check(run)["devices"] == 100


def test_a_refusal_says_whose_task_it_is_and_which_are_its_own(rollout: Any) -> None:
    run = rollout(**WORLD, batch_tasks=[waiting(stamped_name("again", OWN))])
    with pytest.raises(AirflowFailException) as refusal:
        check(run, create_task_id=CREATE)
    said = str(refusal.value)
    assert f"Batch task {TASK_ID} (again_af{OWN}, Waitting) holds 5 of these devices" in said
    assert f"By its stamp {OWN} it is another run's" in said
    assert "create_task_id does not name" in said
    assert f"{stamp_of('tests', 'dag', 'run', CREATE, -1)} ({CREATE})" in said


def test_a_task_without_a_stamp_is_blamed_on_no_release(rollout: Any) -> None:
    run = rollout(**WORLD, batch_tasks=[waiting("by_hand")])
    with pytest.raises(AirflowFailException, match="has no stamp of a DAG run"):
        check(run)


def test_the_same_tasks_of_another_run_are_others(rollout: Any) -> None:
    name = stamped_name("again", stamp_of("tests", "dag", "earlier run", "try_again", -1))
    run = rollout(**WORLD, batch_tasks=[waiting(name)])
    with pytest.raises(AirflowFailException, match="holds 5 of these devices"):
        check(run)


def test_a_task_of_an_earlier_pass_is_told_with_its_status_of_now(
    rollout: Any, logged: Any
) -> None:
    """It is found by its stamp, rightly; that it holds devices is not said where it is stopped."""
    run = rollout(**WORLD, batch_tasks=[])
    made = make(run, "device-00001")
    assert (made["created"], made["ended"]) == (True, False)
    found = make(run, "device-00001")
    assert (found["created"], found["ended"], found["status"]) == (False, False, "Waitting")
    assert run.xcoms["try_again", "status"] == "Waitting"
    with IoTDAHook() as hook:
        hook.stop_batch_task(made["batch_task_id"])
    run.emulator.advance(60)
    later = make(run, "device-00001")
    assert later["batch_task_id"] == made["batch_task_id"]
    assert (later["created"], later["ended"], later["status"]) == (False, True, "Stopped")
    assert run.xcoms["try_again", "status"] == "Stopped"
    assert "is already Stopped: it starts no device any more" in logged()


def test_a_task_of_an_earlier_pass_for_other_devices_is_not_taken_for_what_is_asked(
    rollout: Any,
) -> None:
    run = rollout(**WORLD, batch_tasks=[])
    made = make(run, "device-00001")
    with pytest.raises(AirflowFailException) as refusal:
        make(run, "device-00001", "device-00002")
    said = str(refusal.value)
    assert f"Batch task {made['batch_task_id']} (again_af" in said
    assert "has this task instance's stamp in its name" in said
    assert "it has 1 target(s), but 2 are wanted, 1 are missing, first device-00002" in said


OTHER_PACKAGE = {"package_id": "b1b2c3d4e5f60718293a4b5c", "version": "1.9.0"}
SOFTWARE = {**OTHER_PACKAGE, "package_id": "c1b2c3", "package_type": "softwarePackage"}


@pytest.mark.parametrize("name", ["release_wave_1_of_4_part_1", "again"])
@pytest.mark.parametrize(
    ("differs", "said"),
    [
        ({"document": {"package_ids": [OTHER_PACKAGE["package_id"]]}}, OTHER_PACKAGE["package_id"]),
        (
            {"task_type": "softwareUpgrade", "document": {"package_ids": [SOFTWARE["package_id"]]}},
            "task_type is 'softwareUpgrade', but 'firmwareUpgrade'",
        ),
        (
            {"task_policy": {"retry_count": 5, "retry_interval": 60}},
            "task_policy is {'retry_count': '5', 'retry_interval': '60'}, but {} is wanted",
        ),
        ({"need_confirm": False}, "need_confirm is False, but True is wanted"),
        (
            {"targets": ["device-00001", "device-00098"]},
            "1 of its targets are in none of the groups, first device-00098",
        ),
    ],
    ids=["document", "type", "policy", "confirmation", "targets"],
)
def test_a_check_refuses_what_bears_its_stamp_and_is_for_something_else(
    rollout: Any, name: str, differs: dict[str, Any], said: str
) -> None:
    """Say, somebody has corrected the package's id, and cleared the run."""
    mine = stamped_name(name, stamp_of("tests", "dag", "run", CREATE, -1), of_release=True)
    held = {**waiting(mine), "document": {"package_ids": [PACKAGE]}, **differs}
    world = {
        **WORLD,
        "packages": [*WORLD["packages"], OTHER_PACKAGE, SOFTWARE],
        "groups": [{"name": "most", "group_id": GROUP, "count": 90}],
    }
    run = rollout(**world, batch_tasks=[held])
    with pytest.raises(AirflowFailException) as refusal:
        check(run)
    assert f"Batch task {TASK_ID} ({mine}, " in str(refusal.value)
    assert f"bears the stamp of this run's {CREATE}" in str(refusal.value)
    assert said in str(refusal.value)
    assert run.stops == 0


def test_a_check_takes_what_bears_its_stamp_and_is_the_same(rollout: Any) -> None:
    mine = stamped_name("again", stamp_of("tests", "dag", "run", CREATE, -1), of_release=True)
    policy = {"retry_count": 5, "retry_interval": 60}
    held = {**waiting(mine), "document": {"package_ids": [PACKAGE]}, "task_policy": policy}
    run = rollout(**WORLD, batch_tasks=[held])
    assert check(run, task_policy=policy)["devices"] == 100
