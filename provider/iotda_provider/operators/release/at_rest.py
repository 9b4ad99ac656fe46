"""The operator that waits until no device of a release is installing any more."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NoReturn

from airflow.providers.common.compat.sdk import Context, conf

from iotda_provider.airflow_support.deferral import DeferrableTask
from iotda_provider.airflow_support.trigger_events import Event
from iotda_provider.operators.base import CONNECTION_FIELDS, IoTDABaseOperator
from iotda_provider.release.at_rest import RestJob, UntilAtRest
from iotda_provider.release.worker import MustWaitError, WorkerReleaseIO
from iotda_provider.task_io.dag_parameters import flag, ids_or_template, is_template
from iotda_provider.task_io.parameters import (
    batch_task_ids,
    positive,
    read_number,
    read_whole_number,
)
from iotda_provider.waiting.deadline import Deadline


class WaitUntilAtRestOperator(DeferrableTask, IoTDABaseOperator):
    """Wait until no device of some batch tasks is installing, and a while longer after a stop.

    A stop does not interrupt a device that is installing: it may finish afterwards, and the
    platform does not show that. When its time is over the task succeeds all the same, and says how
    many devices are left; reconciling counts them as ``unfinished``. ``lost`` lists the batch tasks
    that are gone: then ``at_rest`` is false, and the counts are those of the batch tasks in
    ``found``.

    XCom: the return value ``{"batch_task_ids", "at_rest", "under_way", "status", "found", "lost",
    "progress"}``.

    :param batch_task_id: the batch task, or the list of those of one release; if it is empty,
        there is nothing to wait for (templated)
    :param grace: seconds to wait after a task was stopped, for devices that were installing
        (templated)
    :param exposed: how many devices were confirmed, if that is known: if as many have succeeded
        or failed, none was installing, and there is no grace (templated)
    :param timeout: seconds to wait at most
    :param poll_interval: seconds between two looks
    :param deferrable: wait in the triggerer instead of in the worker
    :param iotda_conn_id: the connection (templated)
    :param project_id: instead of the connection's (templated)
    :param instance_id: instead of the connection's (templated)
    """

    template_fields: Sequence[str] = ("batch_task_id", "grace", "exposed", *CONNECTION_FIELDS)

    def __init__(
        self,
        *,
        batch_task_id: Any,
        grace: Any = 600,
        exposed: Any = None,
        timeout: float = 6 * 3600,
        poll_interval: float = 10,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.batch_task_id = ids_or_template(batch_task_id)
        self.grace = grace if is_template(grace) else positive(grace, "grace", zero=True)
        self.exposed = exposed
        self.timeout = positive(timeout, "timeout")
        self.poll_interval = positive(poll_interval, "poll_interval")
        self.deferrable = flag(deferrable, "deferrable")

    def execute(self, context: Context) -> dict[str, Any]:
        return self._work(context, self._job(self.timeout))

    def _job(self, timeout: float) -> RestJob:
        return RestJob(
            batch_task_ids=batch_task_ids(self.batch_task_id, empty=True),
            grace=read_number(self.grace, "grace", zero=True),
            exposed=None
            if self.exposed is None
            else read_whole_number(self.exposed, "exposed", zero=True),
            poll_interval=self.poll_interval,
            max_outage=self.max_outage,
            deadline=time.time() + timeout,
        )

    def _work(self, context: Context, job: RestJob) -> dict[str, Any]:
        began = time.time()
        try:
            waits = not self.deferrable
            with self.hook() as hook, WorkerReleaseIO(hook, context, self.log, waits=waits) as io:
                return io.run(UntilAtRest(job, self.log, clock=time.time).run(io))
        except MustWaitError as wait:
            self._defer(job, began=began, wait=wait.seconds)

    def _defer(self, job: RestJob, *, began: float, wait: float) -> NoReturn:
        from iotda_provider.triggers.release import AtRestTrigger

        now, whole = time.time(), self.execution_timeout
        left = max(0.0, job.deadline - now) + job.grace
        limit = Deadline.of(left, whole, began=began, now=now)
        trigger = AtRestTrigger(
            job=job.to_json(),
            began=began,
            starts_at=now + wait,
            deadline=None if whole is None else began + whole.total_seconds(),
            **self.connection,
        )
        self.wait_in_triggerer(trigger, limit, self.poll_interval)

    def waited_for(self, context: Context) -> Sequence[str]:
        return batch_task_ids(self.batch_task_id, empty=True)

    def resumed(self, context: Context, event: Event) -> dict[str, Any]:
        if event.result is not None:
            return dict(event.result)
        raise self.error_of(event)

    def without_triggerer(self, context: Context) -> dict[str, Any]:
        if self.earlier_limit(self.timeout) == "execution_timeout":
            raise self.execution_timeout_error()
        # No triggerer has been there to say that the time is over.
        return self._work(context, self._job(0.0))
