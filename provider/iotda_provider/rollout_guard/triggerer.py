"""What a guard awaits in the triggerer, and what it knew before a restart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from iotda_provider.airflow_support.threads import importing, one_at_a_time
from iotda_provider.exceptions import (
    IoTDAAuthError,
    IoTDAConfigError,
    IoTDAError,
    IoTDATransportError,
)
from iotda_provider.guards import Look, Rule, evaluate
from iotda_provider.models import TaskProgress
from iotda_provider.rollout_guard.alerts import ALERT_KEY, call_on_alert, missing_on_alert
from iotda_provider.rollout_guard.memory_store import (
    ASK_AGAIN_SECONDS,
    SECONDS_BEFORE_STOP,
    NoMemoryStore,
    TriggererMemoryStore,
)
from iotda_provider.transport.retrying import retries_unsaid
from iotda_provider.transport.single_flight import own_loop_iteration, single_flight

if TYPE_CHECKING:
    from iotda_provider.hooks.iotda_async import IoTDAAsyncHook
    from iotda_provider.models import BatchTask
    from iotda_provider.models.log import Log
    from iotda_provider.rollout_guard import Memory, Watch
    from iotda_provider.rollout_guard.alerts import Alert
    from iotda_provider.rollout_guard.failure_tally import Tally

T = TypeVar("T")
#: Seconds after which a guard that begins goes on without knowing that it may stop its rollout.
_REHEARSAL_SECONDS = 10.0
#: Seconds that the guard's last alert may take at its end.
_ALERT_SECONDS = 60.0
#: Seconds that a verdict waits for what the guard knew before, where it hangs on it.
_PATIENT_SECONDS = 300.0


async def warm_up(rules: Sequence[Rule]) -> None:
    """Let the rules load what they reckon with in a thread: it takes a second, once a process."""
    look = Look(time=0.0, progress=TaskProgress(total=1, fail=1))
    kinds = tuple(sorted({type(rule).__qualname__ for rule in rules}))
    await single_flight(("rules", kinds), lambda: importing(evaluate, rules, None, look))
    await own_loop_iteration()


class TriggererGuardIO:
    """The asynchronous I/O object of a watch, a :class:`~iotda_provider.rollout_guard.GuardIO`.

    :param hook: an open hook
    :param store: where memory and alerts are store, or ``NoMemoryStore``
    :param log: where its lines go
    :param on_alert: the dotted path of a function to call besides
    :param read: how a batch task is read; None: by the hook, one call each
    :param earlier_memory: what the guard knew before its triggerer was restarted; None: nothing
    """

    def __init__(
        self,
        hook: IoTDAAsyncHook,
        store: TriggererMemoryStore | NoMemoryStore,
        log: Log,
        on_alert: str | None = None,
        *,
        read: Callable[[str], Awaitable[BatchTask]] | None = None,
        earlier_memory: TriggererRecall | None = None,
    ) -> None:
        self._hook = hook
        self._read_task = read or self._read_by_hook
        self._store = store
        self._log = log
        self._on_alert = on_alert
        self._earlier_memory = earlier_memory
        self._alerts: set[asyncio.Task[None]] = set()
        self._stop_is_due = float("inf")

    @property
    def patience_before_stop(self) -> float:
        """Seconds that are left of those that a stop that was decided on may wait."""
        return min(SECONDS_BEFORE_STOP, max(0.1, self._stop_is_due - time.monotonic()))

    async def run(self, procedure: Coroutine[Any, Any, T]) -> T:
        """The result of a procedure over this object; its retries are not logged.

        :raises IoTDAError: as the procedure does
        """
        with retries_unsaid():
            return await procedure

    async def finish(self) -> None:
        """Wait for the alerts that are under way, but not for long."""
        if self._alerts:
            _, slow = await asyncio.wait(self._alerts, timeout=_ALERT_SECONDS)
            if slow:
                self._log.error("on_alert takes its time; the guard ends without it.")

    async def read_tasks(self, batch_task_ids: Sequence[str]) -> list[BatchTask | IoTDAError]:
        if self._earlier_memory is not None:
            self._earlier_memory.hand_over()
        answers = await asyncio.gather(*map(self._read, batch_task_ids))
        # Where nobody can read the connection, there is nothing to wait for.
        hopeless = any(isinstance(answer, IoTDAConfigError) for answer in answers)
        self._store.know(self._hook.last_settings, hopeless=hopeless)
        return answers

    async def read_failed(self, batch_task_id: str, tally: Tally) -> None:
        async for row in self._hook.iter_subtasks(batch_task_id, status="Fail"):
            tally.add(row)

    async def stop_task(self, batch_task_id: str) -> None:
        await self._hook.stop_batch_task(batch_task_id)

    async def rehearse_stop(self, batch_task_id: str) -> None:
        try:
            await asyncio.wait_for(self._hook.rehearse_stop(batch_task_id), _REHEARSAL_SECONDS)
        except asyncio.TimeoutError:
            raise IoTDATransportError(
                f"the platform has not answered within {_REHEARSAL_SECONDS:.0f} s"
            ) from None

    async def save(self, memory: Mapping[str, Any], *, routine: bool = False) -> bool:
        if not routine:
            self._stop_is_due = time.monotonic() + SECONDS_BEFORE_STOP
        elif self._earlier_memory is not None and not self._earlier_memory.is_settled:
            return False  # it would take the place of what the guard has not read yet
        return await self._store.remember(memory, routine=routine)

    async def tell(self, alert: Alert) -> None:
        self._tell(alert)

    def try_on_alert(self, batch_task_ids: Sequence[str]) -> None:
        """Find out whether ``on_alert`` can be called here, and say so, not at the first alert."""
        if self._on_alert is not None:
            self._begin(self._try_on_alert(self._on_alert, batch_task_ids))

    async def _try_on_alert(self, on_alert: str, batch_task_ids: Sequence[str]) -> None:
        own_line = (id(self), "alert")
        if alert := await one_at_a_time(own_line, missing_on_alert, on_alert, batch_task_ids):
            self._on_alert = None
            self._tell(alert)

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
        try:
            return await self._hook.get_batch_task(batch_task_id)
        except IoTDAAuthError:
            # Perhaps the connection has new keys by the next look.
            await self._hook.close()
            raise

    def _tell(self, alert: Alert) -> None:
        """Begin to tell a person; no look and no stop waits for the end of it."""
        self._log.error("%s", alert.sentence)
        self._begin(self._tell_them(alert.to_json()))

    async def _tell_them(self, alert: Mapping[str, Any]) -> None:
        await self._store.push(ALERT_KEY, alert)
        if self._on_alert is not None:
            await one_at_a_time(
                (id(self), "alert"), call_on_alert, self._on_alert, alert, self._log
            )


class TriggererRecall:
    """What the guard knew before its triggerer was restarted. No look waits for it.

    Until it is known, the watch decides from the platform's counts alone, and says nothing final
    about a rollout that is gone or being stopped: that may be its own doing.

    :param watch: gets it between two looks, once it is there
    :param store: has it
    """

    def __init__(self, watch: Watch, store: TriggererMemoryStore) -> None:
        self._watch = watch
        self._store = store
        self._patience_ends = time.monotonic() + _PATIENT_SECONDS
        self._ask_again = float("inf")
        self._asking: asyncio.Task[Memory] | None = asyncio.ensure_future(self._recall())
        self._is_urgent = False
        watch.awaits_memory = True

    def hand_over(self) -> None:
        """Let the watch have it, where it has come; called before a look."""
        now = time.monotonic()
        if now >= self._patience_ends:
            self._watch.awaits_memory = False
        if self._asking is None:
            if now >= self._ask_again:
                self._asking = asyncio.ensure_future(self._recall())
            return
        if not self._asking.done():
            if self._watch.needs_memory and not self._is_urgent:
                self._is_urgent = True
                self._asking.cancel()
                self._asking = asyncio.ensure_future(self._recall(urgent=True))
            return
        asked, self._asking = self._asking, None
        self._watch.awaits_memory = False
        if (error := asked.exception()) is not None:
            self._ask_again = now + ASK_AGAIN_SECONDS
            self._store.say("What the guard knew before can't be read yet", error)
            return
        self._ask_again = float("inf")
        self._watch.memory.adopt(asked.result())

    async def _recall(self, **how: bool) -> Memory:
        return await self._store.check(await self._store.recall(**how), self._watch.plan)

    @property
    def is_settled(self) -> bool:
        """Whether it is known, or not to be had for a long time."""
        is_known = self._asking is None and self._ask_again == float("inf")
        return is_known or time.monotonic() >= self._patience_ends

    def give_up(self) -> None:
        """Nobody waits for it any more."""
        if self._asking is not None:
            self._asking.cancel()
            # asyncio would log a failure that nobody asks for, with its traceback.
            self._asking.add_done_callback(lambda asked: asked.cancelled() or asked.exception())
