"""The operator that stops a release which may not go on, for a person or its evidence says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from iotda_provider.exceptions import IoTDANotFoundError, IoTDAParameterError
from iotda_provider.operators.batch_task.stop import StopBatchTaskOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class StopReleaseOperator(StopBatchTaskOperator):
    """Stop the batch task of a release in waves, and let what follows wait for its end.

    Devices that are installing may take hours to end, and the platform calls the task ``Stopping``
    until then; the release is over as soon as the stop was taken. A batch task that somebody has
    deleted lets nobody start any more, and needs no stop.

    XComs: those of ``StopBatchTaskOperator``, whose arguments it takes; of a batch task that is
    gone, the return value ``{"batch_task_id", "outcome": "gone"}``.
    """

    def __init__(self, **kwargs: Any) -> None:
        if "wait_for_completion" in kwargs:
            raise IoTDAParameterError(
                "wait_for_completion can't be given: StopReleaseOperator never waits for devices "
                "that are installing. WaitUntilAtRestOperator does."
            )
        super().__init__(wait_for_completion=False, **kwargs)

    def execute(self, context: Context) -> dict[str, Any]:
        try:
            return super().execute(context)
        except IoTDANotFoundError as error:
            self.log.warning("There is nothing left to stop: %s", error)
            return {"batch_task_id": self.batch_task_id, "outcome": "gone"}
