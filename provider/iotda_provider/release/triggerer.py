"""What a procedure of a release awaits in the triggerer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from iotda_provider.airflow_support.threads import one_at_a_time
from iotda_provider.api import Call
from iotda_provider.exceptions import IoTDAAuthError, IoTDATransportError
from iotda_provider.models import SubtaskStatus, TargetResults
from iotda_provider.notifications.audience import Audience
from iotda_provider.release.files_io import FilesOfRelease
from iotda_provider.rollout_guard import Log
from iotda_provider.rollout_guard.memory_store import NoMemoryStore, TriggererMemoryStore, short
from iotda_provider.rollout_guard.triggerer import TriggererGuardIO, TriggererRecall

if TYPE_CHECKING:
    from iotda_provider.hooks.iotda_async import IoTDAAsyncHook
    from iotda_provider.release.other_releases import ReleaseNote
    from iotda_provider.release.storage import ReleaseFiles

T = TypeVar("T")
#: The most seconds that the guard waits for a storage, or for many answers of Airflow.
_STORAGE_SECONDS = 30.0
#: The most seconds that the guard waits for Airflow to tell a person's answer.
_AIRFLOWS_SECONDS = 10.0
#: Seconds between two log lines about a question that can't be read.
_SAY_EVERY = 300.0


class AskWorkerError(Exception):
    """The external evidence or a metric is asked for: the user's function runs in workers only."""


class TimeIsOverError(Exception):
    """The task's ``execution_timeout`` is over."""


class TriggererReleaseIO(FilesOfRelease, TriggererGuardIO):
    """The asynchronous I/O object of a release's procedures, a
    :class:`~iotda_provider.release.release_io.ReleaseIO`, and of its open questions.

    :param hook: an open hook
    :param store: keeps the memory and the last alert
    :param log: where its lines go
    :param audience: whom to tell of events; None: nobody
    :param earlier_memory: what the guard knew before its triggerer was restarted; None: nothing
    :param files: where the release writes things down
    :param deadline: when the task's ``execution_timeout`` is over, in seconds since 1970
    """

    def __init__(
        self,
        hook: IoTDAAsyncHook,
        store: TriggererMemoryStore | NoMemoryStore,
        log: Log,
        audience: Audience | None = None,
        *,
        earlier_memory: TriggererRecall | None = None,
        files: ReleaseFiles | None = None,
        deadline: float | None = None,
    ) -> None:
        super().__init__(hook, store, log, audience, earlier_memory=earlier_memory)
        self._files = files
        # A path that hangs holds one thread, however many tries and waves wait for it.
        self._line = files and (files.manifest_path or files)
        self._deadline = deadline
        self._say_again = 0.0
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

    async def stop_task(self, batch_task_id: str) -> None:
        async with self._reading_new_keys():
            await super().stop_task(batch_task_id)

    async def perform(self, call: Call[T]) -> T:
        async with self._reading_new_keys():
            return await super().perform(call)

    async def other_releases(
        self, run: Mapping[str, Any], note: ReleaseNote | None
    ) -> list[ReleaseNote] | None:
        from iotda_provider.release.under_way import VARIABLE, recall

        in_turn = one_at_a_time(VARIABLE, recall, run, note, self._log)
        with suppress(asyncio.TimeoutError):
            # Airflow is asked about the DAG run of each of them.
            return await asyncio.wait_for(in_turn, _STORAGE_SECONDS)
        self._log.warning("Airflow does not answer about other releases (%s).", VARIABLE)
        return None

    async def read_targets(self, batch_task_id: str, status: SubtaskStatus) -> set[str]:
        async with self._reading_new_keys():
            found = self._hook.iter_subtasks(batch_task_id, status=status)
            return {row.target async for row in found}

    async def confirm(self, batch_task_id: str, targets: Sequence[str]) -> TargetResults:
        async with self._reading_new_keys():
            return await self._hook.confirm_batch_task(batch_task_id, list(targets))

    async def stored(self, call: Callable[[ReleaseFiles], T]) -> T:
        assert self._files is not None
        try:
            in_turn = one_at_a_time(self._line, call, self._files)
            return await asyncio.wait_for(in_turn, _STORAGE_SECONDS)
        except asyncio.TimeoutError:
            sentence = f"The release's files take longer than {_STORAGE_SECONDS:.0f} s."
            self._log.warning("%s", sentence)
            raise IoTDATransportError(sentence) from None

    async def read_answer(self, ti_id: str) -> Mapping[str, Any] | None:
        from iotda_provider.airflow_support.questions import read_answer

        found: Mapping[str, Any] | None = await self._at_airflow(ti_id, "read", read_answer)
        return found

    async def close_question(self, ti_id: str, option: str, because: str) -> None:
        from iotda_provider.airflow_support.questions import close

        await self._at_airflow(ti_id, "closed", close, option, because)

    async def _at_airflow(
        self, ti_id: str, what: str, call: Callable[..., Any], *arguments: Any
    ) -> Any:
        """Do something with a question; if Airflow can't now, log it, and do it later."""
        try:
            in_turn = one_at_a_time(("question", ti_id), call, ti_id, *arguments)
            return await asyncio.wait_for(in_turn, _AIRFLOWS_SECONDS)
        except Exception as error:  # noqa: BLE001 - Airflow's database may be down: guard on
            if time.time() >= self._say_again:
                self._say_again = time.time() + _SAY_EVERY
                said = "The question could not be %s at Airflow; the guard goes on: %s"
                self._log.warning(said, what, short(error))
            return None

    async def sleep(self, seconds: float) -> None:
        self.show()
        await self.pause(seconds)

    async def pause(self, seconds: float) -> None:
        """Wait.

        :raises TimeIsOverError: the task's ``execution_timeout`` is over before
        """
        left = float("inf") if self._deadline is None else self._deadline - time.time()
        if left <= 0:
            raise TimeIsOverError
        await asyncio.sleep(max(0.0, min(seconds, left)))

    async def ask(self, facts: Mapping[str, Any]) -> str:
        raise AskWorkerError

    async def measure(self, device_ids: Sequence[str]) -> Mapping[str, bool | None]:
        raise AskWorkerError
