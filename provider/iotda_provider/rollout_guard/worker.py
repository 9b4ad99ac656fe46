"""What a guard awaits in a worker: all of it blocks, nothing suspends."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from iotda_provider.airflow_support.task_notes import owner_of
from iotda_provider.airflow_support.threads import InTurn
from iotda_provider.exceptions import IoTDAAuthError, IoTDAError
from iotda_provider.masking.airflow_masker import mask_all, telling_later
from iotda_provider.rollout_guard.alerts import ALERT_KEY, call_on_alert, missing_on_alert
from iotda_provider.rollout_guard.memory_store import SECONDS_BEFORE_STOP, save_memory, short
from iotda_provider.rollout_guard.signature import Signature
from iotda_provider.transport.retrying import retries_unsaid
from iotda_provider.transport.runner import run_blocking

if TYPE_CHECKING:
    from types import TracebackType

    from airflow.providers.common.compat.sdk import Context
    from typing_extensions import Self

    from iotda_provider.hooks.iotda import IoTDAHook
    from iotda_provider.models import BatchTask
    from iotda_provider.models.log import Log
    from iotda_provider.rollout_guard import Memory, Watch
    from iotda_provider.rollout_guard.alerts import Alert, OnAlert
    from iotda_provider.rollout_guard.failure_tally import Tally

T = TypeVar("T")

#: Of :data:`SECONDS_BEFORE_STOP`, those in which what an earlier try knew may come late for the
#: first look.
SECONDS_FOR_RECALL = 1.0
#: Seconds that a verdict waits for it, where it hangs on it.
SECONDS_WITHOUT_MEMORY = 300.0
#: Seconds that a task waits at its end for what is still being written, and for ``on_alert``.
_LAST_SECONDS = 60.0


class WorkerGuardIO:
    """The blocking I/O object of a watch, a ``GuardIO``; a context
    manager.

    What it asks Airflow for, and ``on_alert``, goes on in a thread, one call after the other, as a
    task may have one conversation with Airflow at a time before 3.3. So no look waits for it; a
    stop waits for the memory of why it is sent, for two seconds at most. At the end of the context
    all of it has ended, or has had a minute.

    :param hook: an open hook
    :param context: Airflow's context of the running task instance
    :param log: where its lines go
    :param on_alert: whom to tell besides the log and the XCom ``alert``
    """

    def __init__(
        self,
        hook: IoTDAHook,
        context: Context,
        log: Log,
        on_alert: OnAlert | None = None,
    ) -> None:
        self._hook = hook
        self._context = context
        self._log = log
        self._on_alert = on_alert
        self._airflow = InTurn()
        self._saving: Future[bool] | None = None
        self._stop_is_due = float("inf")
        self._earlier_memory: WorkerRecall | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.call(lambda: None, seconds=_LAST_SECONDS)
        except FutureTimeoutError:
            self._log.error("Airflow, or on_alert, takes its time; the task goes on without it.")
        self._airflow.end()

    def run(self, procedure: Coroutine[Any, Any, T]) -> T:
        """The result of a procedure over this object.

        :raises IoTDAError: as the procedure does
        """
        with self.quietly():
            return run_blocking(procedure)

    @contextmanager
    def quietly(self) -> Iterator[None]:
        """Within it, retries are not logged, and secrets are masked without a wait for Airflow."""
        with retries_unsaid(), telling_later(lambda secrets: self.begin(mask_all, secrets)):
            yield

    def begin_recall(self, watch: Watch, recall: Callable[[], Memory]) -> WorkerRecall:
        """Begin to recall what an earlier try knew; the looks go on meanwhile."""
        self._earlier_memory = WorkerRecall(watch, self.begin(recall), self._log)
        return self._earlier_memory

    def begin(self, function: Callable[..., T], *args: Any, first: bool = False) -> Future[T]:
        """Have something done that may take its time, after all that was begun before.

        :param first: a stop waits for it: only what is under way may come before it
        """
        return self._airflow.begin(function, *args, first=first)

    def call(
        self,
        function: Callable[..., T],
        *args: Any,
        seconds: float | None = None,
        first: bool = False,
    ) -> T:
        """The same, and wait for it.

        :param seconds: for how long at most; it is done to its end even so
        :raises TimeoutError: it takes longer; of ``concurrent.futures``
        """
        return self.begin(function, *args, first=first).result(seconds)

    @property
    def patience_before_stop(self) -> float:
        """Seconds that are left of those that a stop that was decided on may wait."""
        return min(SECONDS_BEFORE_STOP, max(0.1, self._stop_is_due - time.monotonic()))

    async def read_tasks(self, batch_task_ids: Sequence[str]) -> list[BatchTask | IoTDAError]:
        answers = [self._read(batch_task_id) for batch_task_id in batch_task_ids]
        if self._earlier_memory is not None:
            self._earlier_memory.hand_over()
        return answers

    async def read_failed(self, batch_task_id: str, tally: Tally) -> None:
        for row in self._hook.iter_subtasks(batch_task_id, status="Fail"):
            tally.add(row)

    async def stop_task(self, batch_task_id: str) -> None:
        self._hook.stop_batch_task(batch_task_id)

    async def rehearse_stop(self, batch_task_id: str) -> None:
        self._hook.rehearse_stop(batch_task_id)

    async def save(self, memory: Mapping[str, Any], *, routine: bool = False) -> bool:
        if routine and self._earlier_memory is not None and not self._earlier_memory.is_settled:
            return False  # it would take the place of what the guard has not read yet
        if self._saving is not None:
            self._saving.cancel()  # where it has not begun, this one is newer
        signature = Signature(self._hook.last_settings, owner_of(self._context["ti"]))
        save = partial(save_memory, self._context, memory, self._log, signature)
        self._saving = self.begin(save, first=not routine)
        if routine:
            return True
        seconds = SECONDS_BEFORE_STOP
        if self._earlier_memory is not None and not self._earlier_memory.is_settled:
            seconds = max(0.1, seconds - SECONDS_FOR_RECALL)  # which has been waited for
        self._stop_is_due = time.monotonic() + seconds
        try:
            return self._saving.result(seconds)
        except FutureTimeoutError:
            return False

    async def tell(self, alert: Alert) -> None:
        self._tell(alert)

    def try_on_alert(self, batch_task_ids: Sequence[str]) -> None:
        """Say at once where ``on_alert`` can't be called here, and not at the first alert."""
        alert = missing_on_alert(self._on_alert, batch_task_ids)
        if alert is not None:
            self._on_alert = None
            self._tell(alert)

    def _read(self, batch_task_id: str) -> BatchTask | IoTDAError:
        try:
            return self._hook.get_batch_task(batch_task_id)
        except IoTDAAuthError as error:
            # Perhaps the connection has new keys by the next look.
            self._hook.close()
            return error
        except IoTDAError as error:
            return error

    def _tell(self, alert: Alert) -> None:
        """Begin to tell a person; no look and no stop waits for the end of it."""
        self._log.error("%s", alert.sentence)
        self.begin(self._tell_them, alert.to_json())

    def _tell_them(self, alert: Mapping[str, Any]) -> None:
        ti: Any = self._context["ti"]
        try:
            ti.xcom_push(key=ALERT_KEY, value=alert)
        except Exception as error:  # noqa: BLE001 - as with the memory
            self._log.warning(
                "The alert could not be kept as an XCom; the guard goes on: %s", short(error)
            )
        if self._on_alert is not None:
            call_on_alert(self._on_alert, alert, self._log)


