"""Every call of the IoTDA API, described once: a request and how to read its answer. No I/O."""

from iotda_provider.api.any_path import any_call
from iotda_provider.api.batch_tasks import (
    MAX_TARGETS_PER_CALL,
    MAX_TARGETS_PER_TASK,
    confirm_batch_task,
    create_batch_task,
    delete_batch_task,
    list_batch_tasks,
    list_subtasks,
    retry_batch_task,
    show_batch_task,
    stop_batch_task,
)
from iotda_provider.api.call import MAX_PAGE, Call, Outgoing, Page, Repeat
from iotda_provider.api.devices import (
    change_group,
    count_devices,
    create_group,
    list_devices,
    list_devices_in_group,
    list_groups,
    search_devices,
    show_device,
)
from iotda_provider.api.identifiers import (
    check_group_ids,
    check_package_id,
    check_targets,
    check_task_id,
    check_version,
)
from iotda_provider.api.packages import (
    PackageFields,
    create_package,
    delete_package,
    list_packages,
    show_package,
)

__all__ = [
    "MAX_PAGE",
    "MAX_TARGETS_PER_CALL",
    "MAX_TARGETS_PER_TASK",
    "Call",
    "Outgoing",
    "PackageFields",
    "Page",
    "Repeat",
    "any_call",
    "change_group",
    "check_group_ids",
    "check_package_id",
    "check_targets",
    "check_task_id",
    "check_version",
    "confirm_batch_task",
    "count_devices",
    "create_batch_task",
    "create_group",
    "create_package",
    "delete_batch_task",
    "delete_package",
    "list_batch_tasks",
    "list_devices",
    "list_devices_in_group",
    "list_groups",
    "list_packages",
    "list_subtasks",
    "retry_batch_task",
    "search_devices",
    "show_batch_task",
    "show_device",
    "show_package",
    "stop_batch_task",
]
