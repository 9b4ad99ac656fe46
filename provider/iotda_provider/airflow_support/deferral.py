"""Deferral, written once: waits in the triggerer, goes on with its event or without a triggerer."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowTaskTimeout, BaseOperator

from iotda_provider.airflow_support.trigger_events import Event

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from iotda_provider.waiting.deadline import Deadline

    Operator = BaseOperator
else:
    # Airflow would give a mixin that is an operator an __init__, which skips its neighbour's.
    Operator = object


class DeferrableTask(Operator):
    """An operator or a sensor that may wait in the triggerer; name it before the base class.

    ``self`` is lost over a deferral. A subclass goes on in :meth:`resumed` with what the trigger
    has sent, and in :meth:`without_triggerer` where no triggerer has sent anything in time.
    """

    def wait_in_triggerer(
        self, trigger: BaseTrigger, deadline: Deadline, poll_interval: float
    ) -> NoReturn:
        """Give the worker's slot back until the trigger has something to tell.

        Airflow's own limit is set too, later than the trigger's, which speaks first.

        :param deadline: when the trigger ends the wait by itself
        :param poll_interval: seconds between two looks of the trigger
        """
        self.defer(
            trigger=trigger,
            method_name="execute_complete",  # it stands in Airflow's database
            timeout=deadline.for_airflow(poll_interval, now=time.time()),
        )
        raise AssertionError("defer() returned")

    def execute_complete(self, context: Context, event: Any = None) -> Any:
        """Go on where the triggerer has ended.

        :raises IoTDAError: the event makes no sense, or says that the wait ended with an error
        """
        return self.resumed(context, Event.read(event, self.waited_for(context)))

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> Any:
        if is_airflows_timeout(next_method, next_kwargs):
            return self.without_triggerer(context)
        # Not BaseSensorOperator's, which turns every error into a skip where soft_fail is set.
        return BaseOperator.resume_execution(self, next_method, next_kwargs, context)

    @abstractmethod
    def waited_for(self, context: Context) -> Sequence[str]:
        """The batch tasks that the trigger's event has to be about."""

    @abstractmethod
    def resumed(self, context: Context, event: Event) -> Any:
        """Go on with what the trigger has sent; the return value is the task's."""

    @abstractmethod
    def without_triggerer(self, context: Context) -> Any:
        """Go on once Airflow's own limit is over: no triggerer has been there to say so."""

    def earlier_limit(self, timeout: float) -> str:
        """Which limit ends first: ``timeout``, so many seconds long, or ``execution_timeout``."""
        whole = self.execution_timeout
        shorter = whole is not None and whole.total_seconds() < timeout
        return "execution_timeout" if shorter else "timeout"

    def execution_timeout_error(self) -> AirflowTaskTimeout:
        """What Airflow raises where a task in a worker has taken too long."""
        return AirflowTaskTimeout(f"execution_timeout of {self.execution_timeout} is over")


def is_airflows_timeout(next_method: str, next_kwargs: Mapping[str, Any] | None) -> bool:
    """Whether a deferred task is resumed only because the framework's own limit is over."""
    error = (next_kwargs or {}).get("error")
    return next_method == "__fail__" and str(getattr(error, "value", error)) == "Trigger timeout"
