"""The operator that waits until no device of a batch task is installing any more."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from iotda_provider.exceptions import IoTDAError
from iotda_provider.operators.base import CONNECTION_FIELDS, IoTDABaseOperator
from iotda_provider.parameters import positive
from iotda_provider.waiting import Outage

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class WaitUntilAtRestOperator(IoTDABaseOperator):
    """Wait until nothing of a batch task is under way, and a while longer after a stop.

    A stop does not reach into a device that is installing: it may finish afterwards, which the
    platform does not show. When the time is over it succeeds all the same and says how many devices
    are left; whoever reads the devices next will find them ``unfinished``.

    XCom: the return value ``{"batch_task_id", "at_rest", "under_way", "status", "progress"}``.

    :param batch_task_id: the batch task (templated)
    :param grace: seconds to wait after a task was stopped, for devices that were installing
    :param timeout: seconds to wait at most
    :param poll_interval: seconds between two looks
    :param iotda_conn_id: the connection (templated)
    :param project_id: instead of the connection's (templated)
    :param instance_id: instead of the connection's (templated)
    """

    template_fields: Sequence[str] = ("batch_task_id", *CONNECTION_FIELDS)

    def __init__(
        self,
        *,
        batch_task_id: str,
        grace: float = 600,
        timeout: float = 6 * 3600,
        poll_interval: float = 10,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.batch_task_id = batch_task_id
        self.grace = positive(grace, "grace", zero=True)
        self.timeout = positive(timeout, "timeout")
        self.poll_interval = positive(poll_interval, "poll_interval")

    def execute(self, context: Context) -> dict[str, Any]:
        deadline = time.monotonic() + self.timeout
        outage = Outage(self.max_outage)
        with self.hook() as hook:
            while True:
                try:
                    task = hook.get_batch_task(self.batch_task_id)
                except IoTDAError as error:
                    if line := outage.trouble(error, time.monotonic()):
                        self.log.warning("%s", line)
                    time.sleep(self.poll_interval)
                    continue
                outage.over(time.monotonic())
                counts = task.progress
                under_way = counts.processing + counts.fail_wait_retry
                if (task.status.is_terminal or not under_way) and counts.adds_up:
                    break
                if time.monotonic() >= deadline:
                    self.log.warning("%d device(s) are still under way; going on.", under_way)
                    break
                self.log.info("%s: %s.", task.status, counts)
                time.sleep(self.poll_interval)
        if task.status.is_stop and counts.stopped:
            self.log.info("Waiting %.0f s for devices that were installing.", self.grace)
            time.sleep(self.grace)
        return {
            "batch_task_id": self.batch_task_id,
            "at_rest": not under_way,
            "under_way": under_way,
            "status": str(task.status),
            "progress": counts.to_dict(),
        }
