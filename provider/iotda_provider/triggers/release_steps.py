"""Carries out in the triggerer what a procedure of a release asks for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from iotda_provider.airflow_support.threads import one_at_a_time
from iotda_provider.driving import drive_async
from iotda_provider.exceptions import IoTDAAuthError, IoTDATransportError
from iotda_provider.models import SubtaskStatus
from iotda_provider.release.steps import (
    Ask,
    Confirm,
    Note,
    ReadWaiting,
    ReadWaves,
    Recall,
    Sleep,
)
from iotda_provider.retrying import retries_unsaid

if TYPE_CHECKING:
    from iotda_provider.guarding import Step as GuardStep
    from iotda_provider.guarding.steps import Log
    from iotda_provider.guarding.steps import Procedure as GuardProcedure
    from iotda_provider.hooks.iotda_async import IoTDAAsyncHook
    from iotda_provider.release.steps import Procedure, Step
    from iotda_provider.release_files import ReleaseFiles
    from iotda_provider.triggers.guard_steps import TriggerSteps

T = TypeVar("T")
#: Seconds that a storage, or Airflow, may take to answer before the guard looks again.
_STORAGE_SECONDS = 30.0


class AskWorkerError(Exception):
    """The external evidence is asked for, and the user's function belongs into a worker."""


class TimeIsOverError(Exception):
    """The task's ``execution_timeout`` is over."""


class ReleaseSteps:
    """The asynchronous driver of a release's procedures.

    :param hook: an open hook
    :param guard: carries out what the guard asks for
    :param log: where its lines go
    :param files: where waves and confirmations are written down
    :param deadline: when the task's ``execution_timeout`` is over, in seconds since 1970
    :param show: is called before each wait, thus after each look
    """

    def __init__(
        self,
        hook: IoTDAAsyncHook,
        guard: TriggerSteps,
        log: Log,
        *,
        files: ReleaseFiles | None = None,
        deadline: float | None = None,
        show: Callable[[], None] = lambda: None,
    ) -> None:
        self._hook = hook
        self._guard = guard
        self._log = log
        self._files = files
        self._deadline = deadline
        self._show = show

    async def run(self, procedure: Procedure[T]) -> T:
        """Carry out all steps of a procedure; its result.

        :raises AskWorkerError: only a worker can go on
        :raises TimeIsOverError: it had to wait for longer than it may
        :raises IoTDAError: as the procedure does
        """
        with retries_unsaid():
            return await drive_async(procedure, self._do)

    async def sleep(self, seconds: float) -> None:
        """Wait.

        :raises TimeIsOverError: for longer than this task may
        """
        left = float("inf") if self._deadline is None else self._deadline - time.time()
        if left <= 0:
            raise TimeIsOverError
        await asyncio.sleep(max(0.0, min(seconds, left)))

    async def _do(self, step: Step) -> Any:
        try:
            return await self._carry_out(step)
        except IoTDAAuthError:
            # Perhaps the connection has new keys by the next look.
            await self._hook.close()
            raise

    async def _carry_out(self, step: Step) -> Any:
        if isinstance(step, Sleep):
            self._show()
            return await self.sleep(step.seconds)
        if isinstance(step, ReadWaiting):
            found = self._hook.iter_subtasks(step.batch_task_id, status=SubtaskStatus.WAITING)
            return {row.target async for row in found}
        if isinstance(step, Confirm):
            return await self._hook.confirm_batch_task(step.batch_task_id, list(step.targets))
        if isinstance(step, Ask):
            raise AskWorkerError
        if isinstance(step, (ReadWaves, Recall, Note)):
            files = self._files
            assert files is not None
            if isinstance(step, ReadWaves):
                return await self._read_waves(files)
            if isinstance(step, Recall):
                return await self._in_time(None, files.read_confirmed, self._log)
            write = files.write_confirmed
            return await self._in_time(False, write, step.record, self._log, urgent=step.urgent)
        return await self._guard.run(_alone(step))

    @staticmethod
    async def _read_waves(files: ReleaseFiles) -> Any:
        try:
            reading = one_at_a_time(files, files.read_waves)
            return await asyncio.wait_for(reading, _STORAGE_SECONDS)
        except asyncio.TimeoutError:
            raise IoTDATransportError(
                f"The waves can't be read within {_STORAGE_SECONDS:.0f} s."
            ) from None

    async def _in_time(
        self, otherwise: T, call: Callable[..., T], *args: Any, urgent: bool = False
    ) -> T:
        """Its result; another one where it takes so long that the guard has to look meanwhile.

        :param urgent: a stop waits for it
        """
        assert self._files is not None
        seconds = self._guard.patience_before_stop if urgent else _STORAGE_SECONDS
        try:
            return await asyncio.wait_for(one_at_a_time(self._files, call, *args), seconds)
        except asyncio.TimeoutError:
            self._log.warning("The release's files take longer than %.0f s.", seconds)
            return otherwise


def _alone(step: GuardStep) -> GuardProcedure[Any]:
    """A procedure of one step."""
    return (yield step)
