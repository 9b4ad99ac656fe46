"""The base class of sensors that may wait in the triggerer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    Context,
)

from iotda_provider.airflow_support.deferral import DeferrableTask
from iotda_provider.airflow_support.mapped_xcoms import MappedXComsAsLists
from iotda_provider.waiting.deadline import Deadline

T = TypeVar("T")


class DeferringSensor(MappedXComsAsLists, DeferrableTask, BaseSensorOperator):
    """A sensor that fails, skips and times out in the triggerer as it does in a worker.

    With ``soft_fail``, Airflow skips a resumed task after any error, but a task in a worker only
    after a timeout or an ``AirflowFailException``. Here both skip after the latter only.
    """

    _timeout_error: BaseException | None = None

    def deadline(self, began: float) -> Deadline:
        """When this wait is over.

        :param began: when the task began, in seconds since the epoch
        """
        return Deadline.of(self.timeout, self.execution_timeout, began=began, now=time.time())

    def time_is_over(self, limit: str | None = None) -> BaseException:
        """The error for a wait whose time is over; with ``soft_fail``, a skip.

        :param limit: the parameter that the deadline comes from
        """
        if limit == "execution_timeout":
            return self.execution_timeout_error()
        message = f"Sensor has timed out: {self.timeout:.0f} s are over."
        kind = AirflowSkipException if self.soft_fail else AirflowSensorTimeout
        self._timeout_error = kind(message)
        return self._timeout_error

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> Any:
        resume = super().resume_execution
        return self.as_in_a_worker(lambda: resume(next_method, next_kwargs, context))

    def without_triggerer(self, context: Context) -> NoReturn:
        raise self.time_is_over(self.earlier_limit(self.timeout))

    def as_in_a_worker(self, act: Callable[[], T]) -> T:
        """Call a function, and skip after an error after which a poke in a worker skips."""
        try:
            return act()
        except AirflowSkipException:
            raise
        except (AirflowSensorTimeout, AirflowFailException) as error:
            if self.soft_fail and error is not self._timeout_error:
                raise AirflowSkipException(f"Skipping due to soft_fail: {error}") from error
            raise
