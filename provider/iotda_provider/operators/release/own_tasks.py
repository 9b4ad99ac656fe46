"""The batch tasks that one DAG run has created, found by the stamps in their names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from iotda_provider.airflow_support.installation import installation_of
from iotda_provider.api import MAX_TARGETS_PER_TASK
from iotda_provider.models import BatchTask, TaskStatus, TaskType
from iotda_provider.procedures.create_once import stamp_in, stamp_of
from iotda_provider.release.device_ids import MOST_DEVICES

if TYPE_CHECKING:
    from typing import Any

    from airflow.providers.common.compat.sdk import Context

    from iotda_provider.hooks.iotda import IoTDAHook

#: The most batch tasks that one task creates.
_MOST_PARTS = -(-MOST_DEVICES // MAX_TARGETS_PER_TASK)
UPGRADES = (TaskType.FIRMWARE_UPGRADE, TaskType.SOFTWARE_UPGRADE)


def create_task_ids(group_id: str, max_waves: int = 6) -> tuple[str, ...]:
    """The ids of the tasks that create the batch tasks of a staged rollout.

    :param group_id: the task group's whole id
    :param max_waves: the most waves that the rollout may have
    """
    return tuple(f"{group_id}.wave_{place}_create" for place in range(1, max_waves + 1))


def own_stamps(context: Context, task_ids: Iterable[str]) -> dict[str, str]:
    """The stamps of all batch tasks that these tasks of the run may create, and whose each is."""
    ti: Any = context["ti"]
    installation = installation_of(context)
    return {
        stamp_of(installation, ti.dag_id, ti.run_id, task_id, -1, part): task_id
        for task_id in task_ids
        for part in range(_MOST_PARTS)
    }


def find_own_tasks(
    hook: IoTDAHook,
    stamps: Iterable[str],
    not_before: str | None = None,
    statuses: Iterable[TaskStatus | None] = (None,),
) -> list[BatchTask]:
    """The batch tasks with one of these stamps, oldest first.

    :param not_before: none of them is older (a time as the platform writes it)
    :param statuses: only those in one of these statuses; None: in any
    """
    wanted, found = frozenset(stamps), []
    for kind in UPGRADES:
        for status in statuses:
            for task in hook.list_batch_tasks(task_type=kind, status=status):
                if not_before and task.create_time and task.create_time < not_before:
                    break
                if stamp_in(task.task_name) in wanted:
                    found.append(task)
    return sorted(found, key=lambda one: (one.create_time or "", one.task_id))
