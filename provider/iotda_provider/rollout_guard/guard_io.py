"""What the watch over a rollout needs of where it runs: its I/O object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from iotda_provider.exceptions import IoTDAError
from iotda_provider.models import BatchTask
from iotda_provider.rollout_guard.alerts import Alert
from iotda_provider.rollout_guard.failure_tally import Tally


class GuardIO(Protocol):
    """What a guard's procedure awaits, and nothing else.

    The worker's object blocks in these methods and never suspends; the triggerer's awaits.
    """

    async def read_tasks(self, batch_task_ids: Sequence[str]) -> list[BatchTask | IoTDAError]:
        """Read some batch tasks; for each, in their order, the task or why it can't be read."""

    async def read_failed(self, batch_task_id: str, tally: Tally) -> None:
        """Show every failed subtask of a task to ``tally.add``.

        :raises IoTDAError: they could not be read to the end
        """

    async def stop_task(self, batch_task_id: str) -> None:
        """Stop one whole batch task; returns once the platform has accepted it.

        :raises IoTDAError: it has not
        """

    async def rehearse_stop(self, batch_task_id: str) -> None:
        """Ask for the stop of a target that is in no task.

        :raises IoTDAError: with status 403, the guard may not stop this task
        """

    async def save(self, memory: Mapping[str, Any], *, routine: bool = False) -> bool:
        """Keep the memory where it survives a restart; whether that worked.

        :param routine: nothing hangs on this one, so nothing waits for it
        """

    async def tell(self, alert: Alert) -> None:
        """Begin to tell a person; nothing waits until that is done."""
