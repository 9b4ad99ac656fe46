"""What all triggers share: the connection, their arguments as plain JSON, and a user's kill."""

from __future__ import annotations

import asyncio
from abc import ABCMeta, abstractmethod
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.triggers.base import BaseTrigger

from iotda_provider.exceptions import IoTDAParameterError
from iotda_provider.models.text import one_line
from iotda_provider.task_io.parameters import as_text, flag, optional_text
from iotda_provider.triggers.loading import load

if TYPE_CHECKING:
    from airflow.triggers.base import TriggerEvent

    from iotda_provider.hooks.iotda_async import IoTDAAsyncHook

# Airflow calls on_kill since 3.3; before, a cancelled trigger has to ask itself.
_AIRFLOW_TELLS_OF_KILLS = hasattr(BaseTrigger, "on_kill")
_KILL_SECONDS = 30.0
HOOKS = "iotda_provider.hooks.iotda_async"


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
