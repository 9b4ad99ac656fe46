"""The base class of all triggers: connection, arguments as plain JSON, and kills."""

from __future__ import annotations

import asyncio
from abc import ABCMeta, abstractmethod
from collections.abc import AsyncIterator, Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.triggers.base import BaseTrigger, TriggerEvent

from iotda_provider.airflow_support import metrics
from iotda_provider.airflow_support.threads import in_import_thread
from iotda_provider.exceptions import IoTDAParameterError, TaskNotStoppableError
from iotda_provider.models.text import one_line
from iotda_provider.task_io.dag_parameters import flag
from iotda_provider.task_io.parameters import as_text, optional_text
from iotda_provider.transport.single_flight import own_loop_iteration, single_flight

if TYPE_CHECKING:
    from iotda_provider.hooks.iotda_async import IoTDAAsyncHook

# Airflow calls on_kill since 3.3. Before that, a cancelled trigger calls it itself.
_AIRFLOW_CALLS_ON_KILL = hasattr(BaseTrigger, "on_kill")
_KILL_SECONDS = 30.0
HOOKS = "iotda_provider.hooks.iotda_async"

# Not sys.modules: Python adds a module to it when its import begins, and an import statement for
# that module then blocks until the import has ended, even on an event loop.
_loaded: set[str] = set()


async def load(*modules: str) -> None:
    """Import modules in a thread; afterwards an ``import`` of them takes no time.

    An import may take a second. Nothing here blocks the event loop, neither for the first caller
    nor for others that need the same modules meanwhile.

    :param modules: dotted names
    :raises ImportError: one of them can't be imported
    """
    missing = tuple(module for module in modules if module not in _loaded)
    if missing:
        await single_flight(("import", missing), lambda: in_import_thread(_import, missing))
        await own_loop_iteration()  # or all that waited would go on in the same one


def _import(modules: Iterable[str]) -> None:
    for module in modules:
        import_module(module)
        _loaded.add(module)


class _MadeOfStoredArguments(ABCMeta):
    """Makes a trigger from saved arguments, perhaps of another release of the provider."""

    def __call__(cls, *args: Any, **arguments: Any) -> Any:
        if arguments.get("silent_fail") is False:
            del arguments["silent_fail"]  # an earlier version saved it with every wait
        try:
            return super().__call__(*args, **arguments)
        except TypeError as error:  # one is missing, or unknown
            raise IoTDAParameterError(
                f"{cls.__name__} can't be made of the arguments that Airflow has saved: "
                f"{one_line(error, 300)}. The next try of its task makes new ones."
            ) from error


class IoTDATrigger(BaseTrigger, metaclass=_MadeOfStoredArguments):
    """Waits in the triggerer, with a connection to IoTDA.

    A subclass implements :meth:`events`, and names its own arguments in ``stored``. Airflow keeps
    the arguments in its database, and makes the trigger from them after a restart of the triggerer.
    So whatever must survive a restart is in the arguments or is read again from IoTDA, never only
    in ``self``. Two copies of a trigger may run at the same time, because Airflow may take a slow
    triggerer for a dead one.

    Airflow imports a trigger's module on its event loop, which blocks all other triggers. So such a
    module imports little at its top. ``needs`` names the modules that the trigger works with: they
    are imported in a thread before :meth:`events` is called, and then imported where they are used.

    :param iotda_conn_id: the connection
    :param project_id: instead of the connection's
    :param instance_id: instead of the connection's
    :param stop_on_kill: stop the batch tasks when a user marks the task instance as failed or
        successful, or clears it; a restart of the triggerer stops nothing
    :raises IoTDAParameterError: an argument is missing, unknown or invalid
    """

    needs: ClassVar[tuple[str, ...]] = ()
    #: Arguments that a class adds to those of its base classes; each is an attribute too.
    stored: ClassVar[tuple[str, ...]] = (
        *("iotda_conn_id", "project_id", "instance_id"),
        "stop_on_kill",
    )

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

    def serialize(self) -> tuple[str, dict[str, Any]]:
        cls = type(self)
        names = [name for each in cls.__mro__ for name in vars(each).get("stored", ())]
        values = {name: getattr(self, name) for name in names}
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
        return f"{cls.__module__}.{cls.__qualname__}", plain

    def hook(self) -> IoTDAAsyncHook:
        """A hook for this trigger's connection; use it as an async context manager."""
        from iotda_provider.hooks.iotda_async import IoTDAAsyncHook

        return IoTDAAsyncHook(
            self.iotda_conn_id, project_id=self.project_id, instance_id=self.instance_id
        )

    @property
    @abstractmethod
    def batch_task_ids(self) -> tuple[str, ...]:
        """The watched batch tasks, which a user's kill stops if ``stop_on_kill`` is set."""

    @abstractmethod
    def events(self, hook: IoTDAAsyncHook) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield one event for the task. An error that is raised fails the task."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        metrics.work_for(getattr(self.task_instance, "dag_id", None))
        try:
            await load(HOOKS, *self.needs)
            async with self.hook() as hook:
                async for event in self.events(hook):
                    yield event
        except asyncio.CancelledError:
            if not _AIRFLOW_CALLS_ON_KILL:
                await asyncio.wait_for(self.on_kill(), _KILL_SECONDS)
            raise

    async def on_kill(self) -> None:
        """Stop the watched batch tasks if ``stop_on_kill`` is set and a user has killed the task.

        Airflow also calls this, wrongly, when another triggerer has taken the trigger over.
        """
        if not self.stop_on_kill:
            return
        await load(HOOKS, "iotda_provider.airflow_support.user_kills")
        from iotda_provider.airflow_support.user_kills import was_killed

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
            else:  # raising it would reach nobody
                self.log.error(
                    "The task was killed, but batch task %s could not be stopped: %s",
                    batch_task_id,
                    error,
                )
