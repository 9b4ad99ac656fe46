"""Waiting until no device of a release is installing any more: what is looked at, and when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from iotda_provider.exceptions import IoTDAError, IoTDANotFoundError
from iotda_provider.guards import total_progress
from iotda_provider.guards.miscounts import Miscounts
from iotda_provider.models import BatchTask, TaskStatus
from iotda_provider.models.json_text import PlainJson
from iotda_provider.models.log import Log
from iotda_provider.release.release_io import ReleaseIO
from iotda_provider.rollout_guard.outcome import statuses_of
from iotda_provider.task_io import parameters
from iotda_provider.waiting.outage import Outage, is_gone


@dataclass
class RestJob(PlainJson):
    """What is waited for; as plain JSON it is a trigger's argument.

    :param grace: seconds to wait after a task was stopped, for devices that were installing
    :param deadline: when to go on all the same, in seconds since 1970
    :param grace_until: when the grace is over, if it has begun
    :param exposed: how many devices were confirmed; None: unknown. If as many have an outcome, none
        of them was installing when the task was stopped, and there is no grace
    """

    batch_task_ids: tuple[str, ...]
    grace: float
    poll_interval: float
    max_outage: float
    deadline: float
    grace_until: float | None = None
    exposed: int | None = None

    readers = {"batch_task_ids": parameters.batch_task_ids}


class UntilAtRest:
    """The wait until all batch tasks of a release are at rest.

    :param job: what is waited for
    :param log: where its lines go
    :param clock: the time in seconds since 1970
    """

    def __init__(self, job: RestJob, log: Log, *, clock: Callable[[], float]) -> None:
        self.job = job
        self._log = log
        self._clock = clock
        self._outage = Outage(job.max_outage)
        self._said = ""
        self._miscounts = Miscounts()

    async def run(self, io: ReleaseIO) -> dict[str, Any]:
        """The result of ``WaitUntilAtRestOperator``.

        :raises IoTDAError: the platform could not be read for longer than ``max_outage``
        """
        job = self.job
        while True:
            tasks = await self._read(io)
            if tasks is None:
                await io.sleep(job.poll_interval)
                continue
            now = self._clock()
            there = [one for one in tasks if isinstance(one, BatchTask)]
            counts = total_progress(task.progress for task in there)
            under_way = counts.processing + counts.fail_wait_retry
            # While it is stopping, its counts may not show yet who is under way.
            at_rest = not under_way and all(t.status != TaskStatus.STOPPING for t in there)
            # Counts that stay wrong for good still say how many devices are under way.
            is_clear = self._miscounts.add(task.progress for task in there) is not None
            is_clear = is_clear and not any(task.lacks_counts for task in there)
            is_over = (all(t.status.is_terminal for t in there) or at_rest) and is_clear
            statuses = statuses_of(there)
            if not is_over and now < job.deadline:
                self._say(f"{statuses}: {counts}.")
                await io.sleep(min(job.poll_interval, job.deadline - now))
                continue
            if not is_over:
                self._log.warning(
                    "It is %s with %d device(s) still under way; going on.", statuses, under_way
                )
            is_stopped = any(task.status.is_stop for task in there)
            if is_stopped and counts.stopped and counts.finished != job.exposed:
                if job.grace_until is None:
                    job.grace_until = now + job.grace
                    self._log.info("Waiting %.0f s for devices that were installing.", job.grace)
                if job.grace_until > now:
                    await io.sleep(job.grace_until - now)
                    continue
            known = {task.task_id for task in there}
            return {
                "batch_task_ids": list(job.batch_task_ids),
                "at_rest": at_rest and len(there) == len(tasks),
                "under_way": under_way,
                "status": statuses or None,
                "found": [task.task_id for task in there],
                "lost": [one for one in job.batch_task_ids if one not in known],
                "progress": counts.to_dict(),
            }

    async def _read(self, io: ReleaseIO) -> list[BatchTask | IoTDAError] | None:
        """The tasks, and the errors of those that are gone; None where one can't be read now."""
        # Read twice: one stray answer must not make a task count as lost, nor end the wait.
        for _ in range(2):
            answers = await io.read_tasks(self.job.batch_task_ids)
            if not any(isinstance(one, IoTDANotFoundError) for one in answers):
                break
        trouble = [one for one in answers if not isinstance(one, BatchTask)]
        trouble = [one for one in trouble if not is_gone(one)]
        if trouble:
            line = self._outage.tolerate(trouble[0], self._clock())
        else:
            line = self._outage.answered(self._clock())
        if line:
            self._log.warning("%s", line)
        return None if trouble else answers

    def _say(self, line: str) -> None:
        if line != self._said:
            self._said = line
            self._log.info("%s", line)