class WorkerRecall:
    """What an earlier try of a guard knew. Where Airflow does not answer, no look waits for it.

    It is there by the time at which the first look has its answer, or within a second of it. Until
    it is, the watch decides from the platform's counts alone, and says nothing final about a
    rollout that is gone or being stopped: that may be its own doing.

    :param watch: gets it between two looks
    :param recalling: brings it
    :param log: where its lines go
    """

    def __init__(self, watch: Watch, recalling: Future[Memory], log: Log) -> None:
        self._watch = watch
        self._recalling: Future[Memory] | None = recalling
        self._log = log
        self._seconds = SECONDS_FOR_RECALL
        self._patience_ends = time.monotonic() + SECONDS_WITHOUT_MEMORY
        watch.awaits_memory = True

    def hand_over(self) -> None:
        """Let the watch have it, where it has come; called within a look, before it is judged."""
        if self._recalling is None:
            return
        wait([self._recalling], self._seconds)
        if not self._recalling.done():
            self._seconds = 0.0
            if time.monotonic() >= self._patience_ends:
                self._watch.awaits_memory = False
            return
        recalled, self._recalling = self._recalling, None
        self._watch.awaits_memory = False
        if (error := recalled.exception()) is not None:
            self._log.warning("What an earlier try knew can't be read: %s", short(error))
            return
        self._watch.memory.adopt(recalled.result())

    @property
    def is_settled(self) -> bool:
        """Whether it is known, or not to be had for a long time."""
        return self._recalling is None or time.monotonic() >= self._patience_ends

    def wait(self, seconds: float) -> None:
        """Wait for it, for so long at most."""
        assert self._recalling is not None
        wait([self._recalling], max(0.0, seconds))
