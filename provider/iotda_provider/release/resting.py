"""Waiting until no device of a batch task is installing any more: what is looked at, and when."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from iotda_provider.guarding import ReadTasks
from iotda_provider.guarding.steps import Log
from iotda_provider.models import BatchTask
from iotda_provider.release.steps import Procedure, Sleep
from iotda_provider.waiting import Outage


@dataclass
class RestJob:
    """What is waited for; as plain JSON it is a trigger's argument.

    :param grace: seconds to wait after a task was stopped, for devices that were installing
    :param deadline: when to go on all the same, in seconds since 1970
    :param grace_until: when the grace is over, where it has begun
    """

    batch_task_id: str
    grace: float
    poll_interval: float
    max_outage: float
    deadline: float
    grace_until: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RestJob:
        """The inverse of :meth:`to_json`."""
        return cls(**data)


class Resting:
    """The wait until a batch task is at rest.

    :param job: what is waited for
    :param log: where its lines go
    :param clock: the time in seconds since 1970
    """

    def __init__(self, job: RestJob, log: Log, *, clock: Callable[[], float] | None = None) -> None:
        self.job = job
        self._log = log
        self._clock = clock or time.time
        self._outage = Outage(job.max_outage)
        self._said = ""

    def run(self) -> Procedure[dict[str, Any]]:
        """The result of ``WaitUntilAtRestOperator``.

        :raises IoTDAError: the platform could not be read for longer than ``max_outage``
        """
        job = self.job
        while True:
            task = yield from self._read()
            if task is None:
                yield Sleep(job.poll_interval)
                continue
            counts, now = task.progress, self._clock()
            under_way = counts.processing + counts.fail_wait_retry
            is_over = (task.status.is_terminal or not under_way) and counts.adds_up
            if not is_over and now < job.deadline:
                self._say(f"{task.status}: {counts}.")
                yield Sleep(min(job.poll_interval, job.deadline - now))
                continue
            if not is_over:
                self._log.warning("%d device(s) are still under way; going on.", under_way)
            if task.status.is_stop and counts.stopped:
                if job.grace_until is None:
                    job.grace_until = now + job.grace
                    self._log.info("Waiting %.0f s for devices that were installing.", job.grace)
                if job.grace_until > now:
                    yield Sleep(job.grace_until - now)
                    continue
            return {
                "batch_task_id": job.batch_task_id,
                "at_rest": not under_way,
                "under_way": under_way,
                "status": str(task.status),
                "progress": counts.to_dict(),
            }

    def _read(self) -> Procedure[BatchTask | None]:
        (answer,) = yield ReadTasks((self.job.batch_task_id,))
        if isinstance(answer, BatchTask):
            line = self._outage.over(self._clock())
        else:
            line = self._outage.trouble(answer, self._clock())
        if line:
            self._log.warning("%s", line)
        return answer if isinstance(answer, BatchTask) else None

    def _say(self, line: str) -> None:
        if line != self._said:
            self._said = line
            self._log.info("%s", line)
