"""The events of triggers: plain JSON, checked before a resumed task uses them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from iotda_provider import exceptions
from iotda_provider.exceptions import (
    BatchTaskFailedError,
    IoTDAApiError,
    IoTDAError,
    IoTDATransportError,
    TaskNotStoppableError,
)
from iotda_provider.models import BatchTask, TaskStatus

#: The statuses of an event: the work is done, its time is over, it has failed, or a worker has to
#: continue it.
OVER, TIMEOUT, ERROR, ASK = "over", "timeout", "error", "ask"

_FACTS_OF_AN_API_ERROR = (
    "status_code",
    "error_code",
    "error_msg",
    "request_id",
    "action",
    "hint",
    "retry_after",
)


@dataclass(frozen=True)
class Event:
    """A checked event.

    :param status: ``over``, ``timeout``, ``error`` or ``ask``
    :param batch_task_ids: the batch tasks that the event is about
    :param task: the batch task that was waited for (``over``, after a wait for one task)
    :param result: the result of any other work (``over``)
    :param limit: the parameter whose time is over (``timeout``)
    :param error: why the work can't go on (``error``)
    :param memo: what the task gave to the trigger
    :param memory: a guard's memory, if it could not be stored elsewhere
    :param intent: the stop that a guard has decided on
    """

    status: str
    batch_task_ids: tuple[str, ...] = ()
    task: BatchTask | None = None
    result: Mapping[str, Any] | None = None
    limit: str | None = None
    error: IoTDAError | None = None
    memo: Mapping[str, Any] = field(default_factory=dict)
    memory: Any = None
    intent: Any = None

    @classmethod
    def read(cls, payload: Any, batch_task_ids: Sequence[str]) -> Event:
        """Check the payload of a trigger's event.

        :param batch_task_ids: the batch tasks that it must be about
        :raises IoTDAError: it makes no sense, or is about other batch tasks
        """
        about = payload.get("batch_task_ids") if isinstance(payload, Mapping) else None
        if not isinstance(about, (list, tuple)) or list(about) != list(batch_task_ids):
            raise nonsense(payload, f"it is not about batch task {', '.join(batch_task_ids)}")
        status, memo = payload.get("status"), payload.get("memo") or {}
        if status not in (OVER, TIMEOUT, ERROR, ASK):
            raise nonsense(payload, "its status is unknown")
        if not isinstance(memo, Mapping):
            raise nonsense(payload, "its memo is none")
        task = result = limit = error = None
        if status == OVER and "task" in payload:
            task = _read_task(payload, batch_task_ids)
        elif status == OVER:
            result = payload.get("result")
            if not isinstance(result, Mapping):
                raise nonsense(payload, "it has no result")
        elif status == TIMEOUT:
            limit = str(payload.get("limit"))
        elif status == ERROR:
            error = error_from_json(payload.get("error"))
        kept = {name: payload.get(name) for name in ("memory", "intent")}
        return cls(status, tuple(about), task, result, limit, error, memo, **kept)


def _read_task(payload: Mapping[str, Any], batch_task_ids: Sequence[str]) -> BatchTask:
    try:
        task = BatchTask.from_dict(payload["task"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise nonsense(payload, str(error)) from None
    if [task.task_id] != list(batch_task_ids):
        raise nonsense(payload, "it describes another task")
    return task


def nonsense(payload: Any, why: str) -> IoTDAError:
    """The error for an event that makes no sense.

    :param why: what is wrong with it
    """
    return IoTDAError(f"The trigger's event makes no sense ({why}): {str(payload)[:200]}")


def error_to_json(error: IoTDAError) -> dict[str, Any]:
    """An error as plain JSON, so that a resumed task raises the same error as one in a worker."""
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
    """The inverse of :func:`error_to_json`; unreadable JSON becomes an ``IoTDAError``."""
    if not isinstance(data, Mapping) or not isinstance(data.get("message"), str):
        return nonsense(data, "it names no error")
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
        # Without this fact, the request may have been sent.
        return kind(message, sent=facts.get("sent") is not False)
    if issubclass(kind, TaskNotStoppableError):
        status = facts.get("status")
        return kind(message, None if status is None else TaskStatus.from_wire(status))
    if issubclass(kind, BatchTaskFailedError):
        task = facts.get("task")
        return kind(message, None if task is None else BatchTask.from_dict(task))
    return kind(message)
