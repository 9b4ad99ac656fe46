"""The batch tasks that one DAG run has created, found by the stamps in their names."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, Context

from iotda_provider.airflow_support.installation import installation_of
from iotda_provider.api import MAX_TARGETS_PER_TASK
from iotda_provider.hooks.procedure_io import BlockingIO
from iotda_provider.models import BatchTask, TaskStatus
from iotda_provider.models.statuses import STOPPABLE_UPGRADES
from iotda_provider.procedures.create_once import compare, stamp_in, stamp_of, targets_of
from iotda_provider.release.device_ids import MOST_DEVICES
from iotda_provider.release.storage import ReleaseFiles
from iotda_provider.transport.runner import run_blocking

if TYPE_CHECKING:
    from iotda_provider.hooks.iotda import IoTDAHook

#: The most batch tasks that one task creates.
_MOST_PARTS = -(-MOST_DEVICES // MAX_TARGETS_PER_TASK)


def create_task_ids(group_id: str, max_waves: int = 6) -> tuple[str, ...]:
    """The ids of the tasks that create the batch tasks of a staged rollout.

    :param group_id: the task group's whole id
    :param max_waves: the most waves that the rollout may have
    """
    return tuple(f"{group_id}.wave_{place}_create" for place in range(1, max_waves + 1))


def own_stamps(context: Context, task_ids: Iterable[str]) -> dict[str, str]:
    """The stamps of all batch tasks that these tasks of the run may create, each with its task."""
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
    for kind in STOPPABLE_UPGRADES:
        for status in statuses:
            for task in hook.list_batch_tasks(task_type=kind, status=status):
                if not_before and task.create_time and task.create_time < not_before:
                    break
                if stamp_in(task.task_name) in wanted:
                    found.append(task)
    return sorted(found, key=lambda one: (one.create_time or "", one.task_id))


@dataclass(frozen=True)
class OwnTasks:
    """The batch tasks that bear a stamp of one run.

    :param made: all of them, oldest first
    :param owners: the stamps of the run, and which tasks of the DAG make them
    :param first_task_id: the task that makes those of a staged rollout's first wave
    """

    made: Sequence[BatchTask]
    owners: Mapping[str, str]
    first_task_id: str

    def owner(self, task: BatchTask) -> str:
        """The task of the DAG whose stamp a batch task bears."""
        return self.owners[stamp_in(task.task_name)]

    @property
    def of_first_wave(self) -> list[BatchTask]:
        """Those of the first wave."""
        return [task for task in self.made if self.owner(task) == self.first_task_id]

    def refuse_what_differs(
        self,
        hook: IoTDAHook,
        ti: Any,
        wanted: Mapping[str, Any],
        manifest_path: str | None,
        members: Collection[str],
    ) -> None:
        """Compare the waves' batch tasks with what the run asks for now: a stamp proves nothing.

        Targets are compared for the first wave only: the batch tasks of later waves were created
        for the devices that were written down.

        :param wanted: the arguments of ``create_batch_task``, without name and targets
        :param members: the devices of the groups
        :raises AirflowFailException: one is for something else
        :raises IoTDAError: what was written down of the waves can't be read, or is damaged
        """
        prefix = self.first_task_id[: self.first_task_id.rfind(".") + 1]
        plan, keeper = f"{prefix}plan", f"{prefix}outcome"
        files = ReleaseFiles(ti.dag_id, ti.run_id, plan, keeper, manifest_path)
        begun = files.all_begun() if files.read_manifest() is not None else []
        parts = {part.task_name: part for wave in begun for part in wave.parts}
        first = self.of_first_wave
        for task in self.made:
            part = parts.get(task.task_name)
            if part is None and task not in first:
                continue  # a second try
            asked = dict(wanted)
            if part is not None and task in first:
                asked["targets"] = files.read_members(part)
            io = BlockingIO(hook)
            different = run_blocking(compare(io, task, asked))
            if part is None and not different:
                # The next step says that what was planned is gone.
                outside = sorted(run_blocking(targets_of(io, task)).difference(members))
                if outside:
                    different = [
                        f"{len(outside)} of its targets are in none of the groups, first "
                        f"{outside[0]}, but devices of the groups are wanted"
                    ]
            if different:
                raise AirflowFailException(
                    f"Batch task {task.task_id} ({task.task_name}, {task.status}) bears the stamp "
                    f"of this run's {self.owner(task)}, and is for something else: "
                    f"{'; '.join(different)}. It stays as it is. Start a new DAG run for what this "
                    "one asks for now."
                )
