"""Sensors for batch tasks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseSensorOperator, PokeReturnValue, conf

from iotda_provider.exceptions import IoTDAError
from iotda_provider.models import TaskStatus
from iotda_provider.parameters import given, positive
from iotda_provider.sensors.rollout_guard import RolloutGuardSensor
from iotda_provider.waiting import DEFAULT_MAX_OUTAGE, ENDED, Outage, TaskWait, task_statuses

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from iotda_provider.hooks.iotda import IoTDAHook

__all__ = ["BatchTaskSensor", "RolloutGuardSensor"]


class BatchTaskSensor(BaseSensorOperator):
    """Wait until a batch task is in one of some statuses; returns its final state.

    XCom: the return value ``{"batch_task_id", "task_name", "task_type", "status", "status_desc",
    "progress", "create_time"}``.

    :param batch_task_id: the task to watch (templated)
    :param target_statuses: statuses that end the wait; all in which a task has ended, by default
    :param failure_statuses: statuses that fail the sensor at once with
        :class:`~iotda_provider.exceptions.BatchTaskFailedError`; looked at first. A task that ends
        in a status that is in neither list fails it too
    :param iotda_conn_id: the connection (templated)
    :param project_id: instead of the connection's (templated)
    :param instance_id: instead of the connection's (templated)
    :param deferrable: wait in the triggerer instead of in the worker
    :param max_outage: seconds that the wait outlives trouble at the API
    """

    template_fields: Sequence[str] = (
        "batch_task_id",
        "iotda_conn_id",
        "project_id",
        "instance_id",
    )
    ui_color = "#e3eef4"

    def __init__(
        self,
        *,
        batch_task_id: str,
        target_statuses: Iterable[TaskStatus | str] = ENDED,
        failure_statuses: Iterable[TaskStatus | str] = (TaskStatus.FAIL,),
        iotda_conn_id: str = "iotda_default",
        project_id: str | None = None,
        instance_id: str | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        max_outage: float = DEFAULT_MAX_OUTAGE,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.batch_task_id = batch_task_id
        self.target_statuses = task_statuses(target_statuses, "target_statuses")
        self.failure_statuses = task_statuses(failure_statuses, "failure_statuses")
        if not self.target_statuses:
            raise ValueError("target_statuses must not be empty")
        both = set(self.target_statuses) & set(self.failure_statuses)
        if both and self.target_statuses != ENDED:
            raise ValueError(
                f"failure_statuses must not hold what target_statuses holds: {sorted(both)} can't "
                "both end the wait well and fail it (failure_statuses is ('Fail',) by default; () "
                "lets nothing fail it)"
            )
        self.iotda_conn_id = iotda_conn_id
        self.project_id = project_id
        self.instance_id = instance_id
        self.deferrable = deferrable
        self.max_outage = positive(max_outage, "max_outage", zero=True)
        self._outage = Outage(self.max_outage)
        self._hook: IoTDAHook | None = None
        self._said = ""

    def poke(self, context: Context) -> PokeReturnValue:
        from iotda_provider.api import check_task_id

        wait = TaskWait(
            check_task_id(self.batch_task_id), self.target_statuses, self.failure_statuses
        )
        hook = self._connected()
        try:
            task = hook.get_batch_task(wait.batch_task_id)
        except IoTDAError as error:
            line = self._outage.trouble(error, time.monotonic())
            if line:
                self.log.warning("%s", line)
            return PokeReturnValue(is_done=False)
        if line := self._outage.over(time.monotonic()):
            self.log.warning("%s", line)
        now = f"{task.status}: {task.progress}"
        if now != self._said:
            self._said = now
            self.log.info("Batch task %s is %s.", wait.batch_task_id, now)
        return PokeReturnValue(is_done=wait.is_over(task), xcom_value=task.to_dict())

    def _connected(self) -> IoTDAHook:
        """One hook for all looks of a sensor that stays in its worker."""
        if self._hook is None:
            from iotda_provider.hooks.iotda import IoTDAHook

            self._hook = IoTDAHook(
                self.iotda_conn_id,
                project_id=given(self.project_id),
                instance_id=given(self.instance_id),
            )
        return self._hook
