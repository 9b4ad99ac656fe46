"""Deferral: a task waits in the triggerer, and resumes with its event or after a timeout."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowTaskTimeout, BaseOperator

from iotda_provider.airflow_support.trigger_events import TIMEOUT, Event, nonsense

# What Airflow's scheduler calls the end of a deferral's own time; the second one is of Airflow 2.
_TIMEOUTS = ("Trigger timeout", "Trigger/execution timeout")

if TYPE_CHECKING:
    from datetime import timedelta

    from airflow.providers.common.compat.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from iotda_provider.waiting.deadline import Deadline

    Operator = BaseOperator
else:
    # Airflow would give an operator mixin an __init__ that skips the next class's.
    Operator = object


class DeferrableTask(Operator):
    """A mixin for operators and sensors that defer; name it before the base class.

    ``self`` is lost by a deferral. A subclass continues in :meth:`resumed` with the trigger's
    event, or in :meth:`without_triggerer` if no event came in time.
    """

    def wait_in_triggerer(
        self, trigger: BaseTrigger, deadline: Deadline, poll_interval: float
    ) -> NoReturn:
        """Defer: release the worker's slot until the trigger sends an event.

        Airflow's own timeout is set, too; it is later than the trigger's deadline.

        :param deadline: when the trigger ends the wait
        :param poll_interval: seconds between two looks of the trigger
        """
        self.wait_for_event(trigger, deadline.for_airflow(poll_interval, now=time.time()))

    def wait_for_event(self, trigger: BaseTrigger, timeout: timedelta | None) -> NoReturn:
        """Defer until the trigger sends an event.

        :param timeout: Airflow's own, which serves where no triggerer runs; None: it has none
        """
        self.defer(
            trigger=trigger,
            method_name="execute_complete",  # stored in Airflow's database
            timeout=timeout,
        )
        raise AssertionError("defer() returned")

    def execute_complete(self, context: Context, event: Any = None) -> Any:
        """Resume with the trigger's event.

        :raises IoTDAError: the event makes no sense, or reports an error
        """
        return self.resumed(context, Event.read(event, self.waited_for(context)))

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> Any:
        if is_airflows_timeout(next_method, next_kwargs):
            return self.without_triggerer(context)
        # Not BaseSensorOperator's: with soft_fail it turns every error into a skip.
        return BaseOperator.resume_execution(self, next_method, next_kwargs, context)

    @abstractmethod
    def waited_for(self, context: Context) -> Sequence[str]:
        """The batch tasks that the trigger's event must be about."""

    @abstractmethod
    def resumed(self, context: Context, event: Event) -> Any:
        """Continue with the trigger's event; the return value is the task's."""

    @abstractmethod
    def without_triggerer(self, context: Context) -> Any:
        """Continue after Airflow's own timeout: no triggerer has sent an event."""

    def earlier_limit(self, timeout: float) -> str:
        """Which limit is shorter: ``timeout`` (in seconds) or ``execution_timeout``."""
        whole = self.execution_timeout
        shorter = whole is not None and whole.total_seconds() < timeout
        return "execution_timeout" if shorter else "timeout"

    def execution_timeout_error(self) -> AirflowTaskTimeout:
        """The error that Airflow raises if a task in a worker takes too long."""
        return AirflowTaskTimeout(f"execution_timeout of {self.execution_timeout} is over")

    def error_of(self, event: Event) -> BaseException:
        """What to raise for an event that has no result."""
        if event.status == TIMEOUT:
            return self.execution_timeout_error()
        return event.error or nonsense(event, "it has no result")


def is_airflows_timeout(next_method: str, next_kwargs: Mapping[str, Any] | None) -> bool:
    """Whether a deferred task resumes because of Airflow's own timeout."""
    error = (next_kwargs or {}).get("error")
    return next_method == "__fail__" and str(getattr(error, "value", error)) in _TIMEOUTS
