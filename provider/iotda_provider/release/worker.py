"""What a procedure of a release awaits in a worker: all of it blocks, nothing suspends."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from airflow.providers.common.compat.sdk import Context

from iotda_provider.api import Call
from iotda_provider.exceptions import IoTDAAuthError, IoTDAError
from iotda_provider.hooks.procedure_io import BlockingIO
from iotda_provider.models import BatchTask, Subtask, SubtaskStatus, TargetResults
from iotda_provider.notifications.audience import Audience
from iotda_provider.release import under_way
from iotda_provider.release.files_io import FilesOfRelease
from iotda_provider.release.other_releases import ReleaseNote
from iotda_provider.release.release_io import EvidenceFailedError
from iotda_provider.rollout_guard import Log
from iotda_provider.rollout_guard.failure_tally import Tally
from iotda_provider.rollout_guard.worker import WorkerGuardIO
from iotda_provider.transport.runner import run_blocking

if TYPE_CHECKING:
    from iotda_provider.hooks.iotda import IoTDAHook
    from iotda_provider.release.storage import ReleaseFiles

T = TypeVar("T")
A = TypeVar("A")
#: The most seconds that the user's function waits while the guard talks to Airflow.
_FOR_AIRFLOW = 2.0


class UsersFunctions(NamedTuple):
    """The user's functions that a worker calls.

    :param evidence: answers ``go``, ``wait`` or ``stop``
    :param metric: says which devices are healthy
    """

    evidence: Callable[[Mapping[str, Any]], str] | None = None
    metric: Callable[[Sequence[str]], Mapping[str, bool | None]] | None = None


class MustWaitError(Exception):
    """The procedure has to wait, and not in this worker.

    :param seconds: the least time to wait
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"nothing to do for {seconds:.1f} s")
        self.seconds = seconds


class WorkerReleaseIO(FilesOfRelease, WorkerGuardIO, BlockingIO):
    """The blocking I/O object of a release's procedures, a
    :class:`~iotda_provider.release.release_io.ReleaseIO`; a context manager.

    :param hook: an open hook
    :param context: Airflow's context of the running task instance
    :param log: where its lines go
    :param audience: whom to tell of events; None: nobody
    :param files: where the release writes things down
    :param ask: the user's functions that may be called; None: none
    :param waits: whether to wait here; otherwise it raises :class:`MustWaitError`
    """

    _hook: IoTDAHook

    def __init__(
        self,
        hook: IoTDAHook,
        context: Context,
        log: Log,
        audience: Audience | None = None,
        *,
        files: ReleaseFiles | None = None,
        ask: UsersFunctions | None = None,
        waits: bool = True,
    ) -> None:
        super().__init__(hook, context, log, audience)
        self._files = files
        self._ask = ask
        self._waits = waits
        #: Called before each wait, thus after each look.
        self.show: Callable[[], None] = lambda: None

    def run(self, procedure: Coroutine[Any, Any, T]) -> T:
        """The result of a procedure over this object.

        :raises MustWaitError: it has to wait, and this object does not
        :raises IoTDAError: as the procedure does
        """
        return run_blocking(procedure)

    @contextmanager
    def _reading_new_keys(self) -> Iterator[None]:
        try:
            yield
        except IoTDAAuthError:
            # Perhaps the connection has new keys by the next look.
            self._hook.close()
            raise

    async def read_tasks(self, batch_task_ids: Sequence[str]) -> list[BatchTask | IoTDAError]:
        with self.quietly():  # what a guard asks again and again is not logged
            return await super().read_tasks(batch_task_ids)

    async def read_failed(self, batch_task_id: str, tally: Tally) -> None:
        with self.quietly():
            await super().read_failed(batch_task_id, tally)

    async def read_retrying(
        self, batch_task_id: str, add: Callable[[Subtask], None], most: int
    ) -> None:
        with self.quietly():
            await super().read_retrying(batch_task_id, add, most)

    async def stop_task(self, batch_task_id: str) -> None:
        with self._reading_new_keys(), self.quietly():
            await super().stop_task(batch_task_id)

    async def rehearse_stop(self, batch_task_id: str) -> None:
        with self.quietly():
            await super().rehearse_stop(batch_task_id)

    async def perform(self, call: Call[T]) -> T:
        with self._reading_new_keys():
            return await super().perform(call)

    async def other_releases(
        self, run: Mapping[str, Any], note: ReleaseNote | None
    ) -> list[ReleaseNote] | None:
        return self.call(under_way.recall, run, note, self._log)

    async def read_targets(self, batch_task_id: str, status: SubtaskStatus) -> set[str]:
        with self._reading_new_keys():
            found = self._hook.iter_subtasks(batch_task_id, status=status)
            return {row.target for row in found}

    async def confirm(self, batch_task_id: str, targets: Sequence[str]) -> TargetResults:
        with self._reading_new_keys():
            return self._hook.confirm_batch_task(batch_task_id, list(targets))

    async def stored(self, call: Callable[[ReleaseFiles], T]) -> T:
        assert self._files is not None
        return self.call(call, self._files)

    async def sleep(self, seconds: float) -> None:
        self.show()
        if not self._waits:
            raise MustWaitError(seconds)
        time.sleep(max(0.0, seconds))  # noqa: ASYNC251 - this object blocks

    async def ask(self, facts: Mapping[str, Any]) -> str:
        assert self._ask is not None
        assert self._ask.evidence is not None
        return self._of_the_user(self._ask.evidence, facts, "external evidence")

    async def measure(self, device_ids: Sequence[str]) -> Mapping[str, bool | None]:
        if not device_ids:
            return {}
        assert self._ask is not None
        assert self._ask.metric is not None
        return self._of_the_user(self._ask.metric, device_ids, "trial's metric")

    def _of_the_user(self, function: Callable[[A], T], argument: A, name: str) -> T:
        """What the user's function answers.

        :raises EvidenceFailedError: it raises, or answers nonsense
        """
        with suppress(FutureTimeoutError):
            # Before Airflow 3.3 the user's function can't ask Airflow while the guard does.
            self.call(lambda: None, seconds=_FOR_AIRFLOW)
        try:
            return function(argument)
        # Any error: it is the user's function, or it can't be imported.
        except Exception as error:
            self._log.exception("The %s can't be asked; the guard goes on.", name)
            if isinstance(error, EvidenceFailedError):
                raise
            # Its text may hold a secret of the user, which must not get into XComs and alerts.
            raise EvidenceFailedError(
                f"it raises {type(error).__name__} (the task's log says more)"
            ) from error
