"""The status rules by themselves."""

import pytest

from iotda_provider.emulator.service import status_rules
from iotda_provider.models import TaskStatus, TaskType

ENDED = [status for status in TaskStatus if status.is_terminal]
FIRMWARE = TaskType.FIRMWARE_UPGRADE


@pytest.mark.parametrize("status", [*ENDED, TaskStatus.STOPPING])
def test_a_task_that_has_ended_or_is_stopping_is_not_stopped_again(status: TaskStatus) -> None:
    assert status_rules.blocked_because("stop", FIRMWARE, status)


@pytest.mark.parametrize(
    "status", [TaskStatus.INITIALIZING, TaskStatus.WAITING, TaskStatus.PROCESSING]
)
def test_a_running_upgrade_may_be_stopped(status: TaskStatus) -> None:
    assert status_rules.blocked_because("stop", FIRMWARE, status) is None
    assert status_rules.blocked_because("stop", TaskType.SOFTWARE_UPGRADE, status) is None


def test_a_module_upgrade_is_confirmed_but_neither_stopped_nor_retried() -> None:
    assert (
        status_rules.blocked_because("confirm", TaskType.MODULE_UPGRADE, TaskStatus.WAITING) is None
    )
    assert status_rules.blocked_because("stop", TaskType.MODULE_UPGRADE, TaskStatus.PROCESSING)
    assert status_rules.blocked_because("retry", TaskType.MODULE_UPGRADE, TaskStatus.FAIL)


def test_only_failed_partly_failed_and_running_tasks_are_retried() -> None:
    allowed = {
        status
        for status in TaskStatus
        if status_rules.blocked_because("retry", FIRMWARE, status) is None
    }
    assert allowed == {TaskStatus.PROCESSING, TaskStatus.FAIL, TaskStatus.PARTIAL_SUCCESS}


def test_only_ended_tasks_are_deleted() -> None:
    assert {
        status for status in TaskStatus if status_rules.delete_blocked_because(status) is None
    } == set(ENDED)


@pytest.mark.parametrize(
    ("success", "fail", "stopped", "whole", "status"),
    [
        (3, 0, 0, False, TaskStatus.SUCCESS),
        (0, 3, 0, False, TaskStatus.FAIL),
        (2, 1, 0, False, TaskStatus.PARTIAL_SUCCESS),
        (2, 0, 1, False, TaskStatus.PARTIAL_SUCCESS),
        (0, 2, 1, False, TaskStatus.FAIL),
        (0, 0, 3, False, TaskStatus.STOPPED),
        (3, 0, 0, True, TaskStatus.STOPPED),
    ],
)
def test_a_task_ends_by_its_counts(
    success: int, fail: int, stopped: int, whole: bool, status: TaskStatus
) -> None:
    counts = [0] * 7
    counts[status_rules.SUCCESS], counts[status_rules.FAIL], counts[status_rules.STOPPED] = (
        success,
        fail,
        stopped,
    )
    assert status_rules.ended_status(counts, whole) is status
