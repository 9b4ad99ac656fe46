"""The data types that all parts of the provider share. No I/O, and no Airflow."""

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
