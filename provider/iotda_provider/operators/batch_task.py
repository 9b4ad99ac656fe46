"""Operators for batch tasks: the names to import."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iotda_provider._lazy import lazily

if TYPE_CHECKING:
    from iotda_provider.operators.collect import CollectFailedSubtasksOperator
    from iotda_provider.operators.create import CreateBatchTaskOperator
    from iotda_provider.operators.release import (
        ConfirmBatchTaskOperator,
        DeleteBatchTaskOperator,
        ListBatchTasksOperator,
        RetryBatchTaskOperator,
    )
    from iotda_provider.operators.stop import StopBatchTaskOperator

__all__ = [
    "CollectFailedSubtasksOperator",
    "ConfirmBatchTaskOperator",
    "CreateBatchTaskOperator",
    "DeleteBatchTaskOperator",
    "ListBatchTasksOperator",
    "RetryBatchTaskOperator",
    "StopBatchTaskOperator",
]

__getattr__ = lazily(
    __name__,
    {
        "CollectFailedSubtasksOperator": "collect",
        "ConfirmBatchTaskOperator": "release",
        "CreateBatchTaskOperator": "create",
        "DeleteBatchTaskOperator": "release",
        "ListBatchTasksOperator": "release",
        "RetryBatchTaskOperator": "release",
        "StopBatchTaskOperator": "stop",
    },
)
