"""The data types that all parts of the provider share. No I/O, and no Airflow.

A type's module is imported when the type is first used: Airflow imports a trigger's module, and all
that this imports, on its event loop, and the module of a trigger needs no more than texts.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in ("batch_tasks", "devices", "statuses"):
            found = getattr(import_module(f"{__name__}.{module}"), name, None)
            if found is not None:
                globals()[name] = found
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
