"""Shared by both hooks: the arguments of ``run``, and the result of a connection test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.providers.common.compat.sdk import AirflowException

from iotda_provider import api
from iotda_provider.connection.settings import ConnectionSettings
from iotda_provider.exceptions import IoTDAAuthError, IoTDAConfigError
from iotda_provider.models import BatchTask, TaskType
from iotda_provider.models.json_text import read_json
from iotda_provider.models.text import one_line, what_is
from iotda_provider.transport.headers import checked_headers

#: The errors that a connection test reports; any other error is a bug.
TEST_FAILURES = (AirflowException, OSError, ValueError)


def read_run_arguments(
    endpoint: str | None,
    data: Mapping[str, Any] | str | None,
    headers: Mapping[str, Any] | None,
    extra_options: Mapping[str, Any] | None,
    method: str | None,
    params: Mapping[str, Any] | None,
    json: Any,
    unknown: Mapping[str, Any],
) -> tuple[api.Call[Any], Mapping[str, str], bool]:
    """Check the arguments of ``run``, which documents them.

    Returns the call, the caller's own headers, and whether an error response is raised.

    :param unknown: arguments that ``run`` does not take
    :raises IoTDAConfigError: an argument has the wrong type, or the path is wrong
    :raises TypeError: there are unknown arguments
    """
    for name, value in (
        ("headers", headers),
        ("extra_options", extra_options),
        ("params", params),
    ):
        if value is not None and not isinstance(value, Mapping):
            raise IoTDAConfigError(
                f"{name} must be an object; got {what_is(value, instead_of='an object')}."
            )
    options = dict(extra_options or {})
    check = bool(options.pop("check_response", True))
    if unknown or options:
        names = ", ".join(sorted(one_line(name, 60) for name in {*unknown, *options}))
        raise TypeError(
            f"run() does not take {names}; it takes data, headers, params, json and method. "
            "Timeout, proxies and verify belong in the connection's Extra."
        )
    body = json
    if data is not None and str(method).upper() != "GET" and body is None:
        body = _read_body(data) if isinstance(data, str) else data
    elif data is not None and isinstance(data, Mapping):
        params = {**data, **(params or {})}
    elif data is not None:
        raise IoTDAConfigError(
            "data must be an object where it is the query of a GET or stands beside json."
        )
    verb = method or ("GET" if body is None else "POST")
    call = api.any_call(verb, endpoint or "", query=params, body=body)
    return call, checked_headers(headers or {}), check


def _read_body(text: str) -> Any:
    try:
        return read_json(text)
    except ValueError as error:
        raise IoTDAConfigError(f"data must be an object or JSON text: {error}.") from None


def connection_test_call() -> api.Call[api.Page[BatchTask]]:
    """The call that a connection test makes: it reads one row, whatever the fleet's size."""
    return api.list_batch_tasks(task_type=TaskType.FIRMWARE_UPGRADE, limit=1)


def connection_works(settings: ConnectionSettings) -> tuple[bool, str]:
    """The result of a connection test that succeeded."""
    instance = f", instance {settings.instance_id}" if settings.instance_id else ""
    project = f"project {settings.project_id}" if settings.project_id else "the region's project"
    text = f"Connected to {settings.base_url}, {project}{instance}, by {settings.auth_type}."
    return True, text


def connection_fails(error: BaseException) -> tuple[bool, str]:
    """The result of a connection test that failed, in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, IoTDAConfigError):
        text = f"The connection is not complete: {text}"
    elif isinstance(error, IoTDAAuthError):
        what = "does not know the caller" if error.status_code == 401 else "refuses the caller"
        text = f"The platform {what}: {text}"
    return False, text
