"""What a procedure of a release awaits in the triggerer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from iotda_provider.airflow_support.threads import one_at_a_time
from iotda_provider.exceptions import IoTDAAuthError, IoTDATransportError
from iotda_provider.models import SubtaskStatus
from iotda_provider.rollout_guard.triggerer import TriggererGuardIO

if TYPE_CHECKING:
    from iotda_provider.hooks.iotda_async import IoTDAAsyncHook
    from iotda_provider.models import Subtask, TargetResults
    from iotda_provider.release.storage import ReleaseFiles
    from iotda_provider.rollout_guard import Log
    from iotda_provider.rollout_guard.failure_tally import Tally
    from iotda_provider.rollout_guard.memory_store import NoMemoryStore, TriggererMemoryStore
    from iotda_provider.rollout_guard.triggerer import TriggererRecall

T = TypeVar("T")
#: Seconds that a storage, or Airflow, may take to answer before the guard looks again.
_STORAGE_SECONDS = 30.0


class AskWorkerError(Exception):
    """The external evidence is asked for, and the user's function belongs into a worker."""


class TimeIsOverError(Exception):
    """The task's ``execution_timeout`` is over."""


class TriggererReleaseIO(TriggererGuardIO):
    """The asynchronous I/O object of a release's procedures, a
    :class:`~iotda_provider.release.release_io.ReleaseIO`.

    :param hook: an open hook
    :param store: keeps the memory and the last alert
    :param log: where its lines go
    :param on_alert: the dotted path of a function to call besides
    :param earlier_memory: what the guard knew before its triggerer was restarted; None: nothing
    :param files: where waves and confirmations are written down
    :param deadline: when the task's ``execution_timeout`` is over, in seconds since 1970
    """

    def __init__(
        self,
        hook: IoTDAAsyncHook,
        store: TriggererMemoryStore | NoMemoryStore,
        log: Log,
        on_alert: str | None = None,
        *,
        earlier_memory: TriggererRecall | None = None,
        files: ReleaseFiles | None = None,
        deadline: float | None = None,
    ) -> None:
        super().__init__(hook, store, log, on_alert, earlier_memory=earlier_memory)
        self._files = files
        # A path that hangs holds one thread, however many tries and waves wait for it.
        self._line = files and (files.manifest_path or files)
        self._deadline = deadline
        #: Called before each wait, thus after each look.
        self.show: Callable[[], None] = lambda: None

    @asynccontextmanager
    async def _reading_new_keys(self) -> AsyncIterator[None]:
        try:
            yield
        except IoTDAAuthError:
            # Perhaps the connection has new keys by the next look.
            await self._hook.close()
            raise

    async def read_failed(self, batch_task_id: str, tally: Tally) -> None:
        async with self._reading_new_keys():
            await super().read_failed(batch_task_id, tally)

    async def read_retrying(
        self, batch_task_id: str, add: Callable[[Subtask], None], most: int
    ) -> None:
        async with self._reading_new_keys():
            await super().read_retrying(batch_task_id, add, most)

    async def stop_task(self, batch_task_id: str) -> None:
        async with self._reading_new_keys():
            await super().stop_task(batch_task_id)

    async def rehearse_stop(self, batch_task_id: str) -> None:
        async with self._reading_new_keys():
            await super().rehearse_stop(batch_task_id)

    async def read_waves(self) -> list[list[str]]:
        assert self._files is not None
        try:
            reading = one_at_a_time(self._line, self._files.read_waves)
            return await asyncio.wait_for(reading, _STORAGE_SECONDS)
        except asyncio.TimeoutError:
            raise IoTDATransportError(
                f"The waves can't be read within {_STORAGE_SECONDS:.0f} s."
            ) from None

    async def read_waiting(self, batch_task_id: str) -> set[str]:
        async with self._reading_new_keys():
            found = self._hook.iter_subtasks(batch_task_id, status=SubtaskStatus.WAITING)
            return {row.target async for row in found}

    async def confirm(self, batch_task_id: str, targets: Sequence[str]) -> TargetResults:
        async with self._reading_new_keys():
            return await self._hook.confirm_batch_task(batch_task_id, list(targets))

    async def recall(self, *, urgent: bool = False) -> list[Any] | None:
        assert self._files is not None
        return await self._in_time(None, self._files.read_confirmed, self._log, urgent=urgent)

    async def note(self, record: Mapping[str, Any], *, urgent: bool = False) -> bool:
        assert self._files is not None
        write = self._files.write_confirmed
        return await self._in_time(False, write, record, self._log, urgent=urgent)

    async def sleep(self, seconds: float) -> None:
        self.show()
        await self.pause(seconds)

    async def pause(self, seconds: float) -> None:
        """Wait.

        :raises TimeIsOverError: for longer than this task may
        """
        left = float("inf") if self._deadline is None else self._deadline - time.time()
        if left <= 0:
            raise TimeIsOverError
        await asyncio.sleep(max(0.0, min(seconds, left)))

    async def ask(self, facts: Mapping[str, Any]) -> str:
        raise AskWorkerError

    async def _in_time(
        self, otherwise: T, call: Callable[..., T], *args: Any, urgent: bool = False
    ) -> T:
        """Its result; another one where it takes so long that the guard has to look meanwhile.

        :param urgent: a stop waits for it
        """
        assert self._files is not None
        seconds = self.patience_before_stop if urgent else _STORAGE_SECONDS
        try:
            return await asyncio.wait_for(one_at_a_time(self._line, call, *args), seconds)
        except asyncio.TimeoutError:
            self._log.warning("The release's files take longer than %.0f s.", seconds)
            return otherwise
