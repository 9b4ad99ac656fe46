"""Operators for batch tasks: the names to import."""

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
