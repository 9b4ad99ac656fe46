"""A sensor that fails, skips and times out in the triggerer just as it does in the worker."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
)

from iotda_provider.airflow_support.deferral import DeferrableTask
from iotda_provider.airflow_support.mapped_xcoms import MappedXComsAsLists
from iotda_provider.waiting.deadline import Deadline

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

T = TypeVar("T")


class DeferringSensor(MappedXComsAsLists, DeferrableTask, BaseSensorOperator):
    """A sensor that may wait in the triggerer.

    Airflow's own resumption turns any error into a skip where ``soft_fail`` is set; in the worker
    only a timeout or an ``AirflowFailException`` is one. Here it is the same either way.
    """

    _over: BaseException | None = None

    def deadline(self, began: float) -> Deadline:
        """When this wait is over.

        :param began: when the task began, in seconds since 1970
        """
        return Deadline.of(self.timeout, self.execution_timeout, began=began, now=time.time())

    def time_is_over(self, limit: str | None = None) -> BaseException:
        """The error for a wait that ran out of its time: a skip where ``soft_fail`` is set.

        :param limit: the parameter that says so
        """
        if limit == "execution_timeout":
            return self.execution_timeout_error()
        message = f"Sensor has timed out: {self.timeout:.0f} s are over."
        self._over = (AirflowSkipException if self.soft_fail else AirflowSensorTimeout)(message)
        return self._over

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> Any:
        resume = super().resume_execution
        return self.as_in_a_worker(lambda: resume(next_method, next_kwargs, context))

    def without_triggerer(self, context: Context) -> NoReturn:
        raise self.time_is_over(self.earlier_limit(self.timeout))

    def as_in_a_worker(self, act: Callable[[], T]) -> T:
        """Do what a poke may do, and skip where a failing poke would skip."""
        try:
            return act()
        except AirflowSkipException:
            raise
        except (AirflowSensorTimeout, AirflowFailException) as error:
            if self.soft_fail and error is not self._over:
                raise AirflowSkipException(f"Skipping due to soft_fail: {error}") from error
            raise
