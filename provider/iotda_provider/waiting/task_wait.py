"""Whether a batch task has reached the status that a task waits for.

Nothing here does I/O: the worker's loop, the sensor's poke and the trigger share this judgement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from iotda_provider.exceptions import (
    BatchTaskFailedError,
    BatchTaskTimeoutError,
)
from iotda_provider.models import BatchTask, TaskStatus
from iotda_provider.models.text import what_is

ENDED = tuple(str(status) for status in TaskStatus if status.is_terminal)
#: Every status but Initializing, in which the platform creates the subtasks and refuses a stop.
BEGUN = tuple(str(status) for status in TaskStatus if status is not TaskStatus.INITIALIZING)


class Judgement(Enum):
    """What a batch task's status means for a wait."""

    WAIT = "wait"
    REACHED = "reached"
    FAILED = "failed"
    ENDED_OTHERWISE = "ended_otherwise"


def task_statuses(values: Iterable[TaskStatus | str], name: str) -> tuple[str, ...]:
    """Check statuses; returns them as the platform spells them.

    :param name: the parameter, for the error
    :raises ValueError: a status is unknown
    """
    if isinstance(values, str):
        values = (values,)
    found: list[str] = []
    known = ", ".join(str(status) for status in TaskStatus)
    form = f"{name} must hold statuses of batch tasks ({known})"
    if isinstance(values, (bytes, Mapping)) or not isinstance(values, Iterable):
        raise ValueError(f"{form}, got {what_is(values, instead_of='a list')}")
    for value in values:
        try:
            found.append(str(TaskStatus(value)))
        except (ValueError, TypeError):
            raise ValueError(f"{form}, got [{what_is(value)}]") from None
    return tuple(found)


@dataclass(frozen=True)
class TaskWait:
    """A wait for a batch task.

    :param target_statuses: the wait is over when the task has one of these statuses
    :param failure_statuses: the wait has failed when it has one of these; they take precedence
    """

    batch_task_id: str
    target_statuses: tuple[str, ...] = ENDED
    failure_statuses: tuple[str, ...] = ()

    def judge(self, task: BatchTask) -> Judgement:
        """What the task's present status means.

        A task that has ended in another status never changes again, so the wait ends, too.
        """
        if task.status in self.failure_statuses:
            return Judgement.FAILED
        if task.status in self.target_statuses:
            return Judgement.REACHED
        return Judgement.ENDED_OTHERWISE if task.status.is_terminal else Judgement.WAIT

    def is_over(self, task: BatchTask) -> bool:
        """Whether the wait is over.

        :raises BatchTaskFailedError: the task has a failure status, or has ended in another one
        """
        judgement = self.judge(task)
        if judgement is Judgement.FAILED:
            raise BatchTaskFailedError(
                f"Batch task {task.task_id} is {task.status}: {task.progress}.", task
            )
        if judgement is Judgement.ENDED_OTHERWISE:
            raise BatchTaskFailedError(
                f"Batch task {task.task_id} ended as {task.status} and will not become "
                f"{' or '.join(self.target_statuses)}: {task.progress}.",
                task,
            )
        return judgement is Judgement.REACHED

    def timeout_error(self, timeout: float, seen: str = "") -> BatchTaskTimeoutError:
        """The error for a wait that was not over in time.

        :param timeout: the limit, in seconds
        :param seen: the task as it was last seen, in words
        """
        return BatchTaskTimeoutError(
            f"Batch task {self.batch_task_id} is not {' or '.join(self.target_statuses)} after "
            f"{timeout:.0f} s; last seen {seen or 'never'}. A stop that was accepted goes on at "
            "the platform; raise timeout to wait for it."
        )
