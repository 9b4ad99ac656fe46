"""The trigger that waits for a batch task to reach one of some statuses."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.triggers.base import TaskSuccessEvent, TriggerEvent

from iotda_provider.exceptions import IoTDAError
from iotda_provider.task_io.dag_parameters import flag, texts
from iotda_provider.task_io.parameters import as_mapping, as_text, positive
from iotda_provider.triggers.base import IoTDATrigger, load

if TYPE_CHECKING:
    from iotda_provider.hooks.iotda_async import IoTDAAsyncHook
    from iotda_provider.models import BatchTask


class BatchTaskTrigger(IoTDATrigger):
    """Waits until a batch task has a target status or a failure status.

    The event has the batch task. The resumed task judges it again with the same function as this
    trigger: :meth:`iotda_provider.waiting.task_wait.TaskWait.judge`. There are two more events: the
    deadline is over (``{"status": "timeout", ...}``), and an error is permanent or has lasted too
    long (``{"status": "error", ...}``).

    :param batch_task_id: the batch task
    :param target_statuses: statuses that end the wait; empty: all final statuses
    :param failure_statuses: statuses that end the wait too; the resumed task fails
    :param end_from_trigger: if the wait succeeds, end the task instance here, without a worker
    :param live: writes the XCom ``live`` of a stop: ``{"owner", "sent_at"}`` with the task instance
        and the time when the stop was accepted, in seconds since the epoch; None: no XCom
    :param poll_interval: seconds from one look to the next
    :param deadline: when the wait is over, in seconds since the epoch; None: never
    :param limit: the parameter that the deadline comes from
    :param max_outage: the most seconds without an answer from the API; a longer outage is an error
    :param memo: plain JSON that the event returns to the task. A deferral loses ``self``, and
        ``dag.test()`` also loses the arguments of ``defer(kwargs=...)``
    """

    needs = (
        "iotda_provider.triggers.events",
        "iotda_provider.waiting.outage",
        "iotda_provider.waiting.task_wait",
    )
    stored: ClassVar[tuple[str, ...]] = (
        *("batch_task_id", "target_statuses", "failure_statuses", "end_from_trigger", "live"),
        *("poll_interval", "deadline", "limit", "max_outage", "memo"),
    )

    def __init__(
        self,
        *,
        batch_task_id: str,
        target_statuses: Sequence[str] = (),
        failure_statuses: Sequence[str] = (),
        end_from_trigger: bool = False,
        live: Mapping[str, Any] | None = None,
        poll_interval: float = 10.0,
        deadline: float | None = None,
        limit: str = "timeout",
        max_outage: float = 900.0,
        memo: Mapping[str, Any] | None = None,
        **connection: Any,
    ) -> None:
        super().__init__(**connection)
        self.poll_interval = positive(poll_interval, "poll_interval", zero=True)
        self.deadline = None if deadline is None else positive(deadline, "deadline", zero=True)
        self.limit = as_text(limit, "limit")
        self.max_outage = positive(max_outage, "max_outage", zero=True)
        self.memo = {} if memo is None else as_mapping(memo, "memo")
        self.batch_task_id = as_text(batch_task_id, "batch_task_id")
        self.target_statuses = texts(target_statuses, "target_statuses")
        self.failure_statuses = texts(failure_statuses, "failure_statuses")
        self.end_from_trigger = flag(end_from_trigger, "end_from_trigger")
        self.live = None if live is None else _checked(as_mapping(live, "live"))
        self._show: Callable[[BatchTask], None] = lambda task: None
        self._said = ""

    @property
    def batch_task_ids(self) -> tuple[str, ...]:
        return (self.batch_task_id,)

    async def events(self, hook: IoTDAAsyncHook) -> AsyncIterator[TriggerEvent]:
        async with AsyncExitStack() as stack:
            if self.live is not None:
                await self._write_live(stack, self.live)
            event = await self._wait(hook)
            if isinstance(event.payload, dict) and "status" in event.payload:
                event.payload["memo"] = self.memo
            yield event

    async def _write_live(self, stack: AsyncExitStack, live: Mapping[str, Any]) -> None:
        """Write the XCom ``live`` after each look, until the stack is closed."""
        await load(
            "iotda_provider.rollout_guard.memory_store", "iotda_provider.triggers.live_in_triggerer"
        )
        from iotda_provider.rollout_guard.live_record import StopLiveState
        from iotda_provider.rollout_guard.memory_store import TriggererMemoryStore
        from iotda_provider.triggers.live_in_triggerer import LiveInTriggerer

        state = StopLiveState(self.batch_task_id, self.poll_interval, live["sent_at"])
        store = TriggererMemoryStore(live["owner"], self.log)
        written = await stack.enter_async_context(LiveInTriggerer(state, store))

        def show(task: BatchTask) -> None:
            state.saw(task)
            written.show()

        self._show = show

    async def _wait(self, hook: IoTDAAsyncHook) -> TriggerEvent:
        from iotda_provider.transport.retrying import quiet_retries
        from iotda_provider.triggers.events import failed, timed_out
        from iotda_provider.waiting.outage import Outage

        outage = Outage(self.max_outage)
        # A triggerer starts all its triggers at once; a random first pause spreads their looks.
        spread = random.random()  # noqa: S311 - no secret
        while True:
            began = time.monotonic()
            event = None
            try:
                with quiet_retries():
                    event = await self._look(hook)
                line = outage.answered(time.monotonic())
            except IoTDAError as error:
                try:
                    line = outage.tolerate(error, time.monotonic())
                except IoTDAError as final:
                    return failed(self.batch_task_ids, final)
            if line:
                self.log.warning("%s", line)
            if event is not None:
                return event
            pause = max(0.0, began + spread * self.poll_interval - time.monotonic())
            spread = 1.0
            if self.deadline is not None:
                left = self.deadline - time.time()
                if left <= 0:
                    return timed_out(self.batch_task_ids, self.limit)
                pause = min(pause, left)
            await asyncio.sleep(pause)

    async def _look(self, hook: IoTDAAsyncHook) -> TriggerEvent | None:
        """The event that ends the wait; None: look again."""
        from iotda_provider.triggers.events import over
        from iotda_provider.waiting.task_wait import ENDED, Judgement, TaskWait, task_statuses

        targets = task_statuses(self.target_statuses, "target_statuses") or ENDED
        failures = task_statuses(self.failure_statuses, "failure_statuses")
        wait = TaskWait(self.batch_task_id, targets, failures)
        task = await hook.get_batch_task(self.batch_task_id)
        self._show(task)
        now = f"{task.status}: {task.progress}"
        if now != self._said:
            self._said = now
            self.log.info("Batch task %s is %s.", self.batch_task_id, now)
        judgement = wait.judge(task)
        if judgement is Judgement.WAIT:
            return None
        if judgement is Judgement.REACHED and self.end_from_trigger:
            return TaskSuccessEvent(xcoms={"return_value": task.to_dict()})
        return over(task)


def _checked(live: Mapping[str, Any]) -> dict[str, Any]:
    sent_at = live.get("sent_at")
    return {
        "owner": as_mapping(live.get("owner"), "owner"),
        "sent_at": None if sent_at is None else positive(sent_at, "sent_at"),
    }
