"""Sensors for batch tasks."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    Context,
    PokeReturnValue,
    conf,
)

from iotda_provider.airflow_support.deferral import DeferrableTask
from iotda_provider.airflow_support.mapped_xcoms import MappedXComsAsLists
from iotda_provider.airflow_support.trigger_events import Event
from iotda_provider.airflow_support.user_kills import note_try
from iotda_provider.exceptions import IoTDAConfigError, IoTDAError, TaskNotStoppableError
from iotda_provider.models import TaskStatus
from iotda_provider.models.lazy_names import lazily
from iotda_provider.task_io.connected import ConnectedTask, look_at
from iotda_provider.task_io.dag_parameters import check_sensor_times, flag, id_or_template
from iotda_provider.task_io.parameters import positive
from iotda_provider.waiting.deadline import Deadline
from iotda_provider.waiting.outage import DEFAULT_MAX_OUTAGE, Outage
from iotda_provider.waiting.task_wait import ENDED, TaskWait, task_statuses

if TYPE_CHECKING:
    from iotda_provider.hooks.iotda import IoTDAHook
    from iotda_provider.sensors.rollout_guard import RolloutGuardSensor

__all__ = ["BatchTaskSensor", "RolloutGuardSensor"]

__getattr__ = lazily(__name__, {"rollout_guard": ("RolloutGuardSensor",)})

T = TypeVar("T")
# `{{ params.x }}` and `{{ params['x'] }}`: the only templates that a triggerer renders correctly.
_PARAMS = re.compile(r"\{\{-?\s*params(\.\w+|\[\s*(['\"])\w+\2\s*\])+\s*-?\}\}")


class BatchTaskSensor(ConnectedTask, MappedXComsAsLists, DeferrableTask, BaseSensorOperator):
    """Wait until a batch task has one of some statuses; returns the batch task.

    XCom: the return value ``{"batch_task_id", "task_name", "task_type", "status", "status_desc",
    "progress", "create_time"}``.

    With ``soft_fail``, Airflow skips a resumed task after any error, but a task in a worker only
    after a timeout or an ``AirflowFailException``. Here both skip after the latter only.

    :param batch_task_id: the batch task to watch (templated)
    :param target_statuses: statuses that end the wait; by default, all final statuses
    :param failure_statuses: statuses that fail the sensor at once with
        :class:`~iotda_provider.exceptions.BatchTaskFailedError`; they are checked first. A final
        status that is in neither list fails the sensor too
    :param iotda_conn_id: the connection (templated)
    :param project_id: instead of the connection's (templated)
    :param instance_id: instead of the connection's (templated)
    :param deferrable: wait in the triggerer instead of in the worker
    :param start_from_trigger: start in the triggerer, and end there if the wait succeeds, so that
        no worker is needed (Airflow 3.3 and later). Templated parameters must then be plain text,
        or hold no template but ``{{ params.x }}``; not for mapped tasks
    :param stop_on_kill: stop the batch task when a user ends this task instance, that is, marks or
        clears it. In a worker, an eviction and the end of ``execution_timeout`` stop it too,
        because Airflow does not tell them apart
    :param max_outage: the most seconds without an answer from the API; a longer outage fails the
        sensor. With ``mode="reschedule"`` each look is a process of its own that counts anew, so
        only ``timeout`` ends the wait
    :raises ValueError: a parameter is invalid; the message names it
    """

    template_fields: Sequence[str] = (
        "batch_task_id",
        "iotda_conn_id",
        "project_id",
        "instance_id",
    )
    ui_color = "#e3eef4"
    _timeout_error: BaseException | None = None

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
        start_from_trigger: bool = False,
        stop_on_kill: bool = False,
        max_outage: float = DEFAULT_MAX_OUTAGE,
        **kwargs: Any,
    ) -> None:
        check_sensor_times(kwargs)
        super().__init__(**kwargs)
        # With start_from_trigger, the id is checked more strictly below.
        self.batch_task_id = batch_task_id if start_from_trigger else id_or_template(batch_task_id)
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
        self._connect_to(iotda_conn_id, project_id, instance_id)
        in_triggerer = (
            flag(deferrable, "deferrable"),
            flag(start_from_trigger, "start_from_trigger"),
        )
        self.deferrable = any(in_triggerer)
        if self.deferrable:
            for name in ("silent_fail", "never_fail"):
                if getattr(self, name):
                    raise ValueError(
                        f"{name}: a deferred sensor waits once and fails once, not at each look: "
                        "leave it out (max_outage tolerates an outage of the API), or set "
                        "deferrable=False"
                    )
        self.stop_on_kill = flag(stop_on_kill, "stop_on_kill")
        self.max_outage = positive(max_outage, "max_outage", zero=True)
        self._outage = Outage(self.max_outage)
        self._hook: IoTDAHook | None = None
        self._said = ""
        if start_from_trigger:
            from airflow.triggers.base import StartTriggerArgs

            check_start_from_trigger({name: getattr(self, name) for name in self.template_fields})
            check_plain_id(batch_task_id)
            self.start_from_trigger = True
            # Airflow counts the timeout from the start of the wait, not from the DAG's parsing.
            self.start_trigger_args = StartTriggerArgs(
                trigger_cls="iotda_provider.triggers.batch_task.BatchTaskTrigger",
                trigger_kwargs={**self._trigger_arguments(), "end_from_trigger": True},
                next_method="execute_complete",
                next_kwargs=None,
                timeout=timedelta(seconds=self.timeout),
            )

    def execute(self, context: Context) -> Any:
        began = time.time()
        self._outage = Outage(self.max_outage)  # rescheduled looks may share this object
        try:
            if not self.deferrable:
                return super().execute(context)
            # The first look is in the worker: the wait may be over, or an id or key be wrong.
            look = self._as_in_a_worker(lambda: self.poke(context))
        finally:
            self.close()
        if look:
            return look.xcom_value
        from iotda_provider.triggers.batch_task import BatchTaskTrigger

        if self.stop_on_kill:
            note_try(context["ti"])
        times = (self.timeout, self.execution_timeout)
        deadline = Deadline.of(*times, began=began, now=time.time())
        trigger = BatchTaskTrigger(
            **self._trigger_arguments(), deadline=deadline.at, limit=deadline.limit
        )
        return self.wait_in_triggerer(trigger, deadline, self.poke_interval)

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> Any:
        resume = super().resume_execution
        return self._as_in_a_worker(lambda: resume(next_method, next_kwargs, context))

    def without_triggerer(self, context: Context) -> NoReturn:
        raise self._time_is_over(self.earlier_limit(self.timeout))

    def waited_for(self, context: Context) -> Sequence[str]:
        return (self.batch_task_id,)

    def resumed(self, context: Context, event: Event) -> dict[str, Any]:
        if event.error is not None:
            raise event.error
        if event.task is None:
            raise self._time_is_over(event.limit)
        wait = TaskWait(self.batch_task_id, self.target_statuses, self.failure_statuses)
        if not wait.is_over(event.task):
            raise IoTDAError(f"The triggerer ended a wait that is not over: {event.task}")
        return event.task.to_dict()

    def _time_is_over(self, limit: str | None) -> BaseException:
        """The error for a wait whose time is over; with ``soft_fail``, a skip.

        :param limit: the parameter that the deadline comes from
        """
        if limit == "execution_timeout":
            return self.execution_timeout_error()
        message = f"Sensor has timed out: {self.timeout:.0f} s are over."
        kind = AirflowSkipException if self.soft_fail else AirflowSensorTimeout
        self._timeout_error = kind(message)
        return self._timeout_error

    def _as_in_a_worker(self, act: Callable[[], T]) -> T:
        """Call a function, and skip after an error after which a poke in a worker skips."""
        try:
            return act()
        except AirflowSkipException:
            raise
        except (AirflowSensorTimeout, AirflowFailException) as error:
            if self.soft_fail and error is not self._timeout_error:
                raise AirflowSkipException(f"Skipping due to soft_fail: {error}") from error
            raise

    def on_kill(self) -> None:
        """Stop the batch task if ``stop_on_kill`` is set."""
        if not self.stop_on_kill:
            return
        for error in self._connected().stop_whole_tasks((self.batch_task_id,)).values():
            if error is not None and not isinstance(error, TaskNotStoppableError):
                raise error

    def close(self) -> None:
        """Close the hook of all looks."""
        if self._hook is not None:
            self._hook.close()
            self._hook = None

    def _trigger_arguments(self) -> dict[str, Any]:
        return {
            "batch_task_id": self.batch_task_id,
            "target_statuses": list(self.target_statuses),
            "failure_statuses": list(self.failure_statuses),
            **self.connection,
            "poll_interval": self.poke_interval,
            "max_outage": self.max_outage,
            "stop_on_kill": self.stop_on_kill,
        }

    def poke(self, context: Context) -> PokeReturnValue:
        from iotda_provider.api import check_task_id

        wait = TaskWait(
            check_task_id(self.batch_task_id), self.target_statuses, self.failure_statuses
        )
        hook = self._connected()
        task = look_at(hook, wait.batch_task_id, self._outage, self.log)
        if task is None:
            return PokeReturnValue(is_done=False)
        now = f"{task.status}: {task.progress}"
        if now != self._said:
            self._said = now
            self.log.info("Batch task %s is %s.", wait.batch_task_id, now)
        return PokeReturnValue(is_done=wait.is_over(task), xcom_value=task.to_dict())

    def _connected(self) -> IoTDAHook:
        """The hook of all looks in this worker."""
        if self._hook is None:
            self._hook = self.hook()
        return self._hook


def check_start_from_trigger(fields: Mapping[str, Any]) -> None:
    """Check that a sensor with these templated fields may start in the triggerer.

    A triggerer does not render XComs and other templates, and the wait would never end.

    :param fields: the values of the templated parameters, by name
    :raises ValueError: a value has a template other than ``params``; or Airflow is too old
    """
    from airflow import __version__

    if tuple(int(part) for part in __version__.split(".")[:2]) < (3, 3):
        raise ValueError(
            f"start_from_trigger needs Airflow 3.3 or later, this is {__version__}: use "
            "deferrable=True"
        )
    for name, value in fields.items():
        if value is None:
            continue
        left = _PARAMS.sub("", value) if isinstance(value, str) else None
        if left is None or "{{" in left or "{%" in left or "{#" in left:
            raise ValueError(
                f"start_from_trigger: {name} must be plain text or hold nothing but "
                f"'{{{{ params.x }}}}', because a triggerer renders nothing else; got {value!r}. "
                "Use deferrable=True instead"
            )


def check_plain_id(value: str) -> None:
    """Check a batch task id when the DAG is parsed, unless it is a template.

    :raises ValueError: it is not a batch task id
    """
    from iotda_provider.api import check_task_id

    if "{{" not in value:
        try:
            check_task_id(value)
        except IoTDAConfigError as error:
            raise ValueError(str(error)) from None
