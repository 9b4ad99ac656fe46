"""The words that all parts of the provider speak. No I/O, and no Airflow."""

from iotda_provider.models.batch_tasks import (
    BatchTask,
    Subtask,
    SubtaskStatus,
    TargetResult,
    TargetResults,
    TaskProgress,
    TaskStatus,
    TaskType,
)
from iotda_provider.models.fleet import Device, DeviceGroup, OtaPackage

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
