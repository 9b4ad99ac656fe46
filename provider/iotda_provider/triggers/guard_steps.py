"""Carries out in the triggerer what the watch over a rollout asks for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from iotda_provider.exceptions import IoTDAAuthError, IoTDAError
from iotda_provider.guard_worker import ALERT_KEY, MEMORY_KEY, call_on_alert
from iotda_provider.guarding import ReadFailed, ReadTasks, Save, Step, StopTask, Tell
from iotda_provider.guards import Look, Rule, evaluate
from iotda_provider.models import TaskProgress

if TYPE_CHECKING:
    from iotda_provider.guarding.steps import Log, Procedure
    from iotda_provider.hooks.iotda_async import IoTDAAsyncHook
    from iotda_provider.models import BatchTask

T = TypeVar("T")
#: Seconds that Airflow may take to keep an XCom before a guard goes on; it may still be kept then.
_XCOM_SECONDS = 10.0


async def warm_up(rules: Sequence[Rule]) -> None:
    """Let the rules load what they reckon with in a thread: it takes a second, once a process."""
    look = Look(time=0.0, progress=TaskProgress(total=1, fail=1))
    await asyncio.to_thread(evaluate, rules, None, look)


class TriggerSteps:
    """The asynchronous driver of a watch.

    :param hook: an open hook
    :param xcoms: where memory and alerts are kept, or ``Nowhere``
    :param log: where its lines go
    :param on_alert: the dotted path of a function to call besides
    :param read: how a batch task is read; None: by the hook, one call each
    """

    def __init__(
        self,
        hook: IoTDAAsyncHook,
        xcoms: OwnXComs | Nowhere,
        log: Log,
        on_alert: str | None = None,
        *,
        read: Callable[[str], Awaitable[BatchTask]] | None = None,
    ) -> None:
        self._hook = hook
        self._read_task = read or hook.get_batch_task
        self._xcoms = xcoms
        self._log = log
        self._on_alert = on_alert

    async def run(self, procedure: Procedure[T]) -> T:
        """Carry out all steps of a procedure; its result.

        :raises IoTDAError: as the procedure does
        """
        answer: Any = None
        error: IoTDAError | None = None
        while True:
            try:
                step = procedure.throw(error) if error is not None else procedure.send(answer)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            answer, error = None, None
            try:
                answer = await self._do(step)
            except IoTDAError as caught:
                error = caught

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
        if isinstance(step, Save):
            return await self._xcoms.push(MEMORY_KEY, step.memory)
        return await self._tell(step)

    async def _read(self, batch_task_id: str) -> BatchTask | IoTDAError:
        try:
            return await self._read_task(batch_task_id)
        except IoTDAAuthError as error:
            # Perhaps the connection has new keys by the next look.
            await self._hook.close()
            return error
        except IoTDAError as error:
            return error

    async def _tell(self, alert: Tell) -> None:
        self._log.error("%s", alert.sentence)
        await self._xcoms.push(ALERT_KEY, alert.to_json())
        if self._on_alert is not None:
            await asyncio.to_thread(call_on_alert, self._on_alert, alert.to_json(), self._log)


class Nowhere:
    """In the place of XComs where there is no task instance."""

    async def push(self, key: str, value: Mapping[str, Any]) -> bool:
        """Keep nothing."""
        return True


class OwnXComs:
    """The XComs of the task instance that a trigger works for.

    The only thing of Airflow's that a trigger can write to in every version, and that survives a
    restart of the triggerer.

    :param owner: the task instance: ``dag_id``, ``run_id``, ``task_id``, ``map_index``
    :param log: where its lines go
    """

    def __init__(self, owner: Mapping[str, Any], log: Log) -> None:
        self._owner = dict(owner)
        self._log = log

    async def push(self, key: str, value: Mapping[str, Any]) -> bool:
        """Keep a value; whether that worked."""
        try:
            await asyncio.wait_for(self._set(key, dict(value)), _XCOM_SECONDS)
        # Airflow's database or API may be down, in many ways, which must not stop the guard.
        except Exception:  # noqa: BLE001
            self._log.exception(f"XCom {key} could not be written; the guard goes on.")
            return False
        return True

    async def pull(self, key: str) -> Any:
        """A value that was kept, or None; it may take long where a triggerer has just started."""
        try:
            return await self._get(key)
        except Exception:  # noqa: BLE001 - the same; what the trigger was given has to do
            self._log.exception(f"XCom {key} could not be read; the guard goes on.")
            return None

    async def _set(self, key: str, value: Any) -> None:
        from airflow.providers.common.compat.sdk import XCom

        xcom: Any = XCom
        await _in_thread(xcom.set, key, value, **self._owner)

    async def _get(self, key: str) -> Any:
        from airflow.providers.common.compat.sdk import XCom

        xcom: Any = XCom
        return await _in_thread(xcom.get_one, key=key, **self._owner)


async def _in_thread(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Call what blocks; through asgiref, from whose threads Airflow's own calls find their loop."""
    from asgiref.sync import sync_to_async

    return await sync_to_async(function)(*args, **kwargs)
