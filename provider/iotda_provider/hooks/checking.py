"""What "Test" on a connection does: one cheap signed call, and its outcome in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowException

from iotda_provider import api
from iotda_provider.exceptions import IoTDAAuthError, IoTDAConfigError
from iotda_provider.models import BatchTask, TaskType

if TYPE_CHECKING:
    from iotda_provider.connection.settings import ConnectionSettings


def check_call() -> api.Call[api.Page[BatchTask]]:
    """The call that a test makes: it reads one row, whatever the fleet's size."""
    return api.list_batch_tasks(task_type=TaskType.FIRMWARE_UPGRADE, limit=1)


#: What may go wrong in it. Everything else is a fault of ours.
FAILURES = (AirflowException, OSError, ValueError)


def outcome(
    check: Callable[[], object], settings: Callable[[], ConnectionSettings]
) -> tuple[bool, str]:
    """Whether the connection works, and what failed if it does not; raises nothing of that.

    :param check: makes the call
    :param settings: gives the connection's settings
    """
    try:
        check()
    except FAILURES as error:
        return False, describe(error)
    return True, success(settings())


def success(settings: ConnectionSettings) -> str:
    """What is said of a connection that works."""
    instance = f", instance {settings.instance_id}" if settings.instance_id else ""
    project = f"project {settings.project_id}" if settings.project_id else "the region's project"
    return f"Connected to {settings.base_url}, {project}{instance}, by {settings.auth_type}."


def describe(error: BaseException) -> str:
    """What failed, in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, IoTDAConfigError):
        return f"The connection is not complete: {text}"
    if isinstance(error, IoTDAAuthError):
        what = "does not know the caller" if error.status_code == 401 else "refuses the caller"
        return f"The platform {what}: {text}"
    return text
