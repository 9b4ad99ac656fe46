"""What becomes of batch tasks and their subtasks, by the hour and by what is asked of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from iotda_provider.emulator.common.errors import ApiError
from iotda_provider.models import TaskStatus

HOUR = 3600.0
Make = Callable[..., Any]


def counts(task: Any) -> dict[str, int]:
    return {name: count for name, count in task.progress().items() if count}


def test_a_task_initializes_runs_and_ends(hands: Make) -> None:
    h = hands()
    task = h.create()
    assert (task.status, counts(task)) == (TaskStatus.INITIALIZING, {"total": 10, "waitting": 10})
    h.pass_time(1)
    assert (task.status, counts(task)) == (TaskStatus.PROCESSING, {"total": 10, "processing": 10})
    h.pass_time(60)
    assert (task.status, counts(task)) == (TaskStatus.SUCCESS, {"total": 10, "success": 10})


@pytest.mark.parametrize(
    ("rate", "status"),
    [(0, TaskStatus.SUCCESS), (1, TaskStatus.FAIL), (0.5, TaskStatus.PARTIAL_SUCCESS)],
)
def test_a_task_ends_by_what_its_devices_report(
    hands: Make, rate: float, status: TaskStatus
) -> None:
    h = hands(failure_rate=rate)
    task = h.create()
    h.pass_time(HOUR)
    assert task.status is status


def test_failures_report_what_the_mix_says(hands: Make) -> None:
    h = hands(devices=300, failure_rate=1, failure_mix={"IOTDA.1|one": 2, "IOTDA.2|two": 1})
    task = h.create()
    h.pass_time(HOUR)
    reported = [h.row(task, f"device-{n:05d}")["error"]["error_code"] for n in range(300)]
    assert 150 < reported.count("IOTDA.1") < 250
    assert reported.count("IOTDA.1") + reported.count("IOTDA.2") == 300


def test_failures_are_retried_as_often_as_the_policy_says(hands: Make) -> None:
    h = hands(failure_rate=1, failure_after=60)
    task = h.create(task_policy={"retry_count": 2, "retry_interval": 10})
    seen = []
    for _ in range(40):
        h.pass_time(60)
        seen.append(next(name for name in counts(task) if name != "total"))
    runs = [name for place, name in enumerate(seen) if place == 0 or seen[place - 1] != name]
    assert runs == ["processing", "fail_wait_retry"] * 2 + ["processing", "fail"]
    assert task.status is TaskStatus.FAIL


def test_a_device_may_succeed_at_the_second_try(hands: Make) -> None:
    h = hands(failure_rate=1, repeat_failure_rate=0)
    task = h.create(task_policy={"retry_count": 1, "retry_interval": 1})
    h.pass_time(HOUR)
    assert task.status is TaskStatus.SUCCESS


def test_a_schedule_is_kept(hands: Make) -> None:
    h = hands()
    task = h.create(task_policy={"schedule_time": "20260102T000000Z"})
    h.pass_time(2)
    assert task.status is TaskStatus.WAITING
    h.pass_time(24 * HOUR - 3)
    assert (task.status, counts(task)["waitting"]) == (TaskStatus.WAITING, 10)
    h.pass_time(2)
    assert task.status is TaskStatus.PROCESSING


def test_a_schedule_is_at_most_seven_days_ahead(hands: Make) -> None:
    h = hands()
    h.create(task_policy={"schedule_time": "20260108T000000Z"})
    with pytest.raises(ApiError, match="within 7 days"):
        h.create(task_policy={"schedule_time": "20260108T000001Z"})


def test_bricks_are_failed_by_the_24_hour_timeout(hands: Make) -> None:
    h = hands(hang_rate=1)
    task = h.create()
    h.pass_time(24 * HOUR)
    assert counts(task) == {"total": 10, "processing": 10}
    h.pass_time(2)
    assert task.status is TaskStatus.FAIL
    assert "in time" in h.row(task, "device-00000")["error"]["error_msg"]


def test_offline_devices_are_waited_for_25_hours(hands: Make) -> None:
    h = hands(offline_share=1)
    task = h.create()
    h.pass_time(25 * HOUR)
    assert counts(task) == {"total": 10, "waitting": 10}
    h.pass_time(2)
    assert task.status is TaskStatus.FAIL
    assert h.row(task, "device-00000")["error"]["error_code"] == "IOTDA.014016"


def test_a_device_that_comes_online_is_upgraded_then(hands: Make) -> None:
    h = hands(offline_share=1, online_after=2 * HOUR, switches={"offline_status": "Processing"})
    assert h.world.fleet.status(0, h.world.now) == "OFFLINE"
    task = h.create()
    h.pass_time(2 * HOUR + 30)
    assert counts(task) == {"total": 10, "processing": 10}
    assert h.world.fleet.status(0, h.world.now) == "ONLINE"
    h.pass_time(60)
    assert task.status is TaskStatus.SUCCESS


def test_a_device_on_the_target_version_succeeds_at_once(hands: Make) -> None:
    packages = [{"package_id": "abc", "version": "2.0.0"}]
    h = hands(devices=200, already_current=0.5, packages=packages)
    current = [n for n in range(200) if h.world.fleet.firmware(n) == "2.0.0"]
    assert 70 < len(current) < 130
    task = h.create()
    h.pass_time(1)
    assert counts(task)["success"] == len(current)
    h.pass_time(60)
    assert all(h.world.fleet.firmware(n) == "2.0.0" for n in range(200))
    again = h.create()
    h.pass_time(1)
    assert again.status is TaskStatus.SUCCESS


def test_without_a_known_package_current_devices_turn_out_at_the_start(hands: Make) -> None:
    h = hands(already_current=1)
    task = h.create()
    h.pass_time(1)
    assert task.status is TaskStatus.SUCCESS


def test_a_target_that_is_no_device_fails(hands: Make) -> None:
    h = hands()
    task = h.create(targets=["device-00001", "nobody", "device-00001"])
    assert len(task) == 2
    h.pass_time(1)
    assert h.row(task, "nobody")["output"] == "The device does not exist"


def test_a_task_for_nobody_fails(hands: Make) -> None:
    h = hands(groups=[{"name": "empty", "group_id": "abc"}])
    task = h.create(targets=[], targets_filter={"group_ids": ["abc"]})
    assert task.status is TaskStatus.FAIL
    assert h.world.describe(task)["status_desc"]


def test_unconfirmed_targets_wait_for_ever(hands: Make) -> None:
    h = hands()
    task = h.create(need_confirm=True)
    h.pass_time(100 * HOUR)
    assert (task.status, counts(task)["waitting"]) == (TaskStatus.WAITING, 10)
    assert h.do("confirm", task, ["device-00001", "nobody"]) == [
        {"target": "device-00001", "status": "success"},
        {
            "target": "nobody",
            "status": "failure",
            "error_code": "IOTDA.014219",
            "error_msg": "Invalid input. The target is not in the task",
        },
    ]
    assert counts(task) == {"total": 10, "waitting": 9, "processing": 1}
    [again] = h.do("confirm", task, ["device-00001"])
    assert again["status"] == "failure"
    h.pass_time(HOUR)
    assert task.status is TaskStatus.PROCESSING
    h.do("confirm", task)
    h.pass_time(HOUR)
    assert task.status is TaskStatus.SUCCESS


def test_what_is_confirmed_while_initializing_starts_with_the_task(hands: Make) -> None:
    h = hands()
    task = h.create(need_confirm=True)
    h.do("confirm", task)
    assert counts(task) == {"total": 10, "waitting": 10}
    h.pass_time(2)
    assert counts(task) == {"total": 10, "processing": 10}


def test_some_targets_are_stopped_and_the_others_go_on(hands: Make) -> None:
    h = hands()
    task = h.create()
    h.pass_time(2)
    results = h.do("stop", task, ["device-00000", "device-00001"])
    assert [result["status"] for result in results] == ["success", "success"]
    assert task.status is TaskStatus.PROCESSING
    h.pass_time(10)
    assert counts(task) == {"total": 10, "stopped": 2, "processing": 8}
    h.pass_time(HOUR)
    assert task.status is TaskStatus.PARTIAL_SUCCESS
    assert h.world.fleet.firmware(0) == "1.0.0"


def test_stopping_a_target_twice_fails_once_it_has_stopped(hands: Make) -> None:
    h = hands()
    task = h.create()
    h.pass_time(2)
    h.do("stop", task, ["device-00000"])
    h.pass_time(10)
    [result] = h.do("stop", task, ["device-00000"])
    assert (result["status"], result["error_code"]) == ("failure", "IOTDA.014220")


def test_a_whole_stop_is_stopping_and_then_stopped(hands: Make) -> None:
    h = hands()
    task = h.create()
    h.pass_time(2)
    h.do("stop", task)
    assert (task.status, counts(task)["processing"]) == (TaskStatus.STOPPING, 10)
    with pytest.raises(ApiError, match="being stopped"):
        h.do("stop", task)
    with pytest.raises(ApiError, match="is Stopping"):
        h.do("retry", task)
    h.pass_time(10)
    assert (task.status, counts(task)["stopped"]) == (TaskStatus.STOPPED, 10)
    with pytest.raises(ApiError, match="has ended"):
        h.do("stop", task)


def test_a_stop_also_ends_what_waits_for_a_retry(hands: Make) -> None:
    h = hands(failure_rate=1)
    task = h.create(task_policy={"retry_count": 5, "retry_interval": 60})
    h.pass_time(60)
    assert counts(task)["fail_wait_retry"] == 10
    h.do("stop", task)
    h.pass_time(10)
    assert counts(task) == {"total": 10, "stopped": 10}


@pytest.mark.parametrize(
    ("switch", "left", "status", "version"),
    [
        ("finish", 10, "Success", "package-abc"),
        ("finish", 100, "Stopped", "package-abc"),
        ("detach", 10, "Stopped", "package-abc"),
        ("abort", 10, "Stopped", "1.0.0"),
    ],
)
def test_a_stop_meets_devices_that_are_installing(
    hands: Make, switch: str, left: float, status: str, version: str
) -> None:
    h = hands(success_after=1000, switches={"stop_installing": switch})
    task = h.create()
    h.pass_time(1 + 1000 - left)
    h.do("stop", task)
    h.pass_time(90)
    assert h.row(task, "device-00000")["status"] == status
    assert task.status is TaskStatus.STOPPED
    h.pass_time(HOUR)
    assert h.world.fleet.firmware(0) == version


def test_stopped_and_failed_targets_are_retried(hands: Make) -> None:
    h = hands(segments=[{"count": 4, "failure_rate": 1, "repeat_failure_rate": 0}])
    task = h.create()
    h.pass_time(2)
    h.do("stop", task, ["device-00009"])
    h.pass_time(HOUR)
    assert counts(task) == {"total": 10, "fail": 4, "stopped": 1, "success": 5}
    assert task.status is TaskStatus.PARTIAL_SUCCESS
    h.do("retry", task)
    assert task.status is TaskStatus.PROCESSING
    assert counts(task).get("stopped") is None
    h.pass_time(HOUR)
    assert task.status is TaskStatus.SUCCESS
    with pytest.raises(ApiError, match="is Success"):
        h.do("retry", task)


def test_a_module_upgrade_is_confirmed_but_neither_stopped_nor_retried(hands: Make) -> None:
    h = hands()
    task = h.create(task_type="moduleUpgrade", need_confirm=True)
    h.pass_time(2)
    for action in ("stop", "retry"):
        with pytest.raises(ApiError, match="moduleUpgrade cannot be"):
            h.do(action, task)
    h.do("confirm", task)
    h.pass_time(HOUR)
    assert task.status is TaskStatus.SUCCESS
    assert h.world.fleet.firmware(0) == "1.0.0"


def test_a_software_upgrade_changes_the_software_version(hands: Make) -> None:
    h = hands()
    h.create(task_type="softwareUpgrade")
    h.pass_time(HOUR)
    assert h.world.fleet.software(0) == "package-abc"
    assert h.world.fleet.firmware(0) == "1.0.0"


def test_a_package_is_for_its_kind_and_product(hands: Make) -> None:
    old = "0" * 24
    h = hands(
        segments=[{"count": 5, "product_id": old}],
        packages=[
            {"package_id": "a", "version": "2.0.0"},
            {"package_id": "b", "version": "3.0.0", "product_id": old},
        ],
    )
    h.create(document={"package_ids": ["a", "b"]})
    h.pass_time(HOUR)
    assert (h.world.fleet.firmware(0), h.world.fleet.firmware(9)) == ("3.0.0", "2.0.0")
    with pytest.raises(ApiError, match="not for softwareUpgrade"):
        h.create(task_type="softwareUpgrade", document={"package_ids": ["a"]})


def test_an_unknown_package_may_be_refused(hands: Make) -> None:
    h = hands(switches={"unknown_package": "refuse"})
    with pytest.raises(ApiError, match="The package abc does not exist"):
        h.create(targets=["stranger"])
    assert h.world.fleet.find("stranger") is None, "a refused call leaves no trace"


def test_a_device_in_two_upgrades_may_fail_the_second(hands: Make) -> None:
    h = hands(switches={"task_conflict": "fail"})
    first = h.create()
    h.pass_time(5)
    second = h.create()
    h.pass_time(5)
    assert second.status is TaskStatus.FAIL
    h.pass_time(HOUR)
    assert first.status is TaskStatus.SUCCESS


def test_devices_start_as_fast_as_the_scenario_says(hands: Make) -> None:
    h = hands(dispatch_rate=2, success_after=HOUR)
    task = h.create()
    h.pass_time(1 + 2)
    assert counts(task) == {"total": 10, "processing": 5, "waitting": 5}


def test_segments_behave_in_their_own_way(hands: Make) -> None:
    h = hands(
        devices=100,
        segments=[
            {"name": "bad", "count": 30, "failure_rate": 1},
            {
                "name": "slow",
                "share": 0.2,
                "success_after": {"distribution": "uniform", "min": 5000, "max": 6000},
            },
        ],
    )
    task = h.create()
    h.pass_time(HOUR)
    assert counts(task) == {"total": 100, "fail": 30, "success": 50, "processing": 20}


def test_a_segment_may_be_a_group_and_a_group_a_segment(hands: Make) -> None:
    h = hands(
        devices=100,
        layout="mixed",
        groups=[
            {"name": "site", "group_id": "a1", "share": 0.1},
            {"name": "worst", "group_id": "b2", "segment": "bad"},
        ],
        segments=[
            {"name": "at the site", "group": "site", "hang_rate": 1},
            {"name": "bad", "count": 5, "failure_rate": 1},
        ],
    )
    assert len(h.world.groups.devices_of(["a1"])) == 10
    assert list(h.world.groups.devices_of(["a1"])) != list(range(10)), "mixed, not in order"
    task = h.create(targets=[], targets_filter={"group_ids": ["a1"]})
    h.pass_time(HOUR)
    assert counts(task)["processing"] >= 5
    task = h.create(targets=[], targets_filter={"group_ids": ["b2"]})
    h.pass_time(HOUR)
    assert task.status is TaskStatus.FAIL


def test_a_scenario_begins_with_tasks_of_the_past(hands: Make) -> None:
    fixed = "ab" * 12
    h = hands(
        batch_tasks=[
            {"task_name": "now", "targets": 3},
            {"task_name": "before", "task_id": fixed, "created_ago": HOUR},
        ]
    )
    before = h.world.task(fixed)
    assert before.status is TaskStatus.SUCCESS
    assert h.world.describe(before)["create_time"] == "20251231T230000Z"
    now = next(task for task in h.world._tasks.values() if task is not before)
    assert (now.status, len(now)) == (TaskStatus.INITIALIZING, 3)


def test_the_same_seed_gives_the_same_rollout_in_whatever_steps(hands: Make) -> None:
    def rollout(seed: int, steps: int) -> list[Any]:
        h = hands(
            seed=seed,
            devices=200,
            failure_rate=0.3,
            hang_rate=0.1,
            offline_share=0.2,
            online_after={"distribution": "exponential", "mean": 3600},
            success_after={"distribution": "lognormal", "median": 1000, "sigma": 1},
        )
        tasks = [h.create(), h.create(targets=["device-00001", "device-00100"])]
        for _ in range(steps):
            h.pass_time(7200 / steps)
        return [[h.world.describe_row(task, row) for row in range(len(task))] for task in tasks]

    assert rollout(1, 1) == rollout(1, 97)
    assert rollout(1, 1) != rollout(2, 1)


def test_any_number_of_packages_can_be_named(hands: Make) -> None:
    h = hands()
    for number in range(700):
        ids = [f"{number:06}{place:06}" for place in range(100)]
        h.create(targets=["device-00001"], document={"package_ids": ids})
    h.pass_time(3600)
    assert h.world.fleet.firmware(1).startswith("package-")


@pytest.mark.parametrize(("share", "status"), [(1, TaskStatus.FAIL), (0, TaskStatus.SUCCESS)])
def test_a_package_may_fail_at_a_rate_of_its_own(
    hands: Make, share: float, status: TaskStatus
) -> None:
    packages = [
        {"package_id": "bad-1", "version": "2.0.0", "failure_rate": share},
        {"package_id": "good-1", "version": "3.0.0"},
    ]
    h = hands(failure_rate=1 - share, packages=packages)
    task = h.create(document={"package_ids": ["bad-1"]})
    h.pass_time(HOUR)
    other = h.create(document={"package_ids": ["good-1"]})
    h.pass_time(HOUR)
    assert task.status is status
    assert other.status is not status, "the devices' own rate holds for it"
