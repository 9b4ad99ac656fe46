"""Where a guard's memory is kept over a restart, and how worker and trigger hand it over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

from airflow.providers.common.compat.sdk import Context

from iotda_provider.airflow_support.task_notes import (
    LARGEST,
    Notes,
    VariableNotes,
    notes_of,
    owner_of,
)
from iotda_provider.airflow_support.threads import in_thread, one_at_a_time
from iotda_provider.exceptions import IoTDAError
from iotda_provider.models.log import Log
from iotda_provider.rollout_guard.memory import Memory, fitted
from iotda_provider.rollout_guard.plan import GuardPlan
from iotda_provider.rollout_guard.signature import Signature

if TYPE_CHECKING:
    from iotda_provider.connection.settings import ConnectionSettings
    from iotda_provider.hooks.iotda import IoTDAHook


#: Key of a guard's memory among the notes of its task instance, and of the XCom.
MEMORY_KEY = "guard_memory"
#: A stop waits at most so many seconds for Airflow to save the memory. After a breach, a stop waits
#: for nothing else but the platform.
SECONDS_BEFORE_STOP = 2.0
#: A verdict that depends on the memory of an earlier try waits at most so many seconds for it.
SECONDS_WITHOUT_MEMORY = 300.0
#: Time limit of writing an XCom, in seconds. No stop waits for that.
_XCOM_SECONDS = 10.0
#: The most routine saves in a second of all guards of a process together. A triggerer's
#: supervisor answers about twenty requests a second, for all its triggers.
_ROUTINE_WRITES_PER_SECOND = 5.0
#: Seconds between two routine saves of one guard, if the process has few guards.
_USUAL_SECONDS = 60.0
#: The most guards of one event loop that recall their memory at a time, for the same reason.
_RECALLS_AT_ONCE = 4
#: Seconds until a failed recall is tried again, and between two log lines about Airflow's errors.
ASK_AGAIN_SECONDS = 60.0

_guards: WeakSet[TriggererMemoryStore] = WeakSet()
_recalls: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


def short(error: BaseException) -> str:
    """The error's type and the first line of its text, at most 200 characters of it."""
    text = str(error).partition("\n")[0][:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


# --- in a worker ----------------------------------------------------------------------------------


def signature_of(hook: IoTDAHook, owner: Mapping[str, Any]) -> Signature:
    """The signature of a task instance's guard, made with the secret of its connection."""
    with suppress(IoTDAError):  # the first look reports the error
        _ = hook.settings
    return Signature(hook.last_settings, owner)


def save_memory(
    context: Context, memory: Mapping[str, Any], log: Log, signature: Signature
) -> bool:
    """Sign and save a guard's memory; whether that worked."""
    return _save(context, signature.sign(fitted(memory, LARGEST)), log)


def _save(context: Context, signed: Mapping[str, Any], log: Log) -> bool:
    try:
        notes_of(context).set(MEMORY_KEY, signed)
    # Airflow's database or API may be down, which must not stop the guard.
    except Exception as error:  # noqa: BLE001
        log.warning("The guard's memory could not be written; the guard goes on: %s", short(error))
        return False
    return True


class WorkerMemoryStore:
    """Keeps the memory of a guard in a worker, and hands it to its trigger and back.

    1. The worker saves the memory among the notes of its task instance: the task state store, or a
       Variable before Airflow 3.3.
    2. At a deferral the worker hands it over in a Variable, because a trigger can write nothing
       else. The trigger keeps the Variable up to date.
    3. At its end the trigger hands the memory back in an XCom. The worker empties the XCom once it
       has written the audit trail (:func:`forget_triggers_memory`).

    So a waiting guard keeps at most ``LARGEST`` bytes, or more if it guards many batch tasks
    (:func:`~iotda_provider.rollout_guard.memory.fitted`). As long as the Variable exists, it is
    newer than the task state store, because a worker that goes on takes it back first.

    Every copy is signed, because whoever may edit Variables or XComs may write a memory there
    (:class:`~iotda_provider.rollout_guard.signature.Signature`).

    :param context: Airflow's context of the running task instance
    :param log: the task's log
    :param hook: a hook of the guard's connection, whose secret signs the memory
    """

    def __init__(self, context: Context, log: Log, hook: IoTDAHook) -> None:
        owner = owner_of(context["ti"])
        self._context = context
        self._log = log
        self.signature = signature_of(hook, owner)
        self._notes = notes_of(context)
        self._variable = VariableNotes(owner)
        self._has_task_state = not isinstance(self._notes, VariableNotes)

    def recall(
        self,
        batch_task_ids: tuple[str, ...],
        audit_limit: int,
        *more: Any,
        asks_again: bool = False,
    ) -> Memory:
        """The memory that an earlier try has saved, in its worker or in its trigger.

        :param more: further copies to choose from
        :param asks_again: whether the caller calls this again if Airflow's database or API is
            down; otherwise the guard goes on without what can't be read
        :raises Exception: whatever Airflow raises then, if the caller asks again
        """
        found = self._load(asks_again)
        return self.signature.recall(
            *more, found, batch_task_ids=batch_task_ids, audit_limit=audit_limit
        )

    def _load(self, asks_again: bool) -> Any:
        found = self._get(self._variable, "a trigger", asks_again)
        if found is None and self._has_task_state:
            return self._get(self._notes, "an earlier try", asks_again)
        if found is None:
            return None
        # The signature, or the lack of one, stays as it is.
        if self._has_task_state and _save(self._context, found, self._log):
            self._delete(self._variable)
        return found

    def _get(self, notes: Notes, whose: str, asks_again: bool) -> Any:
        try:
            return notes.get(MEMORY_KEY)
        except Exception:  # a guard without a memory is better than no guard
            if asks_again:
                raise
            self._log.exception(f"What {whose} knew can't be read; the guard goes on without it.")
            return None

    def hand_over(self, memory: Mapping[str, Any]) -> None:
        """Save the memory where the trigger reads it: in the Variable, or else in an XCom."""
        signed = self.signature.sign(fitted(memory, LARGEST))
        try:
            self._variable.set(MEMORY_KEY, signed)
        except Exception:  # noqa: BLE001 - whatever Airflow raises, the XCom may work
            self._log.exception("The guard's memory could not be handed to its trigger.")
            self._context["ti"].xcom_push(key=MEMORY_KEY, value=signed)

    def take_back(self, memory: Mapping[str, Any]) -> None:
        """Save the memory among the worker's notes, and delete the trigger's Variable."""
        worked = save_memory(self._context, memory, self._log, self.signature)
        if worked and self._has_task_state:
            self._delete(self._variable)

    def settle(self, memory: Mapping[str, Any]) -> None:
        """At the good end of a guard: keep only what the guard must know if somebody clears it.

        That is a stop, without the trail, which is in an XCom or a file by now.
        """
        if memory.get("intent"):
            save_memory(self._context, {**memory, "trail": []}, self._log, self.signature)
        else:
            self._delete(self._notes)

    def _delete(self, notes: Notes) -> None:
        try:
            notes.delete(MEMORY_KEY)
        except Exception:  # noqa: BLE001 - a note too many does no harm
            self._log.exception("A note that nobody needs any more could not be deleted.")


def forget_triggers_memory(context: Context) -> None:
    """Empty the XCom in which the trigger of this try has handed its memory back."""
    ti: Any = context["ti"]
    if load_triggers_memory(context):
        ti.xcom_push(key=MEMORY_KEY, value={})


def load_triggers_memory(context: Context) -> Any:
    """The memory that the trigger of this try has handed back at its end, or None."""
    ti: Any = context["ti"]
    return ti.xcom_pull(task_ids=ti.task_id, key=MEMORY_KEY, map_indexes=ti.map_index)


# --- in a triggerer -------------------------------------------------------------------------------


class NoMemoryStore:
    """Keeps nothing: for a trigger that has no memory and no XComs."""

    def use_connection(
        self, settings: ConnectionSettings | None, *, permanent: bool = False
    ) -> None:
        """Do nothing."""

    async def push(self, key: str, value: Mapping[str, Any]) -> bool:
        """Do nothing."""
        return True

    async def remember(self, memory: Mapping[str, Any], *, routine: bool = False) -> bool:
        """Do nothing."""
        return True


class TriggererMemoryStore:
    """Keeps a guard's memory, and writes its XComs, for the task instance of a trigger.

    Airflow's database or API may fail in many ways, and none of them may end a guard. So every
    failure is only logged, one line a minute.

    :param owner: the task instance: ``dag_id``, ``run_id``, ``task_id``, ``map_index``
    :param log: the trigger's log
    """

    def __init__(self, owner: Mapping[str, Any], log: Log) -> None:
        self._notes = VariableNotes(owner)
        self._owner = dict(owner)
        self._log = log
        self._logged_at: float | None = None
        self._unwritten: Mapping[str, Any] | None = None
        self._writer: asyncio.Task[bool] | None = None
        self._routine_at = float("-inf")
        self._signature = Signature(None, owner)
        self._is_known = asyncio.Event()
        _guards.add(self)

    def use_connection(
        self, settings: ConnectionSettings | None, *, permanent: bool = False
    ) -> None:
        """Take the connection's secret for signatures: memories can be checked from now on.

        :param settings: the connection as it was last read; None: it could not be read
        :param permanent: the connection can't be read, and waiting will not help
        """
        if settings is not None:
            self._signature = Signature(settings, self._owner)
        if settings is not None or permanent:
            self._is_known.set()

    async def choose_own(self, found: Any, plan: GuardPlan) -> Memory:
        """Wait until the connection is known, then choose the guard's own memory among copies."""
        await self._is_known.wait()
        recall = partial(
            self._signature.recall,
            batch_task_ids=plan.batch_task_ids,
            audit_limit=plan.audit_limit,
        )
        return await in_thread(recall, *found)

    async def hand_back(self, memory: Mapping[str, Any]) -> dict[str, Any]:
        """Keep the memory in an XCom for the worker that goes on.

        :returns: what to add to the event: ``{}``, or ``{"memory"}`` if the XCom can't be written
        """
        signed = await in_thread(self._signature.sign, memory)
        return {} if await self.push(MEMORY_KEY, signed) else {"memory": signed}

    async def push(self, key: str, value: Mapping[str, Any]) -> bool:
        """Write an XCom; whether that worked."""
        write = one_at_a_time((id(self), "xcom"), self._set_xcom, key, dict(value))
        try:
            await asyncio.wait_for(write, _XCOM_SECONDS)
        except Exception as error:  # noqa: BLE001 - none may end a guard
            self.log_failure(f"XCom {key} could not be written", error)
            return False
        return True

    async def remember(self, memory: Mapping[str, Any], *, routine: bool = False) -> bool:
        """Save the memory for the next try; whether that worked within two seconds.

        :param routine: begin to save it, without waiting, unless this process has saved too much
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
            self.log_failure(
                "The guard's memory could not be written", TimeoutError("no answer yet")
            )
        return bool(done) and self._writer.result()

    def forget_unwritten(self) -> None:
        """At the guard's end: drop what is not written yet, because the worker goes on."""
        self._unwritten = None

    async def recall(self, *, urgent: bool = False) -> Any:
        """Read the copies of the memory: the worker's XCom and the Variable.

        :param urgent: a verdict depends on them, so don't wait for a turn among all guards
        :raises Exception: whatever Airflow raises when its database or API is down
        """
        if not urgent:
            turns = asyncio.Semaphore(_RECALLS_AT_ONCE)
            async with _recalls.setdefault(asyncio.get_running_loop(), turns):
                return await self.recall(urgent=True)
        reading = one_at_a_time((id(self), "recall"), self._get_memories)
        return await asyncio.wait_for(reading, ASK_AGAIN_SECONDS)

    async def _write(self) -> bool:
        """Save the newest memory, one write at a time, until none is left; whether it worked."""
        worked = False
        while self._unwritten is not None:
            memory, self._unwritten = self._unwritten, None
            # It has no time limit, because two writes at a time could end in the wrong order.
            try:
                await in_thread(self._set_memory, memory)
                worked = True
            except Exception as error:  # noqa: BLE001 - none may end a guard
                self.log_failure("The guard's memory could not be written", error)
                worked = False
        return worked

    def log_failure(self, what: str, error: BaseException) -> None:
        """Log a failure of Airflow, unless one was logged within the last minute."""
        now = time.monotonic()
        if self._logged_at is None or now - self._logged_at >= ASK_AGAIN_SECONDS:
            self._logged_at = now
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
