"""What all operators share: the connection, and the wait for a batch task in the worker."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, BaseOperator, Context

from iotda_provider.airflow_support.mapped_xcoms import MappedXComsAsLists
from iotda_provider.models import BatchTask
from iotda_provider.task_io.connected import ConnectedTask, look_at
from iotda_provider.task_io.parameters import positive
from iotda_provider.waiting.outage import DEFAULT_MAX_OUTAGE, Outage
from iotda_provider.waiting.task_wait import TaskWait

if TYPE_CHECKING:
    from iotda_provider.hooks.iotda import IoTDAHook

CONNECTION_FIELDS = ("iotda_conn_id", "project_id", "instance_id")


def refuse_mapped(operator: BaseOperator, context: Context, why: str) -> None:
    """Refuse to run as a mapped task instance.

    :param why: what would go wrong
    :raises AirflowFailException: this is a mapped task instance
    """
    ti: Any = context["ti"]
    if getattr(ti, "map_index", -1) >= 0:
        raise AirflowFailException(
            f"{type(operator).__name__} can't run mapped or in a mapped task group: {why}. Start "
            "one DAG run for each batch task instead (TriggerDagRunOperator)."
        )


class IoTDABaseOperator(ConnectedTask, MappedXComsAsLists):
    """An operator with an IoTDA connection.

    :param iotda_conn_id: the connection (templated)
    :param project_id: instead of the connection's (templated)
    :param instance_id: instead of the connection's (templated)
    :param max_outage: seconds for which a wait tolerates errors of the API
    """

    ui_color = "#f4e3e1"

    def __init__(
        self,
        *,
        iotda_conn_id: str = "iotda_default",
        project_id: str | None = None,
        instance_id: str | None = None,
        max_outage: float = DEFAULT_MAX_OUTAGE,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._connect_to(iotda_conn_id, project_id, instance_id)
        self.max_outage = positive(max_outage, "max_outage", zero=True)

    def wait_in_worker(
        self,
        hook: IoTDAHook,
        wait: TaskWait,
        *,
        poll_interval: float,
        timeout: float,
        show: Callable[[BatchTask], None] = lambda task: None,
    ) -> BatchTask:
        """Read a batch task every ``poll_interval`` seconds until the wait is over, and return it.

        :param wait: which batch task, and in which statuses the wait is over
        :param show: is called with the task after each successful read
        :raises BatchTaskTimeoutError: the wait was not over within ``timeout`` seconds
        :raises BatchTaskFailedError: the task has ended in a status that the wait is not for
        """
        deadline = time.monotonic() + timeout
        outage = Outage(self.max_outage)
        said = ""
        task: BatchTask | None = None
        while True:
            answer = look_at(hook, wait.batch_task_id, outage, self.log)
            task = answer or task
            if answer is not None:
                show(answer)
                if wait.is_over(answer):
                    return answer
            if task is not None and f"{task.status}: {task.progress}" != said:
                said = f"{task.status}: {task.progress}"
                self.log.info("Batch task %s is %s.", wait.batch_task_id, said)
            left = deadline - time.monotonic()
            if left <= 0:
                raise wait.timeout_error(timeout, said)
            time.sleep(min(poll_interval, left))
