"""The connection of a task: its three parameters, and the hook made from them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from iotda_provider.exceptions import IoTDAError
from iotda_provider.models.log import Log
from iotda_provider.task_io.dag_parameters import check_connection
from iotda_provider.task_io.parameters import none_if_blank
from iotda_provider.transport.retrying import quiet_retries
from iotda_provider.waiting.outage import Outage

if TYPE_CHECKING:
    from iotda_provider.hooks.iotda import IoTDAHook
    from iotda_provider.models import BatchTask


class ConnectedTask:
    """A mixin for operators and sensors with a connection; name it before the base class."""

    iotda_conn_id: str
    project_id: str | None
    instance_id: str | None

    def _connect_to(
        self, iotda_conn_id: str, project_id: str | None, instance_id: str | None
    ) -> None:
        """Check and store the parameters; the hook reads the connection itself.

        :raises ValueError: one is neither text nor a template
        """
        check_connection(iotda_conn_id, project_id, instance_id)
        self.iotda_conn_id = iotda_conn_id
        self.project_id = project_id
        self.instance_id = instance_id

    @property
    def connection(self) -> dict[str, Any]:
        """The rendered parameters, as hooks and triggers take them."""
        return {
            "iotda_conn_id": self.iotda_conn_id,
            "project_id": none_if_blank(self.project_id),
            "instance_id": none_if_blank(self.instance_id),
        }

    def hook(self) -> IoTDAHook:
        """A hook for this task's connection; use it as a context manager."""
        from iotda_provider.hooks.iotda import IoTDAHook

        return IoTDAHook(**self.connection)


def look_at(hook: IoTDAHook, batch_task_id: str, outage: Outage, log: Log) -> BatchTask | None:
    """A batch task as it is now, for a wait; None: it can't be read.

    :raises IoTDAError: trouble that does not pass by itself, or that has lasted too long
    """
    try:
        with quiet_retries():
            task = hook.get_batch_task(batch_task_id)
        line = outage.answered(time.monotonic())
    except IoTDAError as error:
        task, line = None, outage.tolerate(error, time.monotonic())
    if line:
        log.warning("%s", line)
    return task
