"""Where a guard's memory is kept over a restart, and who hands it to whom."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

from iotda_provider.airflow_support.task_notes import (
    LARGEST,
    Notes,
    VariableNotes,
    notes_of,
    owner_of,
)
from iotda_provider.airflow_support.threads import in_thread, one_at_a_time
from iotda_provider.exceptions import IoTDAError
from iotda_provider.rollout_guard.memory import fitted
from iotda_provider.rollout_guard.signature import Signature

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from iotda_provider.connection.settings import ConnectionSettings
    from iotda_provider.hooks.iotda import IoTDAHook
    from iotda_provider.models.log import Log
    from iotda_provider.rollout_guard.memory import Memory
    from iotda_provider.rollout_guard.plan import GuardPlan

_log = logging.getLogger(__name__)

#: The key of a guard's memory, among a task instance's notes and in XCom.
MEMORY_KEY = "guard_memory"
#: Seconds that Airflow may take to keep a memory before a guard goes on; it may be kept later. No
#: more than this may pass between a breach and its stop, but for the platform.
SECONDS_BEFORE_STOP = 2.0
#: Seconds that it may take to keep an XCom, for which no stop waits.
_XCOM_SECONDS = 10.0
#: Routine writes of memories in a second, at most, of all guards of a process: what supervises a
#: triggerer does some twenty things a second, for all its triggers.
_ROUTINE_WRITES_PER_SECOND = 5.0
#: Seconds between two of one guard's, as ``Watch`` has it at least.
_USUAL_SECONDS = 60.0
#: Guards of one event loop that read what they knew before at the same time, for the same reason.
_RECALLS_AT_ONCE = 4
#: Seconds until a guard asks again where that failed, and between two lines about it.
ASK_AGAIN_SECONDS = 60.0

_guards: WeakSet[TriggererMemoryStore] = WeakSet()
_recalls: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


def short(error: BaseException) -> str:
    """An error's type and the first line of its text."""
    text = str(error).partition("\n")[0][:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


# --- in a worker ----------------------------------------------------------------------------------


def signature_of(hook: IoTDAHook, owner: Mapping[str, Any]) -> Signature:
    """Signs and checks what the guard of a task instance keeps, by its connection's secret."""
    with suppress(IoTDAError):  # the first look says so
        _ = hook.settings
    return Signature(hook.last_settings, owner)


def save_memory(
    context: Context, memory: Mapping[str, Any], log: Log, signature: Signature
) -> bool:
    """Sign and keep a guard's memory; whether that worked."""
    return _keep(context, signature.sign(fitted(memory, LARGEST)), log)


def _keep(context: Context, signed: Mapping[str, Any], log: Log) -> bool:
    try:
        notes_of(context).set(MEMORY_KEY, signed)
    # Airflow's database or API may be down, which must not stop the guard.
    except Exception as error:  # noqa: BLE001
        log.warning("The guard's memory could not be written; the guard goes on: %s", short(error))
        return False
    return True


def load_memory(context: Context, log: Log | None = None) -> Any:
    """What this task instance has kept, in this try or an earlier one, or None."""
    try:
        return notes_of(context).get(MEMORY_KEY)
    except Exception:  # noqa: BLE001 - the same: one that has forgotten is better than none
        (log or _log).exception("What an earlier try knew can't be read; the guard begins afresh.")
        return None


class WorkerMemoryStore:
    """The memory of a guard that may be deferred: who has it when, and who hands it to whom.

    A worker keeps it among its notes (the task state store, or a Variable before Airflow 3.3). At a
    deferral it hands it over to the trigger, in a Variable, as a trigger reaches nothing else, and
    the trigger keeps that up to date. At its end the trigger hands it back in an XCom, which the
    worker empties once it has written down the trail (:func:`forget_triggers_memory`). So a guard
    that waits keeps at most ``LARGEST`` bytes, and one that has ended its trail, once.

    While there is a Variable it is newer than what a task state store holds, because whoever goes
    on in a worker takes it back first.

    All of it is signed, because whoever may edit Variables or XComs may write a memory there
    (:class:`~iotda_provider.rollout_guard.signature.Signature`).

    :param context: Airflow's context of the running task instance
    :param log: where its lines go
    :param signature: signs it
    """

    def __init__(self, context: Context, log: Log, signature: Signature) -> None:
        self._context = context
        self._log = log
        self.signature = signature
        self._ours = notes_of(context)
        self._triggers = VariableNotes(owner_of(context["ti"]))
        self._is_apart = not isinstance(self._ours, VariableNotes)

    def recall(self, batch_task_ids: tuple[str, ...], audit_limit: int, *more: Any) -> Memory:
        """What an earlier try has kept, in its worker or in its trigger.

        :param more: other copies that there may be
        """
        return self.signature.recall(
            *more, self._load(), batch_task_ids=batch_task_ids, audit_limit=audit_limit
        )

    def _load(self) -> Any:
        try:
            found = self._triggers.get(MEMORY_KEY)
        except Exception:  # noqa: BLE001 - one that has forgotten is better than none
            self._log.exception("What a trigger knew can't be read; the guard goes on without it.")
            found = None
        if found is None:
            return load_memory(self._context, self._log) if self._is_apart else None
        # As it was signed, or was not.
        if self._is_apart and _keep(self._context, found, self._log):
            self._forget(self._triggers)
        return found

    def hand_over(self, memory: Mapping[str, Any]) -> None:
        """Keep it where the trigger reads it: in a Variable, or else in an XCom."""
        kept = self.signature.sign(fitted(memory, LARGEST))
        try:
            self._triggers.set(MEMORY_KEY, kept)
        except Exception:  # noqa: BLE001 - the same
            self._log.exception("The guard's memory could not be handed to its trigger.")
            self._context["ti"].xcom_push(key=MEMORY_KEY, value=kept)

    def take_back(self, memory: Mapping[str, Any]) -> None:
        """Keep it where this worker does, and there alone."""
        worked = save_memory(self._context, memory, self._log, self.signature)
        if worked and self._is_apart:
            self._forget(self._triggers)

    def settle(self, memory: Mapping[str, Any]) -> None:
        """The guard has ended well: leave no more behind than one that is cleared has to know.

        That is a stop, without the trail, which is an XCom or a file by now.
        """
        if memory.get("intent"):
            save_memory(self._context, {**memory, "trail": []}, self._log, self.signature)
        else:
            self._forget(self._ours)

    def _forget(self, notes: Notes) -> None:
        try:
            notes.delete(MEMORY_KEY)
        except Exception:  # noqa: BLE001 - the same
            self._log.exception("A note that nobody needs any more could not be deleted.")


def forget_triggers_memory(context: Context) -> None:
    """Empty what the trigger of this try has handed back: it is kept elsewhere by now."""
    ti: Any = context["ti"]
    if load_triggers_memory(context):
        ti.xcom_push(key=MEMORY_KEY, value={})


def load_triggers_memory(context: Context) -> Any:
    """What the trigger of this try has kept in full at its end, or None."""
    ti: Any = context["ti"]
    return ti.xcom_pull(task_ids=ti.task_id, key=MEMORY_KEY, map_indexes=ti.map_index)


# --- in a triggerer -------------------------------------------------------------------------------


class NoMemoryStore:
    """In the place of all that where there is no task instance."""

    def know(self, settings: ConnectionSettings | None, *, hopeless: bool = False) -> None:
        """Nothing is signed."""

    async def push(self, key: str, value: Mapping[str, Any]) -> bool:
        """Keep nothing."""
        return True

    async def remember(self, memory: Mapping[str, Any], *, routine: bool = False) -> bool:
        """Remember nothing."""
        return True


class TriggererMemoryStore:
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
        return await asyncio.wait_for(reading, ASK_AGAIN_SECONDS)

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
        if self._said is None or now - self._said >= ASK_AGAIN_SECONDS:
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
