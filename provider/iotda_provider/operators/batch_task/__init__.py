"""Operators for batch tasks and their packages: the names to import."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iotda_provider.models.lazy_names import lazily

if TYPE_CHECKING:
    from iotda_provider.operators.batch_task.actions import (
        ConfirmBatchTaskOperator,
        DeleteBatchTaskOperator,
        ListBatchTasksOperator,
        RetryBatchTaskOperator,
    )
    from iotda_provider.operators.batch_task.collect import CollectFailedSubtasksOperator
    from iotda_provider.operators.batch_task.create import CreateBatchTaskOperator
    from iotda_provider.operators.batch_task.package import CreateOtaPackageOperator
    from iotda_provider.operators.batch_task.stop import StopBatchTaskOperator

__all__ = [
    "CollectFailedSubtasksOperator",
    "ConfirmBatchTaskOperator",
    "CreateBatchTaskOperator",
    "CreateOtaPackageOperator",
    "DeleteBatchTaskOperator",
    "ListBatchTasksOperator",
    "RetryBatchTaskOperator",
    "StopBatchTaskOperator",
]

__getattr__ = lazily(
    __name__,
    {
        "actions": (
            "ConfirmBatchTaskOperator",
            "DeleteBatchTaskOperator",
            "ListBatchTasksOperator",
            "RetryBatchTaskOperator",
        ),
        "collect": ("CollectFailedSubtasksOperator",),
        "create": ("CreateBatchTaskOperator",),
        "package": ("CreateOtaPackageOperator",),
        "stop": ("StopBatchTaskOperator",),
    },
)
