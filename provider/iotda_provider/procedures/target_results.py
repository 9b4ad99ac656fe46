"""One definite result for each target of a stop, retry or confirmation, even if answers are lost.

If an answer is lost, or leaves out or refuses a target, its result is read from its status.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from iotda_provider import api
from iotda_provider.api.pagination import Listing
from iotda_provider.exceptions import (
    IoTDAApiError,
    IoTDAAuthError,
    IoTDAError,
    IoTDANotFoundError,
    IoTDATransportError,
    TaskNotStoppableError,
)
from iotda_provider.models import (
    BatchTask,
    Subtask,
    SubtaskStatus,
    TargetResult,
    TargetResults,
    TaskStatus,
)
from iotda_provider.procedures import CallsIO

# Refusals that no repetition changes.
PERMANENT = (IoTDAAuthError, IoTDANotFoundError)
# The statuses of a target that show that a stop, a retry or a confirmation has had its effect.
STOPPED = frozenset({SubtaskStatus.STOPPED})
RUNNING = frozenset({SubtaskStatus.PROCESSING, SubtaskStatus.WAITING})
STARTED = frozenset(SubtaskStatus) - {
    SubtaskStatus.WAITING,
    SubtaskStatus.STOPPED,
    SubtaskStatus.REMOVED,
}
_STOPPABLE = frozenset(status for status in SubtaskStatus if status.is_stoppable)
# Seconds between looks at targets that do not show the effect of a stop yet.
_STOP_PAUSES = (0.5, 1.0, 2.0, 4.0)
#: The error code of a target that is not in the batch task.
NOT_IN_TASK = "IOTDA.014219"

_ActOnTargets = Callable[[str, Sequence[str] | None], api.Call[tuple[TargetResult, ...]]]
_Rows = tuple[TargetResult, ...]
_Outcome = _Rows | IoTDAError
# Targets whose result is unknown, each with the error of its call, or the row that refuses it.
Unclear = dict[str, IoTDAError | TargetResult]


async def act_on_targets(
    io: CallsIO,
    make_call: _ActOnTargets,
    batch_task_id: str,
    targets: Sequence[str],
    goal: frozenset[SubtaskStatus],
) -> TargetResults:
    """Act on targets in calls of at most 100. Without targets there is no call.

    :param make_call: makes the call for a batch task and some of its targets
    :param goal: the statuses of a target that show that the call has had its effect
    :return: one definite result for each target
    """
    wanted = api.check_targets(targets)
    api.check_task_id(batch_task_id)
    if not wanted:
        return TargetResults()
    chunks = [
        wanted[start : start + api.MAX_TARGETS_PER_CALL]
        for start in range(0, len(wanted), api.MAX_TARGETS_PER_CALL)
    ]
    calls = [make_call(batch_task_id, chunk) for chunk in chunks]
    outcomes = await io.perform_all(calls)
    if goal is STOPPED:
        outcomes = await _ask_again_if_begun(io, batch_task_id, calls, outcomes)
    errors = [outcome for outcome in outcomes if isinstance(outcome, IoTDAError)]
    all_failed = len(errors) == len(outcomes)
    if all_failed and all(isinstance(error, PERMANENT) for error in errors):
        raise errors[0]
    results: dict[str, TargetResult] = {}
    unclear: Unclear = {}
    for chunk, outcome in zip(chunks, outcomes, strict=True):
        if isinstance(outcome, IoTDAError):
            unclear.update(dict.fromkeys(chunk, outcome))
            continue
        answered = {row.target: row for row in outcome}
        for target in chunk:
            row = answered.get(target)
            if row is None:
                unclear[target] = IoTDATransportError(
                    "the platform's answer does not name the target"
                )
            elif not row.succeeded and row.error_code != NOT_IN_TASK:
                # If this is the second call (after a retry, or after a killed worker), the platform
                # refuses what the first call has already done.
                unclear[target] = row
            else:
                results[target] = row
    if unclear:
        if all_failed:
            task = await io.perform(api.show_batch_task(batch_task_id))
            if goal is STOPPED and (refusal := not_stoppable(task)):
                raise refusal
            if goal is STOPPED and task.status is TaskStatus.INITIALIZING:
                raise errors[0]  # it may have no subtasks yet, so no target can be judged
            settled = await judge_by_status(io, task, unclear, goal)
        else:
            settled = await _settle(io, batch_task_id, unclear, goal)
        results |= settled
    return TargetResults(results[target] for target in wanted)


async def _ask_again_if_begun(
    io: CallsIO, batch_task_id: str, calls: Sequence[api.Call[_Rows]], outcomes: list[_Outcome]
) -> list[_Outcome]:
    """Send refused stops once more if the task can be stopped now.

    The platform refuses a stop while a task is Initializing, which may end between two calls.
    """
    refused = [place for place, outcome in enumerate(outcomes) if is_refusal(outcome)]
    if not refused:
        return outcomes
    try:
        task = await io.perform(api.show_batch_task(batch_task_id))
    except IoTDAError:
        return outcomes
    if task.status is TaskStatus.INITIALIZING or task.status.is_stop or not_stoppable(task):
        return outcomes
    again = await io.perform_all([calls[place] for place in refused])
    by_place = dict(zip(refused, again, strict=True))
    return [by_place.get(place, outcome) for place, outcome in enumerate(outcomes)]


def is_refusal(outcome: object) -> bool:
    """Whether the platform has refused a call for a reason that may pass, such as a 400."""
    return type(outcome) is IoTDAApiError


async def _settle(
    io: CallsIO, batch_task_id: str, unclear: Unclear, goal: frozenset[SubtaskStatus]
) -> dict[str, TargetResult]:
    """Judge the unclear targets; an error here does not lose the results of the other targets."""
    try:
        task = await io.perform(api.show_batch_task(batch_task_id))
    except IoTDAError as error:
        return {target: _unknown(target, why, error) for target, why in unclear.items()}
    return await judge_by_status(io, task, unclear, goal)


async def judge_by_status(
    io: CallsIO, task: BatchTask, unclear: Unclear, goal: frozenset[SubtaskStatus]
) -> dict[str, TargetResult]:
    """Judge targets by their present statuses; a stop takes a moment to show in them."""
    if goal is not STOPPED:
        return await _look_at(io, task, unclear, goal)
    if task.status is TaskStatus.STOPPING:
        # The whole task is being stopped, and these targets with it.
        return await _look_at(io, task, unclear, goal | _STOPPABLE)
    results: dict[str, TargetResult] = {}
    left = unclear
    for pause in (*_STOP_PAUSES, None):
        moving: set[str] = set()
        results |= await _look_at(io, task, left, goal, moving)
        left = {target: why for target, why in left.items() if target in moving}
        if not left or pause is None:
            break
        await io.pause(pause)
    return results


async def _look_at(
    io: CallsIO,
    task: BatchTask,
    unclear: Unclear,
    goal: frozenset[SubtaskStatus],
    moving: set[str] | None = None,
) -> dict[str, TargetResult]:
    """Read targets once, in as few calls as possible, and judge them.

    :param moving: the targets that a stop may still change are added to it
    """
    found: dict[str, Subtask | IoTDAError | None] = {}
    pages = -(-task.progress.total // api.MAX_PAGE)
    if 0 < pages < len(unclear):
        found = await _read_pages(io, task, unclear)
    missing = [target for target in unclear if target not in found]
    outcomes = await io.perform_all(
        [api.list_subtasks(task.task_id, target=target, limit=1) for target in missing]
    )
    for target, outcome in zip(missing, outcomes, strict=True):
        found[target] = (
            outcome
            if isinstance(outcome, IoTDAError)
            else next((row for row in outcome.rows if row.target == target), None)
        )
    if moving is not None:
        moving |= {
            target
            for target, row in found.items()
            if isinstance(row, Subtask) and row.status.is_stoppable
        }
    return {target: _judged(target, row, goal, unclear[target]) for target, row in found.items()}


async def _read_pages(
    io: CallsIO, task: BatchTask, unclear: Unclear
) -> dict[str, Subtask | IoTDAError | None]:
    """The targets' rows, from the pages of the whole task: fewer calls than one for each target."""
    rows = Listing(api.list_subtasks, task.task_id)
    rows.is_wanted = lambda row: row.target in unclear
    found: dict[str, Subtask | IoTDAError | None] = {}
    while rows.next is not None:
        try:
            page = await io.perform(rows.next)
        except IoTDAError as error:
            return {**dict.fromkeys(unclear, error), **found}
        found |= {row.target: row for row in rows.take(page)}
    return found


