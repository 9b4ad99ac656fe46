"""The events that our triggers send to the task that they resume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.triggers.base import TriggerEvent

from iotda_provider.airflow_support.trigger_events import ASK, ERROR, OVER, TIMEOUT, error_to_json
from iotda_provider.exceptions import IoTDAError
from iotda_provider.models import BatchTask

__all__ = ["ASK", "ERROR", "OVER", "TIMEOUT", "failed", "over", "tell", "timed_out"]


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
