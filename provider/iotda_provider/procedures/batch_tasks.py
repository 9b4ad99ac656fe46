"""What takes more than one call, written once for both hooks.

A procedure is a coroutine that awaits nothing but the I/O object it is given. The asynchronous
hook's object suspends, as usual; the blocking hook's object blocks and never suspends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar
from uuid import uuid4

from iotda_provider import api
from iotda_provider.api.pagination import Listing
from iotda_provider.exceptions import (
    IoTDAApiError,
    IoTDAAuthError,
    IoTDAError,
    IoTDANotFoundError,
    IoTDAServerError,
    IoTDATransportError,
    TaskNotStoppableError,
)
from iotda_provider.models import (
    BatchTask,
    Device,
    Subtask,
    SubtaskStatus,
    TargetResult,
    TargetResults,
    TaskStatus,
)

T = TypeVar("T")

#: Calls of one procedure that may be under way at the same time.
MAX_IN_FLIGHT = 16

# Where a target stands when what was asked for it has happened.
_STOPPED = frozenset({SubtaskStatus.STOPPED})
_RUNNING = frozenset({SubtaskStatus.PROCESSING, SubtaskStatus.WAITING})
_STARTED = frozenset(SubtaskStatus) - {
    SubtaskStatus.WAITING,
    SubtaskStatus.STOPPED,
    SubtaskStatus.REMOVED,
}
_STOPPABLE = frozenset(status for status in SubtaskStatus if status.is_stoppable)
# Seconds between looks at targets that were told to stop and have not come to rest.
_SETTLING = (0.5, 1.0, 2.0, 4.0)
_FOR_GOOD = (IoTDAAuthError, IoTDANotFoundError)
# Seconds between stops of a task that is Initializing.
_UNTIL_BEGUN = (1.0, 2.0, 3.0, 4.0, 5.0, 5.0, 5.0)
_NOT_IN_TASK = "IOTDA.014219"
#: What the one target of a rehearsed stop begins with: a device id that nobody has.
REHEARSAL = "rehearsal-of-a-stop-"


class CallsIO(Protocol):
    """What a procedure awaits, and nothing else."""

    async def perform(self, call: api.Call[T]) -> T:
        """Make one call; its result.

        :raises IoTDAError: the call has failed
        """

    async def perform_all(self, calls: Sequence[api.Call[T]]) -> list[T | IoTDAError]:
        """Make calls side by side, at most :data:`MAX_IN_FLIGHT` at a time; for each call, in
        their order, its result or its error."""

    async def pause(self, seconds: float) -> None:
        """Wait, so that the platform can get something done."""


_ActOnTargets = Callable[[str, Sequence[str] | None], api.Call[tuple[TargetResult, ...]]]
# Targets to read back, each with what is known so far: why there is no answer, or a refusal.
_Unclear = dict[str, IoTDAError | TargetResult]


async def stop_batch_task(
    io: CallsIO, batch_task_id: str, targets: Sequence[str] | None = None
) -> TargetResults:
    """Stop a whole task (``targets`` None) or some of its targets, in calls of at most 100.

    Stopping twice is harmless: a task that is stopped or stopping already is not an error. Returns
    one definite result for each target; for a whole task the rows that the platform sent, if any.
    Where an answer was lost or refused, what came of it is read from the task: a refusal has no
    code of its own for "has ended already". An empty list stops nothing.

    :raises TaskNotStoppableError: the task has run to its end, or its type can't be stopped
    """
    if targets is not None:
        return await _on_targets(io, api.stop_batch_task, batch_task_id, targets, _STOPPED)
    try:
        rows = await io.perform(api.stop_batch_task(batch_task_id, None))
        return TargetResults(rows)
    except (IoTDAAuthError, IoTDANotFoundError):
        raise
    except (IoTDAApiError, IoTDATransportError) as trouble:
        task = await io.perform(api.show_batch_task(batch_task_id))
        if task.status.is_stop:
            return TargetResults()
        raise (not_stoppable(task) or trouble) from None


async def stop_whole_tasks(
    io: CallsIO, batch_task_ids: Sequence[str]
) -> dict[str, IoTDAError | None]:
    """Stop whole tasks, for a caller that cannot ask later: why each could not be, or None.

    The platform refuses the stop of a task that is Initializing. It is asked again for some 25
    seconds, which is as long as Airflow leaves to a task instance that is killed.
    """
    came: dict[str, IoTDAError | None] = {}
    left = list(dict.fromkeys(batch_task_ids))
    for pause in (*_UNTIL_BEGUN, None):
        refused = []
        for batch_task_id in left:
            try:
                await stop_batch_task(io, batch_task_id)
                came[batch_task_id] = None
            except IoTDAError as error:
                came[batch_task_id] = error
                if isinstance(error, IoTDAApiError) and not isinstance(error, _FOR_GOOD):
                    refused.append(batch_task_id)
        left = refused
        if not left or pause is None:
            break
        await io.pause(pause)
    return came


async def rehearse_stop(io: CallsIO, batch_task_id: str) -> None:
    """Find out whether this connection may stop a task, without stopping anything.

    The stop is asked for one target that is in no task, which the platform answers with 200 and
    that target refused. There is always exactly one target, so it never means the whole task.

    :raises IoTDAAuthError: with status 403, it may not
    :raises IoTDAError: with anything else, nobody knows
    """
    await io.perform(api.stop_batch_task(batch_task_id, (f"{REHEARSAL}{uuid4().hex}",)))


async def confirm_batch_task(
    io: CallsIO, batch_task_id: str, targets: Sequence[str] | None = None
) -> TargetResults:
    """Let waiting targets start: all (``targets`` None) or some; an empty list none.

    Returns one definite result for each target, as :meth:`stop_batch_task` does.
    """
    if targets is not None:
        return await _on_targets(io, api.confirm_batch_task, batch_task_id, targets, _STARTED)
    try:
        rows = await io.perform(api.confirm_batch_task(batch_task_id, None))
        return TargetResults(rows)
    except (IoTDAAuthError, IoTDANotFoundError):
        raise
    except (IoTDAApiError, IoTDATransportError):
        task = await io.perform(api.show_batch_task(batch_task_id))
        if task.status.is_stop or task.progress.total == 0 or task.progress.waiting:
            raise
        return TargetResults()


async def retry_batch_task(
    io: CallsIO, batch_task_id: str, targets: Sequence[str] | None = None
) -> TargetResults:
    """Start failed and stopped targets again: all (``targets`` None), some, or (empty) none.

    Returns one definite result for each target. It is never sent twice: where an answer was lost,
    what came of it is read from the task.
    """
    if targets is not None:
        return await _on_targets(io, api.retry_batch_task, batch_task_id, targets, _RUNNING)
    try:
        rows = await io.perform(api.retry_batch_task(batch_task_id, None))
        return TargetResults(rows)
    except (IoTDAServerError, IoTDATransportError):
        task = await io.perform(api.show_batch_task(batch_task_id))
        left = task.progress.fail or task.progress.fail_wait_retry or task.progress.stopped
        if task.status.is_terminal or task.progress.total == 0 or left:
            raise
        return TargetResults()


async def delete_batch_task(io: CallsIO, batch_task_id: str) -> None:
    """Remove a task that has ended; a task that a lost answer has removed is not an error."""
    try:
        await io.perform(api.delete_batch_task(batch_task_id))
    except (IoTDATransportError, IoTDAServerError):
        try:
            await io.perform(api.show_batch_task(batch_task_id))
        except IoTDANotFoundError:
            return
        await io.perform(api.delete_batch_task(batch_task_id))


async def read_stopped_targets(
    io: CallsIO, batch_task_id: str, targets: Sequence[str]
) -> TargetResults:
    """Whether each of some targets is stopped now, for a stop that somebody else has asked for."""
    wanted = api.check_targets(targets)
    if not wanted:
        return TargetResults()
    task = await io.perform(api.show_batch_task(batch_task_id))
    unclear: _Unclear = dict.fromkeys(wanted, IoTDATransportError("it was not stopped"))
    results = await _reread(io, task, unclear, _STOPPED)
    return TargetResults(results[target] for target in wanted)


async def read_devices(io: CallsIO, device_ids: Sequence[str]) -> list[Device | IoTDAError]:
    """The details of some devices, one call each, or why there are none, in the order asked for.

    Lists of devices leave out when a connection changed.
    """
    ids = api.check_targets(device_ids, "device_ids", unique=False)
    return await io.perform_all([api.show_device(device_id) for device_id in ids])


def not_stoppable(task: BatchTask) -> TaskNotStoppableError | None:
    """Why a task can not be stopped, in words; None where it can."""
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


# --- some targets of a task -----------------------------------------------------------------------


async def _on_targets(
    io: CallsIO,
    make_call: _ActOnTargets,
    batch_task_id: str,
    targets: Sequence[str],
    goal: frozenset[SubtaskStatus],
) -> TargetResults:
    """One definite result for each target, in calls of at most 100; no targets, no call."""
    wanted = api.check_targets(targets)
    api.check_task_id(batch_task_id)
    if not wanted:
        return TargetResults()
    chunks = [
        wanted[start : start + api.MAX_TARGETS_PER_CALL]
        for start in range(0, len(wanted), api.MAX_TARGETS_PER_CALL)
    ]
    outcomes = await io.perform_all([make_call(batch_task_id, chunk) for chunk in chunks])
    errors = [outcome for outcome in outcomes if isinstance(outcome, IoTDAError)]
    all_failed = len(errors) == len(outcomes)
    if all_failed and all(isinstance(e, (IoTDAAuthError, IoTDANotFoundError)) for e in errors):
        raise errors[0]
    results: dict[str, TargetResult] = {}
    unclear: _Unclear = {}
    for chunk, outcome in zip(chunks, outcomes, strict=True):
        if isinstance(outcome, IoTDAError):
            unclear.update(dict.fromkeys(chunk, outcome))
            continue
        answered = {row.target: row for row in outcome}
        for target in chunk:
            row = answered.get(target)
            if row is None:
                unclear[target] = IoTDATransportError("the platform's answer leaves it out")
            elif not row.succeeded and row.error_code != _NOT_IN_TASK:
                # Asked a second time (by us, or by a worker that was killed), the platform refuses
                # what the first time has done already.
                unclear[target] = row
            else:
                results[target] = row
    if unclear:
        if all_failed:
            task = await io.perform(api.show_batch_task(batch_task_id))
            if goal is _STOPPED and (refusal := not_stoppable(task)):
                raise refusal
            if goal is _STOPPED and task.status is TaskStatus.INITIALIZING:
                raise errors[0]  # there may be no subtasks yet: no target has a result
            settled = await _reread(io, task, unclear, goal)
        else:
            settled = await _settle(io, batch_task_id, unclear, goal)
        results |= settled
    return TargetResults(results[target] for target in wanted)


async def _settle(
    io: CallsIO, batch_task_id: str, unclear: _Unclear, goal: frozenset[SubtaskStatus]
) -> dict[str, TargetResult]:
    """Judge what is unclear; trouble with that must not lose the results of the others."""
    try:
        task = await io.perform(api.show_batch_task(batch_task_id))
    except IoTDAError as error:
        return {target: _unknown(target, why, error) for target, why in unclear.items()}
    return await _reread(io, task, unclear, goal)


async def _reread(
    io: CallsIO, task: BatchTask, unclear: _Unclear, goal: frozenset[SubtaskStatus]
) -> dict[str, TargetResult]:
    """Judge targets by where each of them stands now; a stop may take a moment to show."""
    if goal is not _STOPPED:
        return await _look_at(io, task, unclear, goal)
    if task.status is TaskStatus.STOPPING:
        # Somebody stops the whole task, these targets included.
        return await _look_at(io, task, unclear, goal | _STOPPABLE)
    results: dict[str, TargetResult] = {}
    left = unclear
    for pause in (*_SETTLING, None):
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
    unclear: _Unclear,
    goal: frozenset[SubtaskStatus],
    moving: set[str] | None = None,
) -> dict[str, TargetResult]:
    """One look at targets, in as few calls as possible.

    :param moving: gets the targets that a stop may still reach
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
    io: CallsIO, task: BatchTask, unclear: _Unclear
) -> dict[str, Subtask | IoTDAError | None]:
    """What the whole task's rows say, where that takes fewer calls than asking for each target."""
    rows: Listing[Subtask] = Listing(
        lambda marker: api.list_subtasks(task.task_id, marker=marker),
        lambda row: row.target in unclear,
    )
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
    """The result for a target by what was found where it was looked for.

    :param row: None where there was none, an error where the look failed
    """
    if isinstance(row, Subtask) and row.status in goal:
        return TargetResult(target, True)
    if isinstance(why, TargetResult):
        return why
    if row is None:
        return TargetResult(target, False, _NOT_IN_TASK, "The target is not in the task")
    if isinstance(row, IoTDAError):
        return _unknown(target, why, row)
    return TargetResult(target, False, _code(why), f"the target's status is {row.status}: {why}")


def _unknown(target: str, why: IoTDAError | TargetResult, error: IoTDAError) -> TargetResult:
    """The result for a target that could not be read back: counted as failed."""
    if isinstance(why, TargetResult):
        return why
    message = f"unknown: {why}; reading it back failed too: {error}"
    return TargetResult(target, False, _code(why), message)


def _code(error: IoTDAError) -> str | None:
    return error.error_code if isinstance(error, IoTDAApiError) else None
