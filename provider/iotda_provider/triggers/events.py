"""What a trigger tells the task that it resumes: plain JSON, checked before it is believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow.triggers.base import TriggerEvent

from iotda_provider import exceptions
from iotda_provider.exceptions import (
    BatchTaskFailedError,
    IoTDAApiError,
    IoTDAError,
    IoTDATransportError,
    TaskNotStoppableError,
)
from iotda_provider.models import BatchTask, TaskStatus

OVER, TIMEOUT, ERROR = "over", "timeout", "error"

_FACTS_OF_AN_API_ERROR = (
    "status_code",
    "error_code",
    "error_msg",
    "request_id",
    "action",
    "hint",
    "retry_after",
)


def tell(payload: dict[str, Any]) -> TriggerEvent:
    """An event with a payload of plain JSON."""
    return TriggerEvent(payload)  # type: ignore[no-untyped-call]


def over(task: BatchTask) -> TriggerEvent:
    """The wait is over: the task is not one to wait for any more."""
    return tell({"status": OVER, "batch_task_ids": [task.task_id], "task": task.to_dict()})


def timed_out(batch_task_ids: Sequence[str], limit: str) -> TriggerEvent:
    """The time is over.

    :param limit: the parameter that says so
    """
    return tell({"status": TIMEOUT, "batch_task_ids": list(batch_task_ids), "limit": limit})


def failed(batch_task_ids: Sequence[str], error: IoTDAError) -> TriggerEvent:
    """The wait can't go on."""
    about = list(batch_task_ids)
    return tell({"status": ERROR, "batch_task_ids": about, "error": error_to_json(error)})


@dataclass(frozen=True)
class WaitEvent:
    """A checked event.

    :param status: ``over``, ``timeout`` or ``error``
    :param task: what was waited for, where the wait is over
    :param limit: the parameter that ended it, where the time is over
    :param error: why it can't go on
    :param memo: what the task had sent along
    """

    status: str
    task: BatchTask | None = None
    limit: str | None = None
    error: IoTDAError | None = None
    memo: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, payload: Any, batch_task_id: str) -> WaitEvent:
        """Check what came back from a trigger.

        :raises IoTDAError: it makes no sense, or is about another task
        """
        if not isinstance(payload, Mapping) or payload.get("batch_task_ids") != [batch_task_id]:
            raise _nonsense(payload, f"it is not about batch task {batch_task_id}")
        status = payload.get("status")
        memo = payload.get("memo") or {}
        if not isinstance(memo, Mapping):
            raise _nonsense(payload, "its memo is none")
        if status == OVER:
            try:
                task = BatchTask.from_dict(payload["task"])
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise _nonsense(payload, str(error)) from None
            if task.task_id != batch_task_id:
                raise _nonsense(payload, "it describes another task")
            return cls(OVER, task=task, memo=memo)
        if status == TIMEOUT:
            return cls(TIMEOUT, limit=str(payload.get("limit")), memo=memo)
        if status == ERROR:
            return cls(ERROR, error=error_from_json(payload.get("error")), memo=memo)
        raise _nonsense(payload, "its status is unknown")


def _nonsense(payload: Any, why: str) -> IoTDAError:
    return IoTDAError(f"The trigger's event makes no sense ({why}): {str(payload)[:200]}")


def error_to_json(error: IoTDAError) -> dict[str, Any]:
    """An error as plain JSON, so that the resumed task raises what an undeferred one would."""
    data: dict[str, Any] = {"type": type(error).__name__, "message": str(error)}
    if facts := _facts_of(error):
        data["facts"] = facts
    return data


def _facts_of(error: IoTDAError) -> dict[str, Any]:
    if isinstance(error, IoTDAApiError):
        return {name: getattr(error, name) for name in _FACTS_OF_AN_API_ERROR}
    if isinstance(error, IoTDATransportError):
        return {"sent": error.sent}
    if isinstance(error, TaskNotStoppableError):
        return {"status": None if error.status is None else str(error.status)}
    if isinstance(error, BatchTaskFailedError):
        return {"task": None if error.task is None else error.task.to_dict()}
    return {}


def error_from_json(data: Any) -> IoTDAError:
    """The inverse of :func:`error_to_json`; what it can't read is still an error."""
    if not isinstance(data, Mapping) or not isinstance(data.get("message"), str):
        return _nonsense(data, "it names no error")
    message, facts = data["message"], data.get("facts")
    kind = getattr(exceptions, str(data.get("type")), None)
    if not isinstance(kind, type) or not issubclass(kind, IoTDAError):
        return IoTDAError(message)
    try:
        return _with_facts(kind, message, dict(facts or {}))
    except (KeyError, TypeError, ValueError, AttributeError):
        return IoTDAError(message)


def _with_facts(kind: type[IoTDAError], message: str, facts: dict[str, Any]) -> IoTDAError:
    if issubclass(kind, IoTDAApiError):
        status_code = facts.pop("status_code")
        if not isinstance(status_code, int):
            raise TypeError("no HTTP status")
        return kind(status_code, **{name: facts.get(name) for name in _FACTS_OF_AN_API_ERROR[1:]})
    if issubclass(kind, IoTDATransportError):
        # Where nobody says that it was not sent, it may have been.
        return kind(message, sent=facts.get("sent") is not False)
    if issubclass(kind, TaskNotStoppableError):
        status = facts.get("status")
        return kind(message, None if status is None else TaskStatus.from_wire(status))
    if issubclass(kind, BatchTaskFailedError):
        task = facts.get("task")
        return kind(message, None if task is None else BatchTask.from_dict(task))
    return kind(message)
