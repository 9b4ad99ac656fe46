"""What an answer or a refusal of the platform means for a watch."""

from __future__ import annotations

from collections.abc import Iterable

from iotda_provider.exceptions import IoTDAError, IoTDANotFoundError, TaskNotStoppableError
from iotda_provider.models import BatchTask


def is_gone(error: IoTDAError) -> bool:
    """Whether the platform says that there is no such task, as against no such API."""
    if not isinstance(error, IoTDANotFoundError):
        return False
    return not str(error.error_code or "").upper().startswith("APIG")


def has_ended(error: IoTDAError) -> bool:
    """Whether a stop was refused because the task has run to its end."""
    return (
        isinstance(error, TaskNotStoppableError)
        and error.status is not None
        and error.status.is_terminal
    )


def check_stoppable(tasks: Iterable[BatchTask]) -> None:
    """Whether the platform would stop these tasks at all.

    :raises TaskNotStoppableError: one of them it would not
    """
    for task in tasks:
        if task.task_type is not None and not task.task_type.is_stoppable:
            raise TaskNotStoppableError(
                f"Batch task {task.task_id} is a {task.task_type}, which the platform does not "
                "stop: guard it with stop_on_breach=False, or as a shadow.",
                task.status,
            )
