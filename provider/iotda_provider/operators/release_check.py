"""The operator that looks before a release: is there such a package, and for whom is it?"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException

from iotda_provider.exceptions import IoTDANotFoundError
from iotda_provider.models import Device, OtaPackage, SubtaskStatus, TaskStatus, TaskType
from iotda_provider.operators.base import CONNECTION_FIELDS, IoTDABaseOperator
from iotda_provider.operators.create import stamp_of
from iotda_provider.operators.wave import read_number
from iotda_provider.parameters import as_list
from iotda_provider.release.planning import was_online_lately

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from iotda_provider.hooks.iotda import IoTDAHook

MOST_TARGETS = 30_000
_KINDS = {
    "firmwarePackage": ("firmware", TaskType.FIRMWARE_UPGRADE, "fw_version"),
    "softwarePackage": ("software", TaskType.SOFTWARE_UPGRADE, "sw_version"),
}
_UNDER_WAY = (
    TaskStatus.INITIALIZING,
    TaskStatus.WAITING,
    TaskStatus.PROCESSING,
    TaskStatus.STOPPING,
)
#: The most other batch tasks that an error names.
_MOST_NAMED = 5
_UNFINISHED = (SubtaskStatus.WAITING, SubtaskStatus.PROCESSING, SubtaskStatus.FAIL_WAIT_RETRY)


class CheckReleaseOperator(IoTDABaseOperator):
    """Check a release before anything is created, and say which devices it is for.

    It fails, without retries, where the package does not exist or is neither firmware nor software,
    where no device is left, where there are more than one batch task takes, and where other
    upgrades that have not ended have any of the devices: the error names them, and says whether
    they run or wait to be confirmed, as that task does which a failed release leaves behind.
    Devices that run the version already, and those of another product, are left out. The batch task
    that this DAG run has made before, at an earlier try, is no other.

    XComs: the return value ``{"package_id", "version", "kind", "task_type", "product_id",
    "in_groups", "already_current", "other_product", "devices", "late"}`` (the last five are
    counts); ``targets``, the ids of the devices to release to, and ``late``, those of them that
    were not online lately.

    :param package_id: the upgrade package (templated)
    :param group_ids: the device groups to release to (templated)
    :param online_within: hours since a device was last online after which it comes last (templated)
    :param create_task_id: the task that will create the batch task
    :param iotda_conn_id: the connection (templated)
    :param project_id: instead of the connection's (templated)
    :param instance_id: instead of the connection's (templated)
    """

    template_fields: Sequence[str] = (
        "package_id",
        "group_ids",
        "online_within",
        *CONNECTION_FIELDS,
    )

    def __init__(
        self,
        *,
        package_id: str,
        group_ids: Any,
        online_within: Any = 24,
        create_task_id: str = "create",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.package_id = package_id
        self.group_ids = group_ids
        self.online_within = online_within
        self.create_task_id = create_task_id

    def execute(self, context: Context) -> dict[str, Any]:
        group_ids = as_list(self.group_ids, "group_ids")
        within = timedelta(hours=read_number(self.online_within, "online_within", zero=True))
        ti: Any = context["ti"]
        own = stamp_of(ti.dag_id, ti.run_id, self.create_task_id, -1)
        with self.hook() as hook:
            package = self._package(hook)
            kind, task_type, column = _KINDS[str(package.package_type)]
            members = _members(hook, group_ids)
            devices, current, others = _sort(hook, package, members, column)
            if not devices:
                raise AirflowFailException(
                    f"There is no device to release {package.version} to: {len(members)} in the "
                    f"group(s), {current} run it already, {others} are of another product."
                )
            if len(devices) > MOST_TARGETS:
                raise AirflowFailException(
                    f"{len(devices)} devices are more than a batch task takes ({MOST_TARGETS}): "
                    "release to fewer groups at a time."
                )
            _refuse_conflicts(hook, {device.device_id for device in devices}, own)
        now = datetime.now(timezone.utc)
        late = [d.device_id for d in devices if not was_online_lately(d, now, within)]
        ti.xcom_push(key="targets", value=[device.device_id for device in devices])
        ti.xcom_push(key="late", value=late)
        self.log.info(
            "Version %s is for %d device(s); %d run it already and %d are of another product; %d "
            "were not online lately and come last.",
            package.version,
            len(devices),
            current,
            others,
            len(late),
        )
        return {
            "package_id": package.package_id,
            "version": package.version,
            "kind": kind,
            "task_type": str(task_type),
            "product_id": package.product_id,
            "in_groups": len(members),
            "already_current": current,
            "other_product": others,
            "devices": len(devices),
            "late": len(late),
        }

    def _package(self, hook: IoTDAHook) -> OtaPackage:
        try:
            package = hook.get_ota_package(self.package_id)
        except IoTDANotFoundError as error:
            raise AirflowFailException(f"There is no package {self.package_id}: {error}") from error
        if package.package_type not in _KINDS:
            raise AirflowFailException(
                f"Package {self.package_id} is a {package.package_type}; only firmware and "
                "software can be released in waves."
            )
        return package


def _members(hook: IoTDAHook, group_ids: Sequence[Any]) -> dict[str, Device]:
    """The devices of some groups, each once."""
    found: dict[str, Device] = {}
    for group_id in group_ids:
        try:
            found.update((d.device_id, d) for d in hook.iter_group_devices(str(group_id)))
        except IoTDANotFoundError as error:
            raise AirflowFailException(f"There is no device group {group_id}: {error}") from error
    return found


def _sort(
    hook: IoTDAHook, package: OtaPackage, members: dict[str, Device], column: str
) -> tuple[list[Device], int, int]:
    """The devices that need the package, and how many have it or can't take it."""
    # Lists of groups leave the versions out.
    known = (d for d in hook.list_devices(product_id=package.product_id) if d.device_id in members)
    found = {device.device_id: device for device in known}
    wanted = [d for d in found.values() if getattr(d, column) != package.version]
    return wanted, len(found) - len(wanted), len(members) - len(found)


