"""The statuses of batch tasks and subtasks: which follows which, and which allows which call.

No I/O: statuses in, a status or a refusal out. ``docs/emulator.md`` says for each rule whether it
is documented or inferred.
"""

from __future__ import annotations

from collections.abc import Sequence

from iotda_provider.models import SubtaskStatus, TaskStatus, TaskType

# Subtask statuses as small numbers: a task keeps one byte for each subtask.
WAITING, PROCESSING, SUCCESS, FAIL, FAIL_WAIT_RETRY, STOPPED, REMOVED = range(7)

SUBTASK_STATUSES = tuple(SubtaskStatus)
CODES: dict[str, int] = {status: code for code, status in enumerate(SUBTASK_STATUSES)}

# The keys of task_progress, in the order of the numbers above.
PROGRESS_KEYS = (
    "waitting",
    "processing",
    "success",
    "fail",
    "fail_wait_retry",
    "stopped",
    "removed",
)

STOPPABLE = frozenset(code for code, status in enumerate(SUBTASK_STATUSES) if status.is_stoppable)
RETRYABLE = frozenset({FAIL, FAIL_WAIT_RETRY, STOPPED})
LIVE = frozenset({WAITING, PROCESSING, FAIL_WAIT_RETRY})

# What a subtask may become. Success and Removed are final; Fail and Stopped end unless retried.
FOLLOWS: dict[int, frozenset[int]] = {
    WAITING: frozenset({PROCESSING, FAIL, FAIL_WAIT_RETRY, STOPPED, REMOVED}),
    PROCESSING: frozenset({SUCCESS, FAIL, FAIL_WAIT_RETRY, STOPPED, REMOVED}),
    FAIL_WAIT_RETRY: frozenset({WAITING, PROCESSING, STOPPED, REMOVED}),
    FAIL: frozenset({WAITING}),
    STOPPED: frozenset({WAITING}),
    SUCCESS: frozenset(),
    REMOVED: frozenset(),
}

# What a task may become; a task that ended with failures runs again when they are retried.
_MAY_END_AS = frozenset(status for status in TaskStatus if status.is_terminal or status.is_stop)
TASK_FOLLOWS: dict[TaskStatus, frozenset[TaskStatus]] = {
    TaskStatus.INITIALIZING: frozenset({TaskStatus.WAITING, TaskStatus.PROCESSING})
    | {TaskStatus.STOPPING, TaskStatus.STOPPED, TaskStatus.FAIL},
    TaskStatus.WAITING: _MAY_END_AS | {TaskStatus.PROCESSING},
    TaskStatus.PROCESSING: _MAY_END_AS,
    TaskStatus.STOPPING: frozenset({TaskStatus.STOPPED}),
    TaskStatus.FAIL: frozenset({TaskStatus.PROCESSING}),
    TaskStatus.PARTIAL_SUCCESS: frozenset({TaskStatus.PROCESSING}),
    TaskStatus.SUCCESS: frozenset(),
    TaskStatus.STOPPED: frozenset(),
}

_DONE = {"stop": "stopped", "retry": "retried", "confirm": "confirmed"}
_RETRYABLE_IN = (TaskStatus.PROCESSING, TaskStatus.FAIL, TaskStatus.PARTIAL_SUCCESS)


def ended_status(counts: Sequence[int], stopped_as_a_whole: bool) -> TaskStatus:
    """The final status of a task without live subtasks, from the counts by status number."""
    if stopped_as_a_whole:
        return TaskStatus.STOPPED
    if counts[SUCCESS]:
        others = counts[FAIL] + counts[STOPPED]
        return TaskStatus.PARTIAL_SUCCESS if others else TaskStatus.SUCCESS
    if counts[STOPPED] and not counts[FAIL]:
        return TaskStatus.STOPPED
    return TaskStatus.FAIL


def blocked_because(action: str, task_type: TaskType, status: TaskStatus) -> str | None:
    """Why this task may not be stopped, retried or confirmed now, or None where it may."""
    possible = task_type.is_confirmable if action == "confirm" else task_type.is_stoppable
    if not possible:
        return f"a task of type {task_type} cannot be {_DONE[action]}"
    if action == "retry":
        return None if status in _RETRYABLE_IN else f"the task is {status}"
    if status.is_terminal:
        return f"the task has ended ({status})"
    return "the task is being stopped" if status is TaskStatus.STOPPING else None


def delete_blocked_because(status: TaskStatus) -> str | None:
    """Why this task may not be deleted now, or None where it may."""
    return None if status.is_terminal else f"the task is {status}"
