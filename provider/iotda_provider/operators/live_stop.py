"""Writes what people see of a stop that no guard has sent, where it waits in a worker."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from iotda_provider.rollout_guard.live import LIVE_KEY, Ended, LiveRecord, StopStanding
from iotda_provider.task_io.reports import push_xcom

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from iotda_provider.models import BatchTask
    from iotda_provider.models.log import Log


class LiveStop:
    """The XCom ``live`` of a task that stops a batch task.

    :param context: Airflow's context of the running task instance
    :param standing: how the stop stands
    :param log: where its lines go
    """

    def __init__(self, context: Context, standing: StopStanding, log: Log) -> None:
        self._context = context
        self._standing = standing
        self._record = LiveRecord(standing)
        self._log = log

    def show(self, task: BatchTask) -> None:
        """After a look: write the record, where it is due."""
        self._standing.saw(task)
        now = time.time()
        if self._record.wants_writing(now) is not None:
            push_xcom(self._context, LIVE_KEY, self._record.compose(now), self._log)

    def settle(self, outcome: str, task: BatchTask | None) -> None:
        """Write the last record."""
        if task is not None:
            self._standing.saw(task)
        now = time.time()
        self._record.wants_writing(now)
        seen = "" if task is None else f": {task.progress}"
        ended = Ended(outcome, f"{outcome.replace('_', ' ').upper()}{seen}.")
        push_xcom(self._context, LIVE_KEY, self._record.compose(now, outcome=ended), self._log)
