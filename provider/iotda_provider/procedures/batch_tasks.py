"""Stop, confirm, retry and delete a batch task: each takes several calls. Both hooks use them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from iotda_provider import api
from iotda_provider.api.identifiers import check_task_ids
from iotda_provider.exceptions import (
    IoTDAApiError,
    IoTDAAuthError,
    IoTDAError,
    IoTDANotFoundError,
    IoTDAServerError,
    IoTDATransportError,
)
from iotda_provider.models import TargetResults
from iotda_provider.procedures import CallsIO
from iotda_provider.procedures.target_results import (
    PERMANENT,
    RUNNING,
    STARTED,
    STOPPED,
    Unclear,
    act_on_targets,
    judge_by_status,
    not_stoppable,
)
from iotda_provider.waiting.outage import is_gone, is_task_ended

# Seconds between stops of a task that is Initializing.
_INITIALIZING_PAUSES = (1.0, 2.0, 3.0, 4.0, 5.0, 5.0, 5.0)
#: The prefix of the one target of a rehearsed stop: no device has such an id.
REHEARSAL = "rehearsal-of-a-stop-"


async def stop_batch_task(
    io: CallsIO, batch_task_id: str, targets: Sequence[str] | None = None
) -> TargetResults:
    """Stop a whole task, or some of its targets in calls of at most 100.

    A second stop is harmless: it is no error if the task is already stopped or stopping. If an
    answer is lost or is a refusal, the result is read from the task, because no error code says
    "has already ended".

    :param targets: None: the whole task; an empty list: nothing is stopped
    :return: one definite result for each target; for a whole task the rows that the platform sent,
        which may be none
    :raises TaskNotStoppableError: the task has run to its end, or its type cannot be stopped
    """
    if targets is not None and not targets:
        return await _stop(io, batch_task_id, targets)
    try:
        return await _stop(io, batch_task_id, targets)
    except IoTDAError as error:
        if not is_task_ended(error):
            io.count("iotda.stops.failed")
        raise
    finally:
        io.count("iotda.stops.sent")


async def _stop(io: CallsIO, batch_task_id: str, targets: Sequence[str] | None) -> TargetResults:
    if targets is not None:
        return await act_on_targets(io, api.stop_batch_task, batch_task_id, targets, STOPPED)
    try:
        rows = await io.perform(api.stop_batch_task(batch_task_id, None))
        return TargetResults(rows)
    except PERMANENT:
        raise
    except (IoTDAApiError, IoTDATransportError) as trouble:
        task = await io.perform(api.show_batch_task(batch_task_id))
        if task.status.is_stop:
            return TargetResults()
        raise (not_stoppable(task) or trouble) from None


async def stop_whole_tasks(
    io: CallsIO, batch_task_ids: Sequence[str]
) -> dict[str, IoTDAError | None]:
    """Stop whole tasks, for a caller that cannot try again later.

    The platform refuses the stop of a task that is Initializing, and a proxy answers 404 while the
    platform is away. Such a stop is repeated for about 25 seconds, the time that Airflow leaves to
    a task instance that it kills.

    :return: for each task None, or the error that kept it from being stopped
    :raises IoTDAConfigError: before anything is sent: what is given is no list of ids
    """
    came: dict[str, IoTDAError | None] = {}
    left = check_task_ids(batch_task_ids)
    for pause in (*_INITIALIZING_PAUSES, None):
        refused = []
        for batch_task_id in left:
            try:
                await stop_batch_task(io, batch_task_id)
                came[batch_task_id] = None
            except IoTDAError as error:
                came[batch_task_id] = error
                is_final = isinstance(error, IoTDAAuthError) or is_gone(error)
                if isinstance(error, IoTDAApiError) and not is_final:
                    refused.append(batch_task_id)
        left = refused
        if not left or pause is None:
            break
        await io.pause(pause)
    return came


async def rehearse_stop(io: CallsIO, batch_task_id: str) -> None:
    """Find out whether this connection may stop a task, without stopping anything.

    It asks for the stop of one target that is in no task. If stops are allowed, the platform
    answers with 200 and refuses that target. The call always names one target, so that it never
    means the whole task.

    :raises IoTDAAuthError: status 403: the connection may not stop the task
    :raises IoTDAError: anything else: unknown
    """
    await io.perform(api.stop_batch_task(batch_task_id, (f"{REHEARSAL}{uuid4().hex}",)))


async def confirm_batch_task(
    io: CallsIO, batch_task_id: str, targets: Sequence[str] | None = None
) -> TargetResults:
    """Let waiting targets start the upgrade.

    :param targets: None: all of them; an empty list: none
    :return: as :func:`stop_batch_task`
    """
    if targets is not None:
        return await act_on_targets(io, api.confirm_batch_task, batch_task_id, targets, STARTED)
    try:
        rows = await io.perform(api.confirm_batch_task(batch_task_id, None))
        return TargetResults(rows)
    except PERMANENT:
        raise
    except (IoTDAApiError, IoTDATransportError):
        task = await io.perform(api.show_batch_task(batch_task_id))
        if task.status.is_stop or task.progress.total == 0 or task.progress.waiting:
            raise
        return TargetResults()


async def retry_batch_task(
    io: CallsIO, batch_task_id: str, targets: Sequence[str] | None = None
) -> TargetResults:
    """Start failed and stopped targets again.

    No call is sent twice: if an answer is lost, the result is read from the task.

    :param targets: None: all of them; an empty list: none
    :return: as :func:`stop_batch_task`
    """
    if targets is not None:
        return await act_on_targets(io, api.retry_batch_task, batch_task_id, targets, RUNNING)
    try:
        rows = await io.perform(api.retry_batch_task(batch_task_id, None))
        return TargetResults(rows)
    except (IoTDAServerError, IoTDATransportError):
        task = await io.perform(api.show_batch_task(batch_task_id))
        left = task.progress.fail or task.progress.fail_wait_retry or task.progress.stopped
        if task.status.is_terminal or task.progress.total == 0 or left:
            raise
        return TargetResults()


async def delete_batch_task(io: CallsIO, batch_task_id: str) -> None:
    """Delete a task that has ended. It is no error if a call whose answer was lost deleted it."""
    await delete(io, api.delete_batch_task(batch_task_id), api.show_batch_task(batch_task_id))


async def delete(io: CallsIO, deletion: api.Call[None], look: api.Call[Any]) -> None:
    """Delete something. It is no error if a call whose answer was lost deleted it.

    :param look: reads it, which fails if it is gone
    """
    try:
        await io.perform(deletion)
    except (IoTDATransportError, IoTDAServerError):
        try:
            await io.perform(look)
        except IoTDANotFoundError as error:
            if not is_gone(error):
                raise
            return
        await io.perform(deletion)


async def read_stopped_targets(
    io: CallsIO, batch_task_id: str, targets: Sequence[str]
) -> TargetResults:
    """Whether each of some targets is stopped now, after a stop that somebody else has sent."""
    wanted = api.check_targets(targets)
    if not wanted:
        return TargetResults()
    task = await io.perform(api.show_batch_task(batch_task_id))
    unclear: Unclear = dict.fromkeys(wanted, IoTDATransportError("it was not stopped"))
    results = await judge_by_status(io, task, unclear, STOPPED)
    return TargetResults(results[target] for target in wanted)
