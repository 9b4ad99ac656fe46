"""The data types that all parts of the provider share. No I/O, and no Airflow.

A type's module is imported when the type is first used: Airflow imports a trigger's module, and all
that this imports, on its event loop, and the module of a trigger needs no more than texts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from iotda_provider.models.lazy_names import lazily

if TYPE_CHECKING:
    from iotda_provider.models.batch_tasks import (
        BatchTask,
        Subtask,
        TargetResult,
        TargetResults,
        TaskProgress,
    )
    from iotda_provider.models.devices import Device, DeviceGroup, OtaPackage
    from iotda_provider.models.statuses import SubtaskStatus, TaskStatus, TaskType

__all__ = [
    "BatchTask",
    "Device",
    "DeviceGroup",
    "OtaPackage",
    "Subtask",
    "SubtaskStatus",
    "TargetResult",
    "TargetResults",
    "TaskProgress",
    "TaskStatus",
    "TaskType",
]

__getattr__ = lazily(
    __name__,
    {
        "batch_tasks": ("BatchTask", "Subtask", "TargetResult", "TargetResults", "TaskProgress"),
        "devices": ("Device", "DeviceGroup", "OtaPackage"),
        "statuses": ("SubtaskStatus", "TaskStatus", "TaskType"),
    },
)
