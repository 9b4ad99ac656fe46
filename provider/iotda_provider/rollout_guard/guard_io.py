"""The I/O object that the watch over a rollout needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from iotda_provider.exceptions import IoTDAAuthError, IoTDAError
from iotda_provider.models import BatchTask, Subtask
from iotda_provider.rollout_guard.alerts import Alert
from iotda_provider.rollout_guard.failure_tally import Tally


class GuardIO(Protocol):
    """A guard's procedures await these methods and nothing else.

    In a worker the methods block and never suspend; in the triggerer they suspend.
    """

    async def read_tasks(self, batch_task_ids: Sequence[str]) -> list[BatchTask | IoTDAError]:
        """Read some batch tasks.

        :returns: for each id, in order, the batch task or the error that its call raised
        """

    async def read_failed(self, batch_task_id: str, tally: Tally) -> None:
        """Pass every failed subtask of a batch task to ``tally.add``.

        :raises IoTDAError: not all of them could be read
        """

    async def read_retrying(
        self, batch_task_id: str, add: Callable[[Subtask], None], most: int
    ) -> None:
        """Pass the subtasks of a batch task that wait for a retry to ``add``, ``most`` at most.

        :raises IoTDAError: not all of them could be read
        """

    async def stop_task(self, batch_task_id: str) -> None:
        """Stop one whole batch task; returns once the platform has accepted the stop.

        :raises IoTDAError: the platform has not accepted it
        """

    async def rehearse_stop(self, batch_task_id: str) -> None:
        """Ask the platform to stop a target that is in no batch task.

        :raises IoTDAError: with status 403, this connection may not stop the batch task
        """

    async def save(self, memory: Mapping[str, Any], *, routine: bool = False) -> bool:
        """Save the memory where it survives a restart.

        :param routine: no decision depends on this save, so nothing waits for its end
        :returns: whether the memory was saved; of a routine save, whether it was begun
        """

    async def pause(self, seconds: float) -> None:
        """Let time pass."""

    async def tell(self, alert: Alert) -> None:
        """Begin to tell a person, and return without waiting for the end of it."""


def are_all_refused(answers: Sequence[BatchTask | IoTDAError]) -> bool:
    """Whether the platform has refused the credentials for every batch task.

    If only some are refused, the keys are good. Then the hook stays open, because a stop of the
    others must not wait until Airflow has looked the connection up again.
    """
    return bool(answers) and all(isinstance(answer, IoTDAAuthError) for answer in answers)
