"""Carries out in the triggerer what the watch over a rollout asks for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from iotda_provider.driving import drive_async
from iotda_provider.durable import LARGEST, VariableNotes
from iotda_provider.exceptions import IoTDAAuthError, IoTDAError, IoTDATransportError
from iotda_provider.guard_worker import ALERT_KEY, MEMORY_KEY, call_on_alert, missing_on_alert
from iotda_provider.guarding import ReadFailed, ReadTasks, RehearseStop, Save, Step, StopTask, Tell
from iotda_provider.guarding.memory import fitted, newest
from iotda_provider.guards import Look, Rule, evaluate
from iotda_provider.models import TaskProgress
from iotda_provider.unbroken import in_thread

if TYPE_CHECKING:
    from iotda_provider.guarding.steps import Log, Procedure
    from iotda_provider.hooks.iotda_async import IoTDAAsyncHook
    from iotda_provider.models import BatchTask

T = TypeVar("T")
#: Seconds that Airflow may take to keep something before a guard goes on; it may be kept later.
_WRITE_SECONDS = 10.0
#: Seconds after which a guard that begins goes on without knowing that it may stop its rollout.
_REHEARSAL_SECONDS = 10.0
#: Seconds that a user's function may take before a guard goes on.
_ALERT_SECONDS = 60.0
#: Seconds in which the module of ``on_alert`` should be imported, before the first look.
_IMPORT_SECONDS = 5.0


async def warm_up(rules: Sequence[Rule]) -> None:
    """Let the rules load what they reckon with in a thread: it takes a second, once a process."""
    look = Look(time=0.0, progress=TaskProgress(total=1, fail=1))
    await asyncio.to_thread(evaluate, rules, None, look)


class TriggerSteps:
    """The asynchronous driver of a watch.

    :param hook: an open hook
    :param kept: where memory and alerts are kept, or ``Nowhere``
    :param log: where its lines go
    :param on_alert: the dotted path of a function to call besides
    :param read: how a batch task is read; None: by the hook, one call each
    """

    def __init__(
        self,
        hook: IoTDAAsyncHook,
        kept: OwnState | Nowhere,
        log: Log,
        on_alert: str | None = None,
        *,
        read: Callable[[str], Awaitable[BatchTask]] | None = None,
    ) -> None:
        self._hook = hook
        self._read_task = read or hook.get_batch_task
        self._kept = kept
        self._log = log
        self._on_alert = on_alert

    async def run(self, procedure: Procedure[T]) -> T:
        """Carry out all steps of a procedure; its result.

        :raises IoTDAError: as the procedure does
        """
        return await drive_async(procedure, self._do)

    async def _do(self, step: Step) -> Any:
        if isinstance(step, ReadTasks):
            return await asyncio.gather(*map(self._read, step.batch_task_ids))
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
            return await self._kept.remember(step.memory)
        return await self._tell(step)

    async def try_on_alert(self, batch_task_ids: Sequence[str]) -> None:
        """Say at once where ``on_alert`` can't be called here, and not at the first alert."""
        if self._on_alert is None:
            return
        trial = asyncio.ensure_future(
            asyncio.to_thread(missing_on_alert, self._on_alert, batch_task_ids)
        )
        _, slow = await asyncio.wait({trial}, timeout=_IMPORT_SECONDS)
        if slow:
            self._log.error("on_alert takes its time to be imported; the guard goes on.")
        elif alert := trial.result():
            self._on_alert = None
            await self._tell(alert)

    async def _read(self, batch_task_id: str) -> BatchTask | IoTDAError:
        try:
            return await self._read_task(batch_task_id)
        except IoTDAAuthError as error:
            # Perhaps the connection has new keys by the next look.
            await self._hook.close()
            return error
        except IoTDAError as error:
            return error

    async def _rehearse(self, batch_task_id: str) -> None:
        try:
            await asyncio.wait_for(self._hook.rehearse_stop(batch_task_id), _REHEARSAL_SECONDS)
        except asyncio.TimeoutError:
            raise IoTDATransportError(
                f"the platform has not answered within {_REHEARSAL_SECONDS:.0f} s"
            ) from None

    async def _tell(self, alert: Tell) -> None:
        self._log.error("%s", alert.sentence)
        await self._kept.push(ALERT_KEY, alert.to_json())
        if self._on_alert is not None:
            call = asyncio.to_thread(call_on_alert, self._on_alert, alert.to_json(), self._log)
            _, slow = await asyncio.wait({asyncio.ensure_future(call)}, timeout=_ALERT_SECONDS)
            if slow:
                self._log.error("on_alert takes its time; the guard goes on without it.")


class Nowhere:
    """In the place of all that where there is no task instance."""

    async def push(self, key: str, value: Mapping[str, Any]) -> bool:
        """Keep nothing."""
        return True

    async def remember(self, memory: Mapping[str, Any]) -> bool:
        """Remember nothing."""
        return True


class OwnState:
    """What a trigger keeps for its task instance: XComs, and a memory that outlives the try.

    Airflow's database or API may be down, in many ways, which must not stop a guard: every failure
    is logged, and no more.

    :param owner: the task instance: ``dag_id``, ``run_id``, ``task_id``, ``map_index``
    :param log: where its lines go
    """

    def __init__(self, owner: Mapping[str, Any], log: Log) -> None:
        self._owner = dict(owner)
        self._notes = VariableNotes(owner)
        self._log = log

    async def push(self, key: str, value: Mapping[str, Any]) -> bool:
        """Keep an XCom; whether that worked."""
        return await self._write(f"XCom {key}", self._set_xcom, key, dict(value))

    async def remember(self, memory: Mapping[str, Any]) -> bool:
        """Keep the memory where the next try finds it; whether that worked."""
        return await self._write("The guard's memory", self._set_memory, dict(memory))

    async def recall(self) -> Any:
        """The memory: what this try's worker has left, or what was kept since, or None.

        It may take long where a triggerer has just started.
        """
        first = await self._read(f"XCom {MEMORY_KEY}", self._get_xcom, MEMORY_KEY)
        later = await self._read("The guard's memory", self._notes.get, MEMORY_KEY)
        return newest(first, later)

    async def _write(self, what: str, function: Callable[..., None], *args: Any) -> bool:
        try:
            await asyncio.wait_for(in_thread(function, *args), _WRITE_SECONDS)
        except Exception:  # noqa: BLE001 - as above
            self._log.exception(f"{what} could not be written; the guard goes on.")
            return False
        return True

    async def _read(self, what: str, function: Callable[..., Any], *args: Any) -> Any:
        try:
            return await in_thread(function, *args)
        except Exception:  # noqa: BLE001 - as above; what the trigger was given has to do
            self._log.exception(f"{what} could not be read; the guard goes on.")
            return None

    def _set_memory(self, memory: Mapping[str, Any]) -> None:
        self._notes.set(MEMORY_KEY, fitted(memory, LARGEST))

    def _set_xcom(self, key: str, value: Any) -> None:
        from airflow.providers.common.compat.sdk import XCom

        xcom: Any = XCom
        xcom.set(key, value, **self._owner)

    def _get_xcom(self, key: str) -> Any:
        from airflow.providers.common.compat.sdk import XCom

        xcom: Any = XCom
        return xcom.get_one(key=key, **self._owner)
