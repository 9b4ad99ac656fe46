"""What takes more than one call, written once for both transports.

A procedure is a generator: it yields the calls to make and is sent their results, so that the
blocking hook and the asynchronous one differ only in how they send. No I/O happens here.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from iotda_provider import api
from iotda_provider.exceptions import (
    IoTDAApiError,
    IoTDAAuthError,
    IoTDAError,
    IoTDANotFoundError,
    IoTDATransportError,
    TaskNotStoppableError,
)
from iotda_provider.models import BatchTask, SubtaskStatus, TargetResult, TargetResults

T = TypeVar("T")


# Where a target stands when what was asked for it has happened.
_STOPPED = frozenset({SubtaskStatus.STOPPED})
_RUNNING = frozenset({SubtaskStatus.PROCESSING, SubtaskStatus.WAITING})
_STARTED = frozenset(SubtaskStatus) - {
    SubtaskStatus.WAITING,
    SubtaskStatus.STOPPED,
    SubtaskStatus.REMOVED,
}


@dataclass(frozen=True)
class Together:
    """Calls that may be under way at the same time; answered by a list of results or errors."""

    calls: tuple[api.Call[Any], ...]


PageCall = Callable[[str | None], api.Call[api.Page[T]]]
Step = api.Call[Any] | Together
Procedure = Generator[Step, Any, T]


def pages(page_after: PageCall[T]) -> Generator[api.Call[api.Page[T]], api.Page[T], None]:
    """Every page of a list, yielded as calls; the hooks take the rows out of the answers.

    A page shorter than asked for is the last one, unless the platform's own count says otherwise.
    An empty page or a marker that repeats always ends the list, so that no answer can make it
    endless.
    """
    marker: str | None = None
    seen: set[str] = set()
    read = 0
    while True:
        page = yield page_after(marker)
        read += len(page.rows)
        more = page.full or (page.total is not None and read < page.total)
        if not more or not page.rows or page.marker is None or page.marker in seen:
            return
        seen.add(page.marker)
        marker = page.marker


class SeenTargets:
    """Remembers targets, so that each is reported once although rows move between pages while one
    reads.

    It keeps twice as many as one task can have, so that memory stays constant for any stream.
    """

    def __init__(self, most: int = 2 * api.MAX_TARGETS_PER_TASK) -> None:
        self._most = most
        self._seen: dict[str, None] = {}

    def is_new(self, target: str) -> bool:
        """Whether a target was not seen before; it is from now on."""
        if target in self._seen:
            return False
        self._seen[target] = None
        if len(self._seen) > self._most:
            del self._seen[next(iter(self._seen))]
        return True


def stop(batch_task_id: str, targets: Sequence[str] | None) -> Procedure[TargetResults]:
    """Stop a whole task, or some of its targets; asking again changes nothing.

    A refusal has no code of its own for "has ended already", so it is judged by reading the task.
    """
    if targets is None:
        return (yield from _stop_all(batch_task_id))
    return (yield from _on_targets(api.stop_batch_task, batch_task_id, targets, _STOPPED))


def _stop_all(batch_task_id: str) -> Procedure[TargetResults]:
    try:
        rows = yield api.stop_batch_task(batch_task_id, None)
        return TargetResults(rows)
    except (IoTDAAuthError, IoTDANotFoundError):
        raise
    except (IoTDAApiError, IoTDATransportError) as refusal:
        task: BatchTask = yield api.show_batch_task(batch_task_id)
        if task.status.is_stop:
            return TargetResults()
        raise not_stoppable(task) or refusal from None


def not_stoppable(task: BatchTask) -> TaskNotStoppableError | None:
    """Why a task can not be stopped, in words; None where it can."""
    if task.task_type is not None and not task.task_type.is_stoppable:
        return TaskNotStoppableError(
            f"Batch task {task.task_id} is a {task.task_type}: the platform stops only "
            "firmwareUpgrade and "
            "softwareUpgrade tasks. Wait for its end, or handle its devices one by one.",
            task.status,
        )
    if task.status.is_completed:
        return TaskNotStoppableError(
            f"Batch task {task.task_id} has already ended as {task.status} ({task.progress}); "
            "there is nothing "
            "to stop.",
            task.status,
        )
    return None


def confirm(batch_task_id: str, targets: Sequence[str] | None) -> Procedure[TargetResults]:
    """Let all waiting targets or some of them start."""
    if targets is None:
        return TargetResults((yield api.confirm_batch_task(batch_task_id, None)))
    return (yield from _on_targets(api.confirm_batch_task, batch_task_id, targets, _STARTED))


def retry(batch_task_id: str, targets: Sequence[str] | None) -> Procedure[TargetResults]:
    """Start all failed and stopped targets again, or some of them."""
    if targets is None:
        return TargetResults((yield api.retry_batch_task(batch_task_id, None)))
    return (yield from _on_targets(api.retry_batch_task, batch_task_id, targets, _RUNNING))


def _on_targets(
    make_call: Callable[[str, Sequence[str]], api.Call[tuple[TargetResult, ...]]],
    batch_task_id: str,
    targets: Sequence[str],
    goal: frozenset[SubtaskStatus],
) -> Procedure[TargetResults]:
    """One definite result for each target, in calls of at most 100; no targets, no call."""
    wanted = api.check_targets(targets)
    chunks = [
        wanted[start : start + api.MAX_TARGETS_PER_CALL]
        for start in range(0, len(wanted), api.MAX_TARGETS_PER_CALL)
    ]
    if not chunks:
        api.check_task_id(batch_task_id)
        return TargetResults()
    outcomes = yield Together(tuple(make_call(batch_task_id, chunk) for chunk in chunks))
    results: dict[str, TargetResult] = {}
    unclear: dict[str, IoTDAError] = {}
    for chunk, outcome in zip(chunks, outcomes, strict=True):
        if isinstance(outcome, (IoTDAAuthError, IoTDANotFoundError)):
            raise outcome
        if isinstance(outcome, (IoTDAApiError, IoTDATransportError)):
            unclear.update(dict.fromkeys(chunk, outcome))
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            answered = {row.target: row for row in outcome}
            for target in chunk:
                if target in answered:
                    results[target] = answered[target]
                else:
                    unclear[target] = IoTDATransportError(
                        "the platform's answer leaves this target out"
                    )
    if unclear:
        if len(unclear) == len(wanted):
            task: BatchTask = yield api.show_batch_task(batch_task_id)
            if goal is _STOPPED and (error := not_stoppable(task)):
                raise error
        yield from _reread(batch_task_id, unclear, goal, results)
    return TargetResults(results[target] for target in wanted)


def read_stopped(batch_task_id: str, targets: Sequence[str]) -> Procedure[TargetResults]:
    """Whether each target is stopped now, for a stop that somebody else has asked for."""
    wanted = api.check_targets(targets)
    results: dict[str, TargetResult] = {}
    said = IoTDATransportError("it was not stopped")
    yield from _reread(batch_task_id, dict.fromkeys(wanted, said), _STOPPED, results)
    return TargetResults(results[target] for target in wanted)


def _reread(
    batch_task_id: str,
    unclear: dict[str, IoTDAError],
    goal: frozenset[SubtaskStatus],
    results: dict[str, TargetResult],
) -> Procedure[None]:
    """Settle targets whose answer was lost or refused, by reading where each of them stands now."""
    targets = list(unclear)
    outcomes = yield Together(
        tuple(api.list_subtasks(batch_task_id, target=target, limit=1) for target in targets)
    )
    for target, outcome in zip(targets, outcomes, strict=True):
        why = unclear[target]
        code = why.error_code if isinstance(why, IoTDAApiError) else None
        if isinstance(outcome, IoTDAError):
            message = f"unknown: {why}; reading it back failed too: {outcome}"
        elif isinstance(outcome, BaseException):
            raise outcome
        elif (row := next((row for row in outcome.rows if row.target == target), None)) is None:
            code, message = "IOTDA.014219", "The target is not in the task"
        elif row.status in goal:
            results[target] = TargetResult(target, True)
            continue
        else:
            message = f"the target's status is {row.status}: {why}"
        results[target] = TargetResult(target, False, code, message)
