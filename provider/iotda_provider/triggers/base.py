"""What all triggers share: the connection, their arguments as plain JSON, and a user's kill."""

from __future__ import annotations

import asyncio
import random
import time
from abc import ABCMeta, abstractmethod
from collections.abc import AsyncIterator, Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.triggers.base import BaseTrigger

from iotda_provider.airflow_support.threads import importing
from iotda_provider.exceptions import IoTDAParameterError
from iotda_provider.models.text import one_line
from iotda_provider.task_io.parameters import as_mapping, as_text, flag, optional_text, positive
from iotda_provider.transport.single_flight import own_loop_iteration, single_flight

if TYPE_CHECKING:
    from airflow.triggers.base import TriggerEvent

    from iotda_provider.hooks.iotda_async import IoTDAAsyncHook

# Airflow calls on_kill since 3.3; before, a cancelled trigger has to ask itself.
_AIRFLOW_TELLS_OF_KILLS = hasattr(BaseTrigger, "on_kill")
_KILL_SECONDS = 30.0
HOOKS = "iotda_provider.hooks.iotda_async"
#: What may end a wait before its time: the parameter that says so.
TIMEOUT, EXECUTION_TIMEOUT = "timeout", "execution_timeout"
# Not sys.modules: Python puts a module there when its import begins, and whoever imports it then
# waits for the end of that import, event loop or not.
_loaded: set[str] = set()


async def load(*modules: str) -> None:
    """Import modules; from then on an ``import`` of them takes no time.

    Whoever comes while they are imported waits without holding up the event loop.

    :param modules: dotted names
    :raises ImportError: one of them can't be imported
    """
    missing = tuple(module for module in modules if module not in _loaded)
    if missing:
        await single_flight(("import", missing), lambda: importing(_import, missing))
        await own_loop_iteration()  # or all that waited would go on in the same one


def _import(modules: Iterable[str]) -> None:
    for module in modules:
        import_module(module)
        _loaded.add(module)


class _MadeOfStoredArguments(ABCMeta):
    """Makes a trigger of what Airflow's database holds, which another release may have written."""

    def __call__(cls, *args: Any, **arguments: Any) -> Any:
        try:
            return super().__call__(*args, **arguments)
        except TypeError as error:  # one is missing, or unknown
            raise IoTDAParameterError(
                f"{cls.__name__} can't be made of the arguments that Airflow has kept of it: "
                f"{one_line(error, 300)}. Clear the task instance: its next try makes them anew."
            ) from error


class IoTDATrigger(BaseTrigger, metaclass=_MadeOfStoredArguments):
    """Waits in the triggerer, with the connection and the session that all triggers share.

    A subclass implements :meth:`events`, and adds its own arguments to :meth:`arguments`. What must
    survive a restart of the triggerer is in the arguments or read again from IoTDA, never only in
    ``self``: a restarted trigger is made anew out of its arguments. Another one may even run at the
    same time, where a triggerer was only thought to be dead.

    Airflow imports a trigger's module on its event loop, which holds up all other triggers. So such
    a module imports little; what the trigger works with is named in ``needs``, which is imported in
    a thread before :meth:`events` is called, and imported again where it is used.

    Its arguments stand in Airflow's database; what can't be one is refused in one line.

    :param iotda_conn_id: the connection
    :param project_id: instead of the connection's
    :param instance_id: instead of the connection's
    :param stop_on_kill: stop the batch tasks when a user marks the task instance as failed or
        successful, or clears it; a restart of the triggerer stops nothing
    """

    needs: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        *,
        iotda_conn_id: str = "iotda_default",
        project_id: str | None = None,
        instance_id: str | None = None,
        stop_on_kill: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.iotda_conn_id = as_text(iotda_conn_id, "iotda_conn_id")
        self.project_id = optional_text(project_id, "project_id")
        self.instance_id = optional_text(instance_id, "instance_id")
        self.stop_on_kill = flag(stop_on_kill, "stop_on_kill")

    def arguments(self) -> dict[str, Any]:
        """The arguments that make this trigger anew, as plain JSON."""
        return {
            "iotda_conn_id": self.iotda_conn_id,
            "project_id": self.project_id,
            "instance_id": self.instance_id,
            "stop_on_kill": self.stop_on_kill,
        }

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__qualname__}", self.arguments()

    def hook(self) -> IoTDAAsyncHook:
        """A hook for this trigger's connection; use it as an async context manager."""
        from iotda_provider.hooks.iotda_async import IoTDAAsyncHook

        return IoTDAAsyncHook(
            self.iotda_conn_id, project_id=self.project_id, instance_id=self.instance_id
        )

    @property
    @abstractmethod
    def batch_task_ids(self) -> tuple[str, ...]:
        """The tasks that are watched, and that a kill stops where the user wants that."""

    @abstractmethod
    def events(self, hook: IoTDAAsyncHook) -> AsyncIterator[TriggerEvent]:
        """Watch until there is an event to tell; an error that is raised fails the task."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        try:
            await load(HOOKS, *self.needs)
            async with self.hook() as hook:
                async for event in self.events(hook):
                    yield event
        except asyncio.CancelledError:
            if not _AIRFLOW_TELLS_OF_KILLS:
                await asyncio.wait_for(self.on_kill(), _KILL_SECONDS)
            raise

    async def on_kill(self) -> None:
        """Stop what is watched, where that was asked for and a user has killed the task instance.

        Airflow calls it at a user's kill, and by mistake where another triggerer has taken over.
        """
        if not self.stop_on_kill:
            return
        await load(HOOKS, "iotda_provider.airflow_support.user_kills")
        from iotda_provider.airflow_support.user_kills import was_killed
        from iotda_provider.exceptions import TaskNotStoppableError

        if not await was_killed(self.task_instance):
            self.log.info("No user has killed the task: nothing is stopped.")
            return
        async with self.hook() as hook:
            came = await hook.stop_whole_tasks(self.batch_task_ids)
        for batch_task_id, error in came.items():
            if error is None:
                self.log.warning(
                    "The task was killed: stopped batch task %s, as stop_on_kill asks.",
                    batch_task_id,
                )
            elif isinstance(error, TaskNotStoppableError):
                self.log.info("The task was killed, and nothing was left to stop: %s", error)
            else:  # nobody is left to raise it to
                self.log.error(
                    "The task was killed, but batch task %s could not be stopped: %s",
                    batch_task_id,
                    error,
                )


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

    needs = (
        "iotda_provider.triggers.events",
        "iotda_provider.waiting.outage",
        "iotda_provider.waiting.task_wait",
    )

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
        from iotda_provider.waiting.outage import Outage

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
                    line = outage.tolerate(error, time.monotonic())
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
