"""What is looked at before a release, and what is tidied up after it, against the emulator."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from iotda_provider.exceptions import IoTDANotFoundError
from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.operators.release.at_rest import WaitUntilAtRestOperator
from iotda_provider.operators.release.check import CheckReleaseOperator
from iotda_provider.operators.release.quarantine import QuarantineDevicesOperator

TASK_ID = "5c8fb9d0e2f14a5b9c0d1e2f"
PACKAGE, VERSION, GROUP = "a1b2c3d4e5f60718293a4b5c", "2.0.0", "0000000a-0000"
WORLD: dict[str, Any] = {
    "devices": 100,
    "packages": [{"package_id": PACKAGE, "version": VERSION}],
    "groups": [{"name": "all", "group_id": GROUP, "count": 100}],
    "batch_tasks": [],
}


def check(run: Any, **given: Any) -> Any:
    return run.run(
        CheckReleaseOperator(
            task_id="check", **{"package_id": PACKAGE, "group_ids": [GROUP], **given}
        )
    )


def test_devices_that_run_the_version_already_are_left_out(rollout: Any) -> None:
    run = rollout(**WORLD, already_current=0.3)
    found = check(run)
    assert (found["version"], found["task_type"]) == (VERSION, "firmwareUpgrade")
    assert 10 < found["already_current"] < 60
    assert found["devices"] == len(run.xcoms["check", "targets"]) == 100 - found["already_current"]


def test_devices_that_are_not_online_are_named_as_late(rollout: Any) -> None:
    run = rollout(**WORLD, offline_share=0.2)
    found = check(run)
    late = run.xcoms["check", "late"]
    assert 5 < len(late) == found["late"] < 50
    assert set(late) < set(run.xcoms["check", "targets"])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"package_id": "0" * 24}, "no package"),
        ({"group_ids": ["0000000f-0000"]}, "no device group"),
        ({"group_ids": []}, "no device to release"),
    ],
)
def test_what_is_not_there_ends_the_release_at_once(
    rollout: Any, given: dict[str, Any], says: str
) -> None:
    with pytest.raises(AirflowFailException, match=says):
        check(rollout(**WORLD), **given)


@pytest.mark.parametrize("call", ["show_ota_package", "show_devices_in_group"])
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "html", "status": 404},
        {"kind": "status", "status": 404, "body": {"error_code": "APIG.0101"}},
    ],
)
def test_a_404_that_is_not_of_the_platform_is_looked_at_again_by_the_next_try(
    rollout: Any, call: str, fault: dict[str, Any]
) -> None:
    run = rollout(**WORLD)
    run.emulator.add_fault(call=call, count=1, **fault)

    with pytest.raises(IoTDANotFoundError, match="connection's Host"):
        check(run)

    assert check(run)["devices"] == 100


def test_nobody_is_left_where_all_run_the_version(rollout: Any) -> None:
    with pytest.raises(AirflowFailException, match="100 run it already"):
        check(rollout(**WORLD, already_current=1))


def test_a_task_that_waits_to_be_confirmed_is_named_with_what_to_do(rollout: Any) -> None:
    """As a failed release leaves one for what it did not reach, and the next release finds it."""
    task = {"task_id": TASK_ID, "task_name": "again", "targets": 3, "need_confirm": True}
    run = rollout(**{**WORLD, "batch_tasks": [task]})
    with pytest.raises(AirflowFailException) as refusal:
        check(run)
    said = str(refusal.value)
    assert f"Batch task {TASK_ID} (again, Waitting) holds 3 of these devices" in said
    assert "waits for somebody to confirm it" in said
    assert f"StopBatchTaskOperator(batch_task_id='{TASK_ID}')" in said
    assert "clear this task" in said
    with IoTDAHook() as hook:
        hook.stop_batch_task(TASK_ID)
    assert check(run)["devices"] == 100


def test_a_task_that_runs_and_one_that_waits_are_both_named(rollout: Any) -> None:
    tasks = [
        {"task_id": TASK_ID, "task_name": "runs", "targets": 3},
        {"task_id": f"{TASK_ID[:-1]}0", "task_name": "waits", "targets": 5, "need_confirm": True},
    ]
    run = rollout(**{**WORLD, "batch_tasks": tasks}, success_after=10**6)
    with pytest.raises(AirflowFailException) as refusal:
        check(run)
    said = str(refusal.value)
    assert "(runs, Processing) is not finished with 3 of these devices" in said
    assert "Let it end, or stop it" in said
    assert "(waits, Waitting) holds 5 of these devices" in said


def test_this_runs_own_batch_task_is_no_other(rollout: Any) -> None:
    from iotda_provider.operators.batch_task.create import stamp_of, stamped_name

    name = stamped_name("release", stamp_of("tests", "dag", "run", "rollout.wave_1_create", -1))
    task = {"task_id": TASK_ID, "task_name": name, "targets": "all", "need_confirm": True}
    run = rollout(**{**WORLD, "batch_tasks": [task]})
    assert check(run)["devices"] == 100


def test_a_release_is_reconciled_with_what_the_devices_run(rollout: Any) -> None:
    run = rollout(
        **WORLD,
        failure_rate=0.4,
        failure_mix={"IOTDA.005010|installation failed": 1, "IOTDA.014016|device offline": 1},
    )
    run.plan("50%, 100%")
    run.confirm(1)
    assert run.watch(1)["verdict"] == "breached"
    rest = run.run(
        WaitUntilAtRestOperator(
            task_id="rest", batch_task_id=run.task_of(), grace=0, poll_interval=0.05
        )
    )
    assert (rest["at_rest"], rest["under_way"]) == (True, 0)
    outcome = run.outcome(2)
    found = run.reconcile(outcome, version=VERSION)
    counts = found["counts"]
    assert (found["exposed"], counts["wave_not_begun"], found["proven"]) == (50, 50, False)
    assert set(run.xcoms["reconcile", "wave_not_begun"]) == set(run.wave(2))
    assert counts["firmware"] > 0
    assert counts["environment"] > 0
    # The release was stopped for the firmware's fault: it holds nobody for a second try.
    assert run.xcoms["reconcile", "to_retry"] == []
    assert len(run.xcoms["reconcile", "to_quarantine"]) == counts["firmware"]


def test_devices_are_put_into_quarantine_once(rollout: Any) -> None:
    run = rollout(**WORLD)

    def quarantine(*targets: str) -> Any:
        return run.run(
            QuarantineDevicesOperator(task_id="q", targets=list(targets), group_name="bad_2.0.0")
        )

    assert quarantine()["group_id"] is None
    first = quarantine("device-00001", "device-00002", "nobody")
    assert (first["requested"], first["added"]) == (3, 2)
    assert [row["target"] for row in first["failed"]] == ["nobody"]
    again = quarantine("device-00002", "device-00003")
    assert (again["group_id"], again["added"]) == (first["group_id"], 2)
    groups = run.emulator.instance.present().groups.by_id
    assert len(groups[first["group_id"]].members) == 3
    assert [group.name for group in groups.values()].count("bad_2.0.0") == 1
