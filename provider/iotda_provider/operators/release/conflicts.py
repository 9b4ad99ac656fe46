"""What is in the way of a release: other upgrades of its devices, and other releases to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException

from iotda_provider.api import MAX_PAGE
from iotda_provider.exceptions import IoTDAError
from iotda_provider.hooks.procedure_io import BlockingIO
from iotda_provider.models import BatchTask, OtaPackage, TaskStatus
from iotda_provider.models.log import Log
from iotda_provider.models.sorted_ids import SortedIds
from iotda_provider.procedures import CallsIO
from iotda_provider.procedures.create_once import stamp_in
from iotda_provider.release import under_way
from iotda_provider.release.other_releases import OtherReleases, ReleaseNote, read_to_the_end
from iotda_provider.release.other_upgrades import OtherUpgrades
from iotda_provider.transport.runner import run_blocking

if TYPE_CHECKING:
    from iotda_provider.hooks.iotda import IoTDAHook

_LET_IT_END = (
    "its later waves would meet these. Let that run end, or mark it as failed if nothing of it is "
    "to go on."
)
#: The most others that an error names.
_MOST_NAMED = 5


def conflicts_of(
    hook: IoTDAHook,
    wanted: SortedIds,
    own: Mapping[str, str],
    product_id: str | None,
    ti: Any,
    log: Log,
    *,
    is_under_way: bool,
) -> tuple[list[str], str]:
    """Which of these devices unfinished others hold, and what was not read of these others.

    The others are other upgrades, and the releases of this Airflow that have begun before. At most
    as many pages of the upgrades' rows are read as these devices have, newest batch tasks first.

    :param own: the stamps of this run's batch tasks, and which tasks of the DAG make them
    :param product_id: of the devices; None: of any
    :param ti: the task instance that asks
    :param is_under_way: whether this release has begun: groups that can't be read are only logged,
        as it must not lose its guard, and each wave reads them again
    :raises IoTDAError: the platform does not say so
    """
    others = OtherUpgrades(wanted, lambda task: stamp_in(task.task_name) in own, len(wanted))
    run_blocking(_read(BlockingIO(hook), others))
    said = [_conflict(hook, task_id, held) for task_id, held in others.held.items()]
    notes = under_way.others(ti.dag_id, ti.run_id, log)
    if notes:
        log.info(
            "%d other release(s) are under way, to %d group(s): to see which of these devices they "
            "have takes a call for each %d devices of these groups, as far as the product is the "
            "same.",
            len(notes),
            sum(len(note.group_ids) for note in notes),
            MAX_PAGE,
        )
    releases = OtherReleases(notes, product_id, wanted, log)
    try:
        run_blocking(read_to_the_end(BlockingIO(hook), releases))
    except IoTDAError as error:
        log.warning("%s: %s", releases.unread, error)
        if not is_under_way:
            raise
    return [*said, *releases.said(_LET_IT_END)], others.not_read


def note_release(
    ti: Any,
    release: str,
    group_ids: Sequence[str],
    package: OtaPackage | None,
    log: Log,
) -> dict[str, Any]:
    """Note for later releases that this one is under way.

    :param ti: the task instance that has planned it
    :param release: names the release
    :param group_ids: what it is for; none: others see nothing of it but its batch tasks
    :return: ``{"note": ...}`` for the plan's result; empty where there is none
    """
    if not group_ids:
        return {}
    plain = {
        "release": release,
        "dag_id": ti.dag_id,
        "run_id": ti.run_id,
        "version": "" if package is None else package.version,
        "product_id": None if package is None else package.product_id,
        "group_ids": list(group_ids),
        "end": 0.0,
    }
    try:
        note = ReleaseNote.from_json(plain)
    except ValueError as error:
        log.warning("Other releases see nothing of this one but its batch tasks: %s", error)
        return {}
    others = under_way.enter(note, log)
    if others:
        log.info("Under way since before: %s.", "; ".join(map(str, others)))
    return {"note": plain}


async def _read(io: CallsIO, others: OtherUpgrades) -> None:
    while (call := others.next) is not None:
        others.take(await io.perform(call))


def what_was_created(task: BatchTask | None) -> str:
    """What a run that is refused has made before, as a sentence for a person.

    :param task: the batch task that bears this run's stamp
    """
    if task is None:
        return "Nothing was created."
    return (
        f"Batch task {task.task_id} ({task.task_name}, {task.status}), which this run made before "
        "it was cleared, exists: it stays as it is, and nobody guards it. Stop it where it should "
        "not go on."
    )


def refuse_conflicts(found: Sequence[str], own: Mapping[str, str], created: str) -> None:
    """
    :param created: what exists already, in words
    :raises AirflowFailException: there are conflicts
    """
    if found:
        more = f" And {len(found) - _MOST_NAMED} more." if len(found) > _MOST_NAMED else ""
        # The stamp of each task's first batch task: nearly always it creates no other.
        first: dict[str, str] = {}
        for stamp, task_id in own.items():
            first.setdefault(task_id, stamp)
        ours = ", ".join(f"{stamp} ({task_id})" for task_id, stamp in first.items())
        raise AirflowFailException(
            f"{' '.join(found[:_MOST_NAMED])}{more} Then clear this task. {created} "
            f"(The names of this run's own batch tasks end with {ours}.)"
        )


def _conflict(hook: IoTDAHook, batch_task_id: str, both: Sequence[str]) -> str:
    """What another upgrade has of these devices, and what to do about it.

    :param both: the devices that it has
    """
    task = hook.get_batch_task(batch_task_id)
    what = f"Batch task {task.task_id} ({task.task_name}, {task.status})"
    some = f"{len(both)} of these devices, first {both[0]}"
    stop = (
        f"stop it, in IoTDA's console or with StopBatchTaskOperator(batch_task_id={task.task_id!r})"
    )
    if task.progress.started or task.status == TaskStatus.STOPPING:
        return f"{what} is not finished with {some}. Let it end, or {stop}."
    return (
        f"{what} holds {some}: none of its devices has been confirmed, so it waits for somebody to "
        f"confirm it. {_whose(task)} Confirm it, to give these devices the package of that "
        f"release, and let it end; or {stop}, to give them this one."
    )


def _whose(task: BatchTask) -> str:
    """Who has left a batch task that waits, as far as its name tells."""
    stamp = stamp_in(task.task_name)
    if not stamp:
        return "Its name has no stamp of a DAG run, so somebody has created it by other means."
    return (
        f"By its stamp {stamp} it is another run's, or of a task that create_task_id does not "
        "name: a release leaves such a task for what it did not reach."
    )