def _refuse_conflicts(hook: IoTDAHook, wanted: set[str], own: str) -> None:
    """
    :raises AirflowFailException: other upgrades that have not ended have some of these devices
    """
    found = [
        sentence
        for kind in (TaskType.FIRMWARE_UPGRADE, TaskType.SOFTWARE_UPGRADE)
        for status in _UNDER_WAY
        for task in list(hook.list_batch_tasks(task_type=kind, status=status))
        if not task.task_name.endswith(f"_af{own}")
        and (sentence := _conflict(hook, task.task_id, wanted))
    ]
    if found:
        more = f" And {len(found) - _MOST_NAMED} more." if len(found) > _MOST_NAMED else ""
        raise AirflowFailException(
            f"{' '.join(found[:_MOST_NAMED])}{more} Then clear this task. Nothing was created."
        )


def _conflict(hook: IoTDAHook, batch_task_id: str, wanted: set[str]) -> str:
    """What another upgrade has of these devices, and what to do about it; empty: nothing."""
    both = [
        row.target
        for status in _UNFINISHED
        for row in hook.iter_subtasks(batch_task_id, status=status)
        if row.target in wanted
    ]
    if not both:
        return ""
    task = hook.get_batch_task(batch_task_id)
    what = f"Batch task {task.task_id} ({task.task_name}, {task.status})"
    some = f"{len(both)} of these devices, first {both[0]}"
    stop = (
        f"stop it, in IoTDA's console or with StopBatchTaskOperator(batch_task_id={task.task_id!r})"
    )
    if task.progress.started or task.status == TaskStatus.STOPPING:
        return f"{what} is not finished with {some}. Let it end, or {stop}."
    return (
        f"{what} holds {some}: none of its devices has been let start, so it waits for somebody to "
        "confirm it. An earlier release leaves such a task for what it did not reach. Confirm it, "
        "to give these devices the package of that release, and let it end; "
        f"or {stop}, to give them this one."
    )
