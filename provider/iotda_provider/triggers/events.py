"""The events that triggers send to the tasks that they resume."""

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
    """The wait is over: the batch task has a status that ends it."""
    return tell({"status": OVER, "batch_task_ids": [task.task_id], "task": task.to_dict()})


def timed_out(batch_task_ids: Sequence[str], limit: str) -> TriggerEvent:
    """The wait's deadline is over.

    :param limit: the parameter that the deadline comes from
    """
    return tell({"status": TIMEOUT, "batch_task_ids": list(batch_task_ids), "limit": limit})


def failed(batch_task_ids: Sequence[str], error: IoTDAError) -> TriggerEvent:
    """The wait can't go on because of an error."""
    about = list(batch_task_ids)
    return tell({"status": ERROR, "batch_task_ids": about, "error": error_to_json(error)})
