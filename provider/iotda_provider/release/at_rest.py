"""Waiting until no device of a batch task is installing any more: what is looked at, and when."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from iotda_provider.exceptions import IoTDAError
from iotda_provider.guards.miscounts import Miscounts
from iotda_provider.models import BatchTask, TaskProgress, TaskStatus
from iotda_provider.models.json_text import checked_fields
from iotda_provider.models.log import Log
from iotda_provider.release.release_io import ReleaseIO
from iotda_provider.waiting.outage import Outage, is_task_gone


@dataclass
class RestJob:
    """What is waited for; as plain JSON it is a trigger's argument.

    :param grace: seconds to wait after a task was stopped, for devices that were installing
    :param deadline: when to go on all the same, in seconds since 1970
    :param grace_until: when the grace is over, where it has begun
    :param exposed: how many devices were let start: where as many have an outcome, none of them was
        installing when the task was stopped, and there is no grace; None: that is not known
    """

    batch_task_id: str
    grace: float
    poll_interval: float
    max_outage: float
    deadline: float
    grace_until: float | None = None
    exposed: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RestJob:
        """The inverse of :meth:`to_json`.

        :raises ValueError: it is not what that returns
        """
        return cls(**checked_fields(cls, data, "job"))


class UntilAtRest:
    """The wait until a batch task is at rest.

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
        self._seen = TaskProgress()
        self._miscounts = Miscounts()

    async def run(self, io: ReleaseIO) -> dict[str, Any]:
        """The result of ``WaitUntilAtRestOperator``.

        :raises IoTDAError: the platform could not be read for longer than ``max_outage``
        """
        job = self.job
        while True:
            task = await self._read(io)
            if task is None:
                await io.sleep(job.poll_interval)
                continue
            if not isinstance(task, BatchTask):
                return self._lost()
            counts, now = task.progress, self._clock()
            under_way = counts.processing + counts.fail_wait_retry
            self._seen = counts
            # While it is stopping, its counts may not show yet who is under way.
            at_rest = not under_way and task.status != TaskStatus.STOPPING
            # Whatever the counts are wrong by for good, they say who is under way.
            is_clear = self._miscounts.add([counts]) is not None
            is_over = (task.status.is_terminal or at_rest) and is_clear
            if not is_over and now < job.deadline:
                self._say(f"{task.status}: {counts}.")
                await io.sleep(min(job.poll_interval, job.deadline - now))
                continue
            if not is_over:
                self._log.warning(
                    "It is %s with %d device(s) still under way; going on.", task.status, under_way
                )
            if task.status.is_stop and counts.stopped and counts.finished != job.exposed:
                if job.grace_until is None:
                    job.grace_until = now + job.grace
                    self._log.info("Waiting %.0f s for devices that were installing.", job.grace)
                if job.grace_until > now:
                    await io.sleep(job.grace_until - now)
                    continue
            return {
                "batch_task_id": job.batch_task_id,
                "at_rest": at_rest,
                "under_way": under_way,
                "status": str(task.status),
                "lost": False,
                "progress": counts.to_dict(),
            }

    def _lost(self) -> dict[str, Any]:
        """The result where somebody has deleted the task: nothing more can be known of it."""
        job, seen = self.job, self._seen
        self._log.warning(
            "Batch task %s does not exist (any more): what its devices do can't be known.",
            job.batch_task_id,
        )
        return {
            "batch_task_id": job.batch_task_id,
            "at_rest": False,
            "under_way": seen.processing + seen.fail_wait_retry,
            "status": None,
            "lost": True,
            "progress": seen.to_dict(),
        }

    async def _read(self, io: ReleaseIO) -> BatchTask | IoTDAError | None:
        """The task; the error where it is gone, or None where it can't be read now."""
        # A second time, as nobody should lose a task to one stray answer.
        for _ in range(2):
            (answer,) = await io.read_tasks([self.job.batch_task_id])
            if isinstance(answer, BatchTask) or not is_task_gone(answer):
                break
        else:
            return answer
        if isinstance(answer, BatchTask):
            line = self._outage.answered(self._clock())
        else:
            line = self._outage.tolerate(answer, self._clock())
        if line:
            self._log.warning("%s", line)
        return answer if isinstance(answer, BatchTask) else None

    def _say(self, line: str) -> None:
        if line != self._said:
            self._said = line
            self._log.info("%s", line)
