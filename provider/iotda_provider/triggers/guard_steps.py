"""Carries out in the triggerer what the watch over a rollout asks for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary, WeakSet

from iotda_provider.airflow_support.threads import importing, in_thread, one_at_a_time
from iotda_provider.driving import drive_async
from iotda_provider.durable import LARGEST, VariableNotes
from iotda_provider.exceptions import (
    IoTDAAuthError,
    IoTDAConfigError,
    IoTDAError,
    IoTDATransportError,
)
from iotda_provider.guard_worker import (
    ALERT_KEY,
    MEMORY_KEY,
    SECONDS_BEFORE_STOP,
    call_on_alert,
    missing_on_alert,
    short,
)
from iotda_provider.guarding import (
    Memory,
    ReadFailed,
    ReadTasks,
    RehearseStop,
    Save,
    Step,
    StopTask,
    Tell,
)
from iotda_provider.guarding.memory import fitted
from iotda_provider.guarding.signature import Signature
from iotda_provider.guards import Look, Rule, evaluate
from iotda_provider.hooks.places import in_turn
from iotda_provider.hooks.single_flight import single_flight
from iotda_provider.models import TaskProgress
from iotda_provider.retrying import retries_unsaid

if TYPE_CHECKING:
    from iotda_provider.guarding import GuardPlan, Watch
    from iotda_provider.guarding.steps import Log, Procedure
    from iotda_provider.hooks.iotda_async import IoTDAAsyncHook
    from iotda_provider.models import BatchTask
    from iotda_provider.settings import ConnectionSettings

T = TypeVar("T")
#: Seconds after which a guard that begins goes on without knowing that it may stop its rollout.
_REHEARSAL_SECONDS = 10.0
#: Seconds that it may take to keep an XCom, for which no stop waits.
_XCOM_SECONDS = 10.0
#: Seconds that the guard's last alert may take at its end.
_ALERT_SECONDS = 60.0
#: Routine writes of memories in a second, at most, of all guards of a process: what supervises a
#: triggerer does some twenty things a second, for all its triggers.
_ROUTINE_WRITES_PER_SECOND = 5.0
#: Seconds between two of one guard's, as :class:`~iotda_provider.guarding.Watch` has it at least.
_USUAL_SECONDS = 60.0
#: Guards of one event loop that read what they knew before at the same time, for the same reason.
_RECALLS_AT_ONCE = 4
#: Seconds until a guard asks again where that failed, and between two lines about it.
_ASK_AGAIN_SECONDS = 60.0
#: Seconds that a verdict waits for it, where it hangs on it.
_PATIENT_SECONDS = 300.0

_guards: WeakSet[OwnState] = WeakSet()
_recalls: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


async def warm_up(rules: Sequence[Rule]) -> None:
    """Let the rules load what they reckon with in a thread: it takes a second, once a process."""
    look = Look(time=0.0, progress=TaskProgress(total=1, fail=1))
    kinds = tuple(sorted({type(rule).__qualname__ for rule in rules}))
    await single_flight(("rules", kinds), lambda: importing(evaluate, rules, None, look))
    await in_turn()


class TriggerSteps:
    """The asynchronous driver of a watch.

    :param hook: an open hook
    :param kept: where memory and alerts are kept, or ``Nowhere``
    :param log: where its lines go
    :param on_alert: the dotted path of a function to call besides
    :param read: how a batch task is read; None: by the hook, one call each
    :param earlier: what the guard knew before its triggerer was restarted; None: nothing
    """

    def __init__(
        self,
        hook: IoTDAAsyncHook,
        kept: OwnState | Nowhere,
        log: Log,
        on_alert: str | None = None,
        *,
        read: Callable[[str], Awaitable[BatchTask]] | None = None,
        earlier: Earlier | None = None,
    ) -> None:
        self._hook = hook
        self._read_task = read or self._read_by_hook
        self._kept = kept
        self._log = log
        self._on_alert = on_alert
        self._earlier = earlier
        self._alerts: set[asyncio.Task[None]] = set()
        self._stop_is_due = float("inf")

    @property
    def patience_before_stop(self) -> float:
        """Seconds that are left of those that a stop that was decided on may wait."""
        return min(SECONDS_BEFORE_STOP, max(0.1, self._stop_is_due - time.monotonic()))

    async def run(self, procedure: Procedure[T]) -> T:
        """Carry out all steps of a procedure; its result.

        :raises IoTDAError: as the procedure does
        """
        with retries_unsaid():
            return await drive_async(procedure, self._do)

    async def finish(self) -> None:
        """Wait for the alerts that are under way, but not for long."""
        if self._alerts:
            _, slow = await asyncio.wait(self._alerts, timeout=_ALERT_SECONDS)
            if slow:
                self._log.error("on_alert takes its time; the guard ends without it.")

    async def _do(self, step: Step) -> Any:
        if isinstance(step, ReadTasks):
            if self._earlier is not None:
                self._earlier.hand_over()
            answers = await asyncio.gather(*map(self._read, step.batch_task_ids))
            # Where nobody can read the connection, there is nothing to wait for.
            hopeless = any(isinstance(answer, IoTDAConfigError) for answer in answers)
            self._kept.know(self._hook.last_settings, hopeless=hopeless)
            return answers
        if isinstance(step, ReadFailed):
            async for row in self._hook.iter_subtasks(step.batch_task_id, status="Fail"):
                step.tally.add(row)
            return None
        if isinstance(step, StopTask):
            await self._hook.stop_batch_task(step.batch_task_id)
            return None
        if isinstance(step, RehearseStop):
            return await self._rehearse(step.batch_task_id)
        if isinstance(step, Save):
            if not step.routine:
                self._stop_is_due = time.monotonic() + SECONDS_BEFORE_STOP
            elif self._earlier is not None and not self._earlier.is_settled:
                return False  # it would take the place of what the guard has not read yet
            return await self._kept.remember(step.memory, routine=step.routine)
        return self._tell(step)

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

    async def _rehearse(self, batch_task_id: str) -> None:
        try:
            await asyncio.wait_for(self._hook.rehearse_stop(batch_task_id), _REHEARSAL_SECONDS)
        except asyncio.TimeoutError:
            raise IoTDATransportError(
                f"the platform has not answered within {_REHEARSAL_SECONDS:.0f} s"
            ) from None

    async def _read_by_hook(self, batch_task_id: str) -> BatchTask:
        try:
            return await self._hook.get_batch_task(batch_task_id)
        except IoTDAAuthError:
            # Perhaps the connection has new keys by the next look.
            await self._hook.close()
            raise

    def _tell(self, alert: Tell) -> None:
        """Begin to tell a person; no look and no stop waits for the end of it."""
        self._log.error("%s", alert.sentence)
        self._begin(self._tell_them(alert.to_json()))

    async def _tell_them(self, alert: Mapping[str, Any]) -> None:
        await self._kept.push(ALERT_KEY, alert)
        if self._on_alert is not None:
            await one_at_a_time(
                (id(self), "alert"), call_on_alert, self._on_alert, alert, self._log
            )


class Nowhere:
    """In the place of all that where there is no task instance."""

    def know(self, settings: ConnectionSettings | None, *, hopeless: bool = False) -> None:
        """Nothing is signed."""

    async def push(self, key: str, value: Mapping[str, Any]) -> bool:
        """Keep nothing."""
        return True

    async def remember(self, memory: Mapping[str, Any], *, routine: bool = False) -> bool:
        """Remember nothing."""
        return True


class OwnState:
    """What a trigger keeps for its task instance: XComs, and a memory that outlives the try.

    Airflow's database or API may be down, in many ways, which must not stop a guard: every failure
    is logged, one line a minute, and no more.

    :param owner: the task instance: ``dag_id``, ``run_id``, ``task_id``, ``map_index``
    :param log: where its lines go
    """

    def __init__(self, owner: Mapping[str, Any], log: Log) -> None:
        self._notes = VariableNotes(owner)
        self._owner = dict(owner)
        self._log = log
        self._said: float | None = None
        self._unwritten: Mapping[str, Any] | None = None
        self._writer: asyncio.Task[bool] | None = None
        self._routine_at = float("-inf")
        self._signature = Signature(None, owner)
        self._is_known = asyncio.Event()
        _guards.add(self)

    def know(self, settings: ConnectionSettings | None, *, hopeless: bool = False) -> None:
        """Sign by the connection as it was read last, and check what was signed before.

        :param hopeless: it can't be read, and that will not pass
        """
        if settings is not None:
            self._signature = Signature(settings, self._owner)
        if settings is not None or hopeless:
            self._is_known.set()

    async def check(self, found: Any, plan: GuardPlan) -> Memory:
        """What was recalled, as far as it is this guard's own, once the connection is known."""
        await self._is_known.wait()
        recall = partial(
            self._signature.recall,
            batch_task_ids=plan.batch_task_ids,
            audit_limit=plan.audit_limit,
        )
        return await in_thread(recall, *found)

    async def hand_back(self, memory: Mapping[str, Any]) -> dict[str, Any]:
        """Keep the memory for the worker that goes on; what the event has to say of it."""
        signed = await in_thread(self._signature.sign, memory)
        return {} if await self.push(MEMORY_KEY, signed) else {"memory": signed}

    async def push(self, key: str, value: Mapping[str, Any]) -> bool:
        """Keep an XCom; whether that worked."""
        write = one_at_a_time((id(self), "xcom"), self._set_xcom, key, dict(value))
        try:
            await asyncio.wait_for(write, _XCOM_SECONDS)
        except Exception as error:  # noqa: BLE001 - as above
            self.say(f"XCom {key} could not be written", error)
            return False
        return True

    async def remember(self, memory: Mapping[str, Any], *, routine: bool = False) -> bool:
        """Keep the memory where the next try finds it; whether that worked within two seconds.

        :param routine: it is kept where this process has time for it, and nobody waits
        """
        if routine:
            now, spacing = time.monotonic(), len(_guards) / _ROUTINE_WRITES_PER_SECOND
            if spacing > _USUAL_SECONDS and now - self._routine_at < spacing:
                return False
            self._routine_at = now
        self._unwritten = dict(memory)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.ensure_future(self._write())
        if routine:
            return True
        done, _ = await asyncio.wait({self._writer}, timeout=SECONDS_BEFORE_STOP)
        if not done:
            self.say("The guard's memory could not be written", TimeoutError("no answer yet"))
        return bool(done) and self._writer.result()

    def forget_unwritten(self) -> None:
        """Leave alone what is not written yet: the guard has ended, and its task goes on."""
        self._unwritten = None

    async def recall(self, *, urgent: bool = False) -> Any:
        """Copies of the memory: what this try's worker has left, and what was kept since.

        :param urgent: a verdict hangs on it: do not wait for a turn among all guards
        :raises Exception: whatever Airflow raises when its database or API is down
        """
        if not urgent:
            turns = asyncio.Semaphore(_RECALLS_AT_ONCE)
            async with _recalls.setdefault(asyncio.get_running_loop(), turns):
                return await self.recall(urgent=True)
        reading = one_at_a_time((id(self), "recall"), self._get_memories)
        return await asyncio.wait_for(reading, _ASK_AGAIN_SECONDS)

    async def _write(self) -> bool:
        """Write memories down, the newest only and one at a time, until none is left."""
        worked = False
        while self._unwritten is not None:
            memory, self._unwritten = self._unwritten, None
            # To its end, however long that takes: two at a time could come in the wrong order.
            try:
                await in_thread(self._set_memory, memory)
                worked = True
            except Exception as error:  # noqa: BLE001 - as above
                self.say("The guard's memory could not be written", error)
                worked = False
        return worked

    def say(self, what: str, error: BaseException) -> None:
        """Log that Airflow has failed, in one line a minute for whatever it was asked."""
        now = time.monotonic()
        if self._said is None or now - self._said >= _ASK_AGAIN_SECONDS:
            self._said = now
            self._log.warning("%s; the guard goes on: %s", what, short(error))

    def _set_memory(self, memory: Mapping[str, Any]) -> None:
        self._notes.set(MEMORY_KEY, self._signature.sign(fitted(memory, LARGEST)))

    def _get_memories(self) -> tuple[Any, Any]:
        return self._get_xcom(MEMORY_KEY), self._notes.get(MEMORY_KEY)

    def _set_xcom(self, key: str, value: Any) -> None:
        from airflow.providers.common.compat.sdk import XCom

        xcom: Any = XCom
        xcom.set(key, value, **self._owner)

    def _get_xcom(self, key: str) -> Any:
        from airflow.providers.common.compat.sdk import XCom

        xcom: Any = XCom
        return xcom.get_one(key=key, **self._owner)


class Earlier:
    """What the guard knew before its triggerer was restarted. No look waits for it.

    Until it is known, the watch decides from the platform's counts alone, and says nothing final
    about a rollout that is gone or being stopped: that may be its own doing.

    :param watch: gets it between two looks, once it is there
    :param kept: has it
    """

    def __init__(self, watch: Watch, kept: OwnState) -> None:
        self._watch = watch
        self._kept = kept
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
            self._ask_again = now + _ASK_AGAIN_SECONDS
            self._kept.say("What the guard knew before can't be read yet", error)
            return
        self._ask_again = float("inf")
        self._watch.memory.adopt(asked.result())

    async def _recall(self, **how: bool) -> Memory:
        return await self._kept.check(await self._kept.recall(**how), self._watch.plan)

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
