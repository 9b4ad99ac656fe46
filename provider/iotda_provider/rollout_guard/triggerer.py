"""The I/O object of a guard in a triggerer, and the recall of its memory after a restart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

from iotda_provider.airflow_support.threads import in_import_thread
from iotda_provider.exceptions import IoTDAConfigError, IoTDAError
from iotda_provider.guards import Look, Rule, evaluate
from iotda_provider.hooks.procedure_io import AsyncIO
from iotda_provider.models import BatchTask, Subtask, SubtaskStatus, TaskProgress
from iotda_provider.models.log import Log
from iotda_provider.notifications.audience import Audience, Member, without_addresses
from iotda_provider.notifications.in_triggerer import tell
from iotda_provider.procedures.listed_tasks import ListedTasks
from iotda_provider.rollout_guard import Memory, Watch
from iotda_provider.rollout_guard.alerts import ALERT_KEY, Alert, missing
from iotda_provider.rollout_guard.failure_tally import Tally
from iotda_provider.rollout_guard.guard_io import are_all_refused
from iotda_provider.rollout_guard.memory_store import (
    ASK_AGAIN_SECONDS,
    SECONDS_WITHOUT_MEMORY,
    NoMemoryStore,
    TriggererMemoryStore,
)
from iotda_provider.rollout_guard.outcome import to_text
from iotda_provider.transport.retrying import quiet_retries
from iotda_provider.transport.single_flight import own_loop_iteration, single_flight

if TYPE_CHECKING:
    from iotda_provider.hooks.iotda_async import IoTDAAsyncHook

T = TypeVar("T")
#: At its end a guard waits at most so many seconds for its last alert.
_ALERT_SECONDS = 60.0


async def warm_up(rules: Sequence[Rule]) -> None:
    """Let the rules import what they calculate with in a thread: it takes a second in a process."""
    look = Look(time=0.0, progress=TaskProgress(total=1, fail=1))
    kinds = tuple(sorted({type(rule).__qualname__ for rule in rules}))
    await single_flight(("rules", kinds), lambda: in_import_thread(evaluate, rules, None, look))
    await own_loop_iteration()


class TriggererGuardIO(AsyncIO):
    """The asynchronous :class:`~iotda_provider.rollout_guard.GuardIO`.

    :param hook: an open hook
    :param store: keeps the memory and the last alert
    :param log: the trigger's log
    :param audience: whom to tell of events, or the dotted path of the one function that is told
    :param read: reads a batch task; None: the hook does, with one call each
    :param earlier_memory: the recall of an earlier memory; None: there is none
    """

    _hook: IoTDAAsyncHook

    def __init__(
        self,
        hook: IoTDAAsyncHook,
        store: TriggererMemoryStore | NoMemoryStore,
        log: Log,
        audience: Audience | str | None = None,
        *,
        read: Callable[[str], Awaitable[BatchTask]] | None = None,
        earlier_memory: TriggererRecall | None = None,
    ) -> None:
        self._hook = hook
        self._read_task = read or self._read_by_hook
        self._store = store
        self._log = log
        self._audience = Audience.of(audience)
        self._earlier_memory = earlier_memory
        self._listed = ListedTasks()
        self._alerts: set[asyncio.Task[None]] = set()

    async def run(self, procedure: Coroutine[Any, Any, T]) -> T:
        """Run a procedure over this object to its end, without logging retries.

        :raises IoTDAError: the procedure has raised it
        """
        with quiet_retries():
            return await procedure

    async def finish(self) -> None:
        """Wait at most a minute for alerts that are being sent."""
        if self._alerts:
            _, slow = await asyncio.wait(self._alerts, timeout=_ALERT_SECONDS)
            if slow:
                self._log.error(
                    "A notifier has not returned for %.0f s; the guard ends without it.",
                    _ALERT_SECONDS,
                )

    async def read_tasks(self, batch_task_ids: Sequence[str]) -> list[BatchTask | IoTDAError]:
        if self._earlier_memory is not None:
            self._earlier_memory.give_to_watch()
        listed: dict[str, BatchTask] = {}
        if self._read_task == self._read_by_hook:  # otherwise many guards share their readings
            listed = await self._listed.read(AsyncIO(self._hook), batch_task_ids)
        left = [one for one in batch_task_ids if one not in listed]
        shown = dict(zip(left, await asyncio.gather(*map(self._read, left)), strict=True))
        answers = [listed.get(one) or shown[one] for one in batch_task_ids]
        if self._read_task == self._read_by_hook and are_all_refused(answers):
            # The next look reads the connection again, which may have new keys by then.
            await self._hook.close()
        self._listed.note(answers)
        # If the connection can't be read, the earlier memory must not wait for it.
        permanent = any(isinstance(answer, IoTDAConfigError) for answer in answers)
        self._store.use_connection(self._hook.last_settings, permanent=permanent)
        return answers

    async def read_failed(self, batch_task_id: str, tally: Tally) -> None:
        async for row in self._hook.iter_subtasks(batch_task_id, status="Fail"):
            tally.add(row)

    async def read_retrying(
        self, batch_task_id: str, add: Callable[[Subtask], None], most: int
    ) -> None:
        found: Any = self._hook.iter_subtasks(batch_task_id, status=SubtaskStatus.FAIL_WAIT_RETRY)
        async with aclosing(found) as rows:
            for _ in range(most):
                row = await anext(rows, None)
                if row is None:
                    break
                add(row)

    async def stop_task(self, batch_task_id: str) -> None:
        await self._hook.stop_batch_task(batch_task_id)

    async def rehearse_stop(self, batch_task_id: str) -> None:
        await self._hook.rehearse_stop(batch_task_id)

    async def save(self, memory: Mapping[str, Any], *, routine: bool = False) -> bool:
        unread = self._earlier_memory is not None and not self._earlier_memory.is_settled
        if routine and unread:
            return False  # it would overwrite the earlier memory, which is not read yet
        return await self._store.remember(memory, routine=routine)

    async def tell(self, alert: Alert) -> None:
        self._tell(alert)

    def try_on_alert(self, batch_task_ids: Sequence[str]) -> None:
        """Send an alert now for each notifier that can't be called here, not at the first event."""
        if self._audience.members:
            self._begin(self._try_members(batch_task_ids))

    async def _try_members(self, batch_task_ids: Sequence[str]) -> None:
        found: list[tuple[Member, BaseException]]
        found = await in_import_thread(lambda: list(self._audience.missing()))
        for member, error in found:
            self._audience.remove(member)
            facts = {"batch_task_ids": list(batch_task_ids), "time": to_text(time.time())}
            self._tell(missing(member.name, without_addresses(error), {**facts, "progress": {}}))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._alerts.add(task)
        task.add_done_callback(self._alerts.discard)

    async def _read(self, batch_task_id: str) -> BatchTask | IoTDAError:
        try:
            return await self._read_task(batch_task_id)
        except IoTDAError as error:
            return error

    async def _read_by_hook(self, batch_task_id: str) -> BatchTask:
        return await self._hook.get_batch_task(batch_task_id)

    def _tell(self, alert: Alert) -> None:
        if not alert.is_news:
            self._log.error("%s", alert.sentence)
        self._begin(self._deliver(alert))

    async def _deliver(self, alert: Alert) -> None:
        event = self._audience.event(alert.to_json())
        if not alert.is_news:
            await self._store.push(ALERT_KEY, event)
        await tell(self._audience, event, self._log)


