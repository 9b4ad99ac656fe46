"""The I/O object of a guard in a worker: its methods block, and nothing suspends."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.sdk import Context

from iotda_provider.airflow_support.task_notes import owner_of
from iotda_provider.airflow_support.threads import CallQueue
from iotda_provider.exceptions import IoTDAError
from iotda_provider.masking.airflow_masker import mask_all, tell_supervisor_later
from iotda_provider.models import BatchTask, Subtask, SubtaskStatus
from iotda_provider.models.log import Log
from iotda_provider.notifications.audience import SECONDS_FOR_EACH, Audience, without_addresses
from iotda_provider.notifications.in_worker import tell
from iotda_provider.procedures.listed_tasks import ListedTasks
from iotda_provider.rollout_guard import Memory, Watch
from iotda_provider.rollout_guard.alerts import ALERT_KEY, Alert, OnAlert, missing
from iotda_provider.rollout_guard.failure_tally import Tally
from iotda_provider.rollout_guard.guard_io import are_all_refused
from iotda_provider.rollout_guard.memory_store import (
    SECONDS_BEFORE_STOP,
    SECONDS_WITHOUT_MEMORY,
    save_memory,
    short,
)
from iotda_provider.rollout_guard.outcome import to_text
from iotda_provider.rollout_guard.package_version import read_package_version
from iotda_provider.rollout_guard.signature import Signature
from iotda_provider.transport.retrying import quiet_retries
from iotda_provider.transport.runner import run_blocking

if TYPE_CHECKING:
    from typing_extensions import Self

    from iotda_provider.hooks.iotda import IoTDAHook

T = TypeVar("T")

#: The first look waits at most so long for the earlier memory: a part of ``SECONDS_BEFORE_STOP``.
SECONDS_FOR_RECALL = 1.0
#: At its end a task waits at most so many seconds for unfinished writes and for notifiers.
_LAST_SECONDS = 60.0


class WorkerGuardIO:
    """The blocking :class:`~iotda_provider.rollout_guard.GuardIO`; a context manager.

    Calls to Airflow and to notifiers run in a thread, one after the other, because before Airflow
    3.3 a task may make only one request to Airflow at a time. So no look waits for them. A stop
    waits at most two seconds until its reason is saved, and for no notifier. The end of the context
    waits at most a minute until all calls have ended.

    :param hook: an open hook
    :param context: Airflow's context of the running task instance
    :param log: the task's log
    :param audience: whom to tell of events; a function, or its dotted path, is one of one member
    """

    def __init__(
        self,
        hook: IoTDAHook,
        context: Context,
        log: Log,
        audience: Audience | OnAlert | None = None,
    ) -> None:
        self._hook = hook
        self._listed = ListedTasks()
        self._context = context
        self._log = log
        self._audience = Audience.of(audience)
        self._airflow = CallQueue()
        self._saving: Future[bool] | None = None
        self._earlier_memory: WorkerRecall | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self.call(lambda: None, seconds=_LAST_SECONDS)
        except FutureTimeoutError:
            self._log.error(
                "Airflow or a notifier has not answered for %.0f s; the task goes on without it.",
                _LAST_SECONDS,
            )
        self._airflow.end()

    def run(self, procedure: Coroutine[Any, Any, T]) -> T:
        """Run a procedure over this object to its end, and return its result.

        :raises IoTDAError: the procedure has raised it
        """
        with self.quietly():
            return run_blocking(procedure)

    @contextmanager
    def quietly(self) -> Iterator[None]:
        """In this context, retries are not logged and masking secrets does not wait for Airflow."""
        with quiet_retries(), tell_supervisor_later(lambda secrets: self.begin(mask_all, secrets)):
            yield

    def begin_recall(self, watch: Watch, recall: Callable[[], Memory]) -> WorkerRecall:
        """Begin to recall the memory of an earlier try, and return without waiting for it.

        :param watch: the watch that gets the memory
        :param recall: reads the memory; it is called in the thread
        """
        self._earlier_memory = WorkerRecall(watch, lambda: self.begin(recall), self._log)
        return self._earlier_memory

    def begin(self, function: Callable[..., T], *args: Any, first: bool = False) -> Future[T]:
        """Call a function in the thread, after all functions that were begun before.

        :param first: call it before those that wait, because a stop waits for it
        """
        return self._airflow.begin(function, *args, first=first)

    def call(
        self,
        function: Callable[..., T],
        *args: Any,
        seconds: float | None = None,
        first: bool = False,
    ) -> T:
        """Call a function in the thread as :meth:`begin` does, and return its result.

        :param seconds: how long to wait at most; the function goes on afterwards; None: no limit
        :raises concurrent.futures.TimeoutError: the function takes longer
        """
        return self.begin(function, *args, first=first).result(seconds)

    def package_version(self, tasks: Sequence[BatchTask]) -> str | None:
        """The version of the package that batch tasks install; None: it is not known in time.

        It is only shown to people, so it is waited for two seconds at most, in a thread of its own.
        """
        return read_package_version(lambda one: self._hook.get_ota_package(one), tasks)

    async def read_tasks(self, batch_task_ids: Sequence[str]) -> list[BatchTask | IoTDAError]:
        from iotda_provider.hooks.procedure_io import BlockingIO

        listed = await self._listed.read(BlockingIO(self._hook), batch_task_ids)
        answers = [listed.get(one) or self._read(one) for one in batch_task_ids]
        if are_all_refused(answers):
            # The next look reads the connection again, which may have new keys by then.
            self._hook.close()
        self._listed.note(answers)
        if self._earlier_memory is not None:
            self._earlier_memory.give_to_watch()
        return answers

    async def read_failed(self, batch_task_id: str, tally: Tally) -> None:
        for row in self._hook.iter_subtasks(batch_task_id, status="Fail"):
            tally.add(row)

    async def read_retrying(
        self, batch_task_id: str, add: Callable[[Subtask], None], most: int
    ) -> None:
        rows = self._hook.iter_subtasks(batch_task_id, status=SubtaskStatus.FAIL_WAIT_RETRY)
        for row in islice(rows, most):
            add(row)

    async def stop_task(self, batch_task_id: str) -> None:
        self._hook.stop_batch_task(batch_task_id)

    async def rehearse_stop(self, batch_task_id: str) -> None:
        self._hook.rehearse_stop(batch_task_id)

    async def save(self, memory: Mapping[str, Any], *, routine: bool = False) -> bool:
        if routine and self._earlier_memory is not None and not self._earlier_memory.is_settled:
            return False  # it would overwrite the earlier memory, which is not read yet
        if self._saving is not None:
            self._saving.cancel()  # if it has not begun: this memory is newer
        signature = Signature(self._hook.last_settings, owner_of(self._context["ti"]))
        save = partial(save_memory, self._context, memory, self._log, signature)
        self._saving = self.begin(save, first=not routine)
        if routine:
            return True
        seconds = SECONDS_BEFORE_STOP
        if self._earlier_memory is not None and not self._earlier_memory.is_settled:
            seconds = max(0.1, seconds - SECONDS_FOR_RECALL)  # the first look has waited so long
        try:
            return self._saving.result(seconds)
        except FutureTimeoutError:
            return False

    async def pause(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 - this object blocks

    async def tell(self, alert: Alert) -> None:
        self._tell(alert)

    def try_on_alert(self, batch_task_ids: Sequence[str]) -> None:
        """Send an alert now for each notifier that can't be called here, not at the first event."""
        imports = CallQueue()
        found = imports.begin(lambda: list(self._audience.missing()))
        imports.end()
        try:
            missing_here = found.result(SECONDS_FOR_EACH)
        except FutureTimeoutError:
            self._log.error(
                "Importing a notifier takes over %.0f s. The guard goes on.", SECONDS_FOR_EACH
            )
            return
        for member, error in missing_here:
            self._audience.remove(member)
            facts = {"batch_task_ids": list(batch_task_ids), "time": to_text(time.time())}
            alert = missing(member.name, without_addresses(error), {**facts, "progress": {}})
            self._tell(alert)

    def _read(self, batch_task_id: str) -> BatchTask | IoTDAError:
        try:
            return self._hook.get_batch_task(batch_task_id)
        except IoTDAError as error:
            return error

    def _tell(self, alert: Alert) -> None:
        if not alert.is_news:
            self._log.error("%s", alert.sentence)
        self.begin(self._deliver, alert)

    def _deliver(self, alert: Alert) -> None:
        ti: Any = self._context["ti"]
        event = self._audience.event(alert.to_json())
        try:
            if not alert.is_news:
                ti.xcom_push(key=ALERT_KEY, value=event)
        except Exception as error:  # noqa: BLE001 - whatever Airflow raises, a notifier may work
            self._log.warning(
                "The alert could not be kept as an XCom; the guard goes on: %s", short(error)
            )
        tell(self._audience, event, self._log, lambda: self._airflow.is_urgent)


