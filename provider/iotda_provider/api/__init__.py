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