class TriggererRecall:
    """Recalls a guard's memory of before a restart while the guard looks; no look waits for it.

    Without it, the watch decides from the platform's counts alone, and reports nothing final about
    a rollout that is gone or being stopped, because the guard may have stopped it.

    :param watch: the watch that gets the memory
    :param store: reads the memory
    """

    def __init__(self, watch: Watch, store: TriggererMemoryStore) -> None:
        self._watch = watch
        self._store = store
        self._patience_ends = time.monotonic() + SECONDS_WITHOUT_MEMORY
        self._ask_again = float("inf")
        self._asking: asyncio.Task[Memory] | None = asyncio.ensure_future(self._recall())
        self._is_urgent = False
        watch.awaits_memory = True

    def give_to_watch(self) -> None:
        """Before a look: give the memory to the watch if it has been read."""
        now = time.monotonic()
        if now >= self._patience_ends:
            self._watch.awaits_memory = False
        is_needed = self._watch.awaits_memory and self._watch.needs_memory
        if self._asking is None:
            if now >= self._ask_again or (is_needed and not self.is_settled):
                self._asking = asyncio.ensure_future(self._recall(urgent=is_needed))
            return
        if not self._asking.done():
            if self._watch.needs_memory and not self._is_urgent:
                self._is_urgent = True
                self._asking.cancel()
                self._asking = asyncio.ensure_future(self._recall(urgent=True))
            return
        asked, self._asking = self._asking, None
        if (error := asked.exception()) is not None:
            self._ask_again = now + ASK_AGAIN_SECONDS
            self._store.log_failure("What the guard knew before can't be read yet", error)
            return
        self._watch.awaits_memory = False
        self._ask_again = float("inf")
        self._watch.memory.adopt(asked.result())

    async def _recall(self, **how: bool) -> Memory:
        return await self._store.choose_own(await self._store.recall(**how), self._watch.plan)

    @property
    def is_settled(self) -> bool:
        """Whether the memory was read, or can't be read for too long to wait for it."""
        is_known = self._asking is None and self._ask_again == float("inf")
        return is_known or time.monotonic() >= self._patience_ends

    def give_up(self) -> None:
        """At the guard's end: stop reading."""
        if self._asking is not None:
            self._asking.cancel()
            # Without this, asyncio logs the error of a task that nobody has awaited.
            self._asking.add_done_callback(lambda asked: asked.cancelled() or asked.exception())
