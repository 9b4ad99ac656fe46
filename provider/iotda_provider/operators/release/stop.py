"""The operator that stops a release: all of its batch tasks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Context

from iotda_provider.exceptions import IoTDAError
from iotda_provider.models import BatchTask
from iotda_provider.operators.base import CONNECTION_FIELDS, IoTDABaseOperator
from iotda_provider.operators.release.plan import created_parts
from iotda_provider.rollout_guard.live_record import (
    HEADER_KEY,
    LIVE_KEY,
    Ended,
    LiveRecord,
    LiveState,
    header,
)
from iotda_provider.task_io.dag_parameters import airflow_id
from iotda_provider.task_io.reports import push_xcom
from iotda_provider.waiting.outage import is_gone, is_task_ended

if TYPE_CHECKING:
    from iotda_provider.hooks.iotda import IoTDAHook

GONE, ENDED, STOPPED = "gone", "already_ended", "stopped"


class StopReleaseOperator(IoTDABaseOperator):
    """Stop all batch tasks of a release, and do not wait for their end.

    Devices that are installing may take hours to end, and the platform calls a task ``Stopping``
    until then; the release is over as soon as the stops were taken. A batch task that somebody has
    deleted starts no device any more, and needs no stop. If one can't be stopped, the others
    are, and the task fails, so that a retry asks again.

    XComs: the return value ``{"batch_task_ids", "outcomes": {id: "stopped" | "already_ended" |
    "gone"}}``; ``rollout``, what is stopped; and ``live``.

    :param create_task_id: the ``CreateWaveOperator`` of the last wave that has begun, whose result
        names the batch tasks of the release
    :param iotda_conn_id: the connection (templated)
    :param project_id: instead of the connection's (templated)
    :param instance_id: instead of the connection's (templated)
    """

    template_fields: Sequence[str] = CONNECTION_FIELDS

    def __init__(self, *, create_task_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.create_task_id = airflow_id(create_task_id, "create_task_id")

    def execute(self, context: Context) -> dict[str, Any]:
        parts = created_parts(context["ti"], self.create_task_id)
        ids = [str(part.batch_task_id) for part in parts]
        with self.hook() as hook:
            tasks = self._read(hook, ids)
            about = header("stop", ids, tasks, poll_interval=10, **self.connection)
            push_xcom(context, HEADER_KEY, about, self.log)
            began = time.time()
            came = hook.stop_whole_tasks(ids)
            after = self._read(hook, ids)
        outcomes, failure = {}, None
        for batch_task_id, error in came.items():
            if error is None:
                outcomes[batch_task_id] = STOPPED
            elif is_task_ended(error):
                outcomes[batch_task_id] = ENDED
            elif is_gone(error):
                outcomes[batch_task_id] = GONE
            else:
                failure = error
                self.log.error("Batch task %s could NOT be stopped: %s", batch_task_id, error)
        stop = {
            "sent": began,
            "accepted": None if failure else time.time(),
            "attempts": 1,
            "error": str(failure) if failure else None,
        }
        record = LiveRecord(lambda: LiveState(tuple(ids), after, 10.0, intent=stop))
        said = ", ".join(f"{one} {outcome}" for one, outcome in outcomes.items())
        ended = Ended("failed" if failure else STOPPED, f"Stop of the release: {said}.")
        push_xcom(context, LIVE_KEY, record.compose(time.time(), outcome=ended), self.log)
        if failure is not None:
            raise failure
        self.log.warning("The release is stopped: %s.", said or "it has no batch task yet")
        return {"batch_task_ids": ids, "outcomes": outcomes}

    def _read(self, hook: IoTDAHook, ids: list[str]) -> list[BatchTask]:
        """The batch tasks as far as they can be read, for people."""
        found = []
        for batch_task_id in ids:
            try:
                found.append(hook.get_batch_task(batch_task_id))
            except IoTDAError as error:
                self.log.info("%s", error)
        return found