def _judged(
    target: str,
    row: Subtask | IoTDAError | None,
    goal: frozenset[SubtaskStatus],
    why: IoTDAError | TargetResult,
) -> TargetResult:
    """The result for a target, by its row.

    :param row: None: the task has no such target; an error: the row could not be read
    :param why: the error of the call, or the row that refuses it
    """
    if isinstance(row, Subtask) and row.status in goal:
        return TargetResult(target, True)
    if isinstance(why, TargetResult):
        return why
    if row is None:
        return TargetResult(target, False, NOT_IN_TASK, "The target is not in the task")
    if isinstance(row, IoTDAError):
        return _unknown(target, why, row)
    return TargetResult(target, False, _code(why), f"the target's status is {row.status}: {why}")


def _unknown(target: str, why: IoTDAError | TargetResult, error: IoTDAError) -> TargetResult:
    """The result for a target whose row could not be read: it counts as failed."""
    if isinstance(why, TargetResult):
        return why
    message = f"unknown: {why}; reading it back failed too: {error}"
    return TargetResult(target, False, _code(why), message)


def _code(error: IoTDAError) -> str | None:
    return error.error_code if isinstance(error, IoTDAApiError) else None


def not_stoppable(task: BatchTask) -> TaskNotStoppableError | None:
    """The error that says why a task cannot be stopped; None if it can."""
    if task.task_type is not None and not task.task_type.is_stoppable:
        return TaskNotStoppableError(
            f"Batch task {task.task_id} is a {task.task_type}: the platform stops only "
            "firmwareUpgrade and softwareUpgrade tasks. Wait for its end, or handle its devices "
            "one by one.",
            task.status,
        )
    if task.status.is_completed:
        return TaskNotStoppableError(
            f"Batch task {task.task_id} has already ended as {task.status} ({task.progress}); "
            "there is nothing to stop.",
            task.status,
        )
    return None