class WorkerRecall:
    """Recalls the memory of a guard's earlier try while the guard looks.

    The first look waits for it at most a second, later ones not at all. Without it, the watch
    decides from the platform's counts alone, and reports nothing final about a rollout that is gone
    or being stopped, because the earlier try may have stopped it. Where it can't be read, the next
    look asks for it again.

    :param watch: the watch that gets the memory
    :param begin: begins to read the memory
    :param log: the task's log
    """

    def __init__(self, watch: Watch, begin: Callable[[], Future[Memory]], log: Log) -> None:
        self._watch = watch
        self._begin = begin
        self._recalling: Future[Memory] | None = begin()
        self._log = log
        self._seconds = SECONDS_FOR_RECALL
        self._has_failed = False
        self._patience_ends = time.monotonic() + SECONDS_WITHOUT_MEMORY
        watch.awaits_memory = True

    def give_to_watch(self) -> None:
        """In a look, before it is judged: give the memory to the watch if it has been read."""
        if time.monotonic() >= self._patience_ends:
            self._watch.awaits_memory = False
        if self._recalling is None:
            if self.is_settled:
                return
            self._recalling = self._begin()
        wait([self._recalling], self._seconds)
        self._seconds = 0.0
        if not self._recalling.done():
            return
        recalled, self._recalling = self._recalling, None
        if (error := recalled.exception()) is not None:
            if not self._has_failed:
                self._has_failed = True
                what = "The memory of an earlier try can't be read yet; the guard goes on: %s"
                self._log.warning(what, short(error))
            return
        self._watch.awaits_memory = False
        self._watch.memory.adopt(recalled.result())

    @property
    def is_settled(self) -> bool:
        """Whether the memory was read, or can't be read for too long to wait for it."""
        return not self._watch.awaits_memory or time.monotonic() >= self._patience_ends

    @property
    def is_being_read(self) -> bool:
        """Whether it is worth while to :meth:`wait` for it."""
        return self._recalling is not None and not self.is_settled

    def wait(self, seconds: float) -> None:
        """Wait until the memory was read, for so many seconds at most."""
        assert self._recalling is not None
        wait([self._recalling], max(0.0, seconds))
