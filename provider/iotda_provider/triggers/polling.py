"""A trigger that looks at IoTDA at an interval until there is something to tell."""

from __future__ import annotations

import asyncio
import random
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from iotda_provider.task_io.parameters import as_mapping, as_text, positive
from iotda_provider.triggers.base import IoTDATrigger

if TYPE_CHECKING:
    from airflow.triggers.base import TriggerEvent

    from iotda_provider.hooks.iotda_async import IoTDAAsyncHook

#: What may end a wait before its time: the parameter that says so.
TIMEOUT, EXECUTION_TIMEOUT = "timeout", "execution_timeout"


class PollingTrigger(IoTDATrigger):
    """Looks every ``poll_interval`` seconds; trouble at the API shorter than ``max_outage`` passes.

    A subclass implements :meth:`look`. Besides what that returns there are two events: the time is
    over (``{"status": "timeout", ...}``), and an error that will not pass or has lasted too long
    (``{"status": "error", ...}``).

    :param poll_interval: seconds from one look to the next
    :param deadline: when the wait is over, in seconds since 1970; None: never
    :param limit: the parameter that the deadline comes from
    :param max_outage: seconds of trouble at the API that the wait outlives
    :param memo: plain JSON that comes back with the event: ``self`` is lost over a deferral, and
        the arguments of ``defer(kwargs=...)`` are, too, in ``dag.test()``
    """

    needs = ("iotda_provider.triggers.events", "iotda_provider.waiting.task_wait")

    def __init__(
        self,
        *,
        poll_interval: float = 10.0,
        deadline: float | None = None,
        limit: str = TIMEOUT,
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

    def arguments(self) -> dict[str, Any]:
        return {
            **super().arguments(),
            "poll_interval": self.poll_interval,
            "deadline": self.deadline,
            "limit": self.limit,
            "max_outage": self.max_outage,
            "memo": self.memo,
        }

    @abstractmethod
    async def look(self, hook: IoTDAAsyncHook) -> TriggerEvent | None:
        """Look once: the event to tell, or None to look again.

        :raises IoTDAError: the look failed; whether that ends the wait is judged here
        """

    async def events(self, hook: IoTDAAsyncHook) -> AsyncIterator[TriggerEvent]:
        async for event in self._events(hook):
            if isinstance(event.payload, dict) and "status" in event.payload:
                event.payload["memo"] = self.memo
            yield event

    async def _events(self, hook: IoTDAAsyncHook) -> AsyncIterator[TriggerEvent]:
        from iotda_provider.exceptions import IoTDAError
        from iotda_provider.transport.retrying import retries_unsaid
        from iotda_provider.triggers.events import failed, timed_out
        from iotda_provider.waiting.task_wait import Outage

        outage = Outage(self.max_outage)
        # A triggerer that starts begins all its triggers at once; they need not stay in step.
        spread = random.random()  # noqa: S311 - no secret
        while True:
            began = time.monotonic()
            event = None
            try:
                with retries_unsaid():
                    event = await self.look(hook)
                line = outage.answered(time.monotonic())
            except IoTDAError as error:
                try:
                    line = outage.outlive(error, time.monotonic())
                except IoTDAError as final:
                    yield failed(self.batch_task_ids, final)
                    return
            if line:
                self.log.warning("%s", line)
            if event is not None:
                yield event
                return
            pause = max(0.0, began + spread * self.poll_interval - time.monotonic())
            spread = 1.0
            if self.deadline is not None:
                left = self.deadline - time.time()
                if left <= 0:
                    yield timed_out(self.batch_task_ids, self.limit)
                    return
                pause = min(pause, left)
            await asyncio.sleep(pause)
