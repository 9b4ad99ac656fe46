"""Reads a connection from Airflow, and tells a missing one from an Airflow that is unreachable.

Airflow reports both as "not found": it ignores all errors of its secrets backends, which include
its own API and database. So after "not found", each backend is asked once more.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowNotFoundException

from iotda_provider.airflow_support.supervisor import (
    ask,
    finish_even_if_cancelled,
    present_supervisor,
)
from iotda_provider.airflow_support.threads import in_import_thread, in_thread
from iotda_provider.connection.settings import ConnectionLike
from iotda_provider.exceptions import IoTDAConfigError, IoTDAError, IoTDATransportError
from iotda_provider.masking.sealed import without_frames
from iotda_provider.models.text import what_is
from iotda_provider.transport.single_flight import single_flight

#: Seconds to wait for Airflow's answer on an event loop.
LOOKUP_SECONDS = 60.0

# A secrets backend may take other characters as a part of a path.
_CONN_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
# Answers of Airflow 3's API that do not change by themselves.
_NOT_FOUND, _DENIED = "CONNECTION_NOT_FOUND", "PERMISSION_DENIED"
# Errors of a value that a backend holds, not of the backend.
_FAULTS_OF_A_VALUE = (ValueError, TypeError, KeyError)
# SQLite's message for a database that was never set up; its type is that of an unreachable one.
_NEVER_SET_UP = "no such table"
_has_loaded_backends = False


def look_up(conn_id: str, read: Callable[[], ConnectionLike]) -> ConnectionLike:
    """Read an Airflow connection.

    :param read: asks Airflow
    :raises IoTDAConfigError: it does not exist, is broken, or this task may not read it
    :raises IoTDATransportError: Airflow's API, its database or a secrets backend is unreachable
    """
    _check(conn_id)
    with without_frames():  # frames hold the connection
        try:
            try:
                return read()
            except AirflowNotFoundException:
                raise _error_for(conn_id, _second_look(conn_id)) from None
        except BaseException as error:  # noqa: BLE001 - Airflow's errors have any type
            raise _typed(conn_id, error) from None


def _second_look(conn_id: str) -> Exception | str | None:
    supervisor = present_supervisor()
    if supervisor is not None and (failure := _failure_in(supervisor.send(_question(conn_id)))):
        return failure
    return _failure_of_a_backend(conn_id)


async def look_up_async(
    conn_id: str, read: Callable[[], Awaitable[ConnectionLike]]
) -> ConnectionLike:
    """The same on an event loop, without blocking it; simultaneous callers share one lookup.

    :param read: asks Airflow
    """
    _check(conn_id)
    return await single_flight(("connection", conn_id), lambda: _look_up_async(conn_id, read))


def _check(conn_id: object) -> None:
    if not isinstance(conn_id, str) or not _CONN_ID.fullmatch(conn_id) or ".." in conn_id:
        raise IoTDAConfigError(
            "iotda_conn_id must be 1 to 200 letters (a-z), digits, _, - and single dots; got "
            f"{what_is(conn_id)}."
        )


async def _look_up_async(
    conn_id: str, read: Callable[[], Awaitable[ConnectionLike]]
) -> ConnectionLike:
    await _load_backends()
    with without_frames():
        try:
            try:
                return await asyncio.wait_for(finish_even_if_cancelled(read()), LOOKUP_SECONDS)
            except AirflowNotFoundException:
                second = asyncio.wait_for(_second_look_async(conn_id), LOOKUP_SECONDS)
                raise _error_for(conn_id, await second) from None
        except BaseException as error:  # noqa: BLE001 - Airflow's errors have any type
            raise _typed(conn_id, error) from None


async def _load_backends() -> None:
    """Have Airflow load its secrets backends, and what it needs, in a thread."""
    global _has_loaded_backends
    if not _has_loaded_backends:
        with suppress(Exception):  # Airflow will meet the same error
            await asyncio.wait_for(in_import_thread(_load), LOOKUP_SECONDS)
        _has_loaded_backends = True


def _load() -> None:
    _backends()
    # Airflow 3 imports it when it looks a connection up.
    import_module("airflow.sdk.execution_time.cache")


async def _second_look_async(conn_id: str) -> Exception | str | None:
    supervisor = present_supervisor()
    if supervisor is not None:
        try:
            answer = await ask(supervisor, _question(conn_id))
        except (AttributeError, NotImplementedError):  # the supervisor of a task, in some versions
            answer = await in_thread(supervisor.send, _question(conn_id))
        if failure := _failure_in(answer):
            return failure
    return await in_thread(_failure_of_a_backend, conn_id)


def _question(conn_id: str) -> Any:
    from airflow.sdk.execution_time.comms import GetConnection

    return GetConnection(conn_id=conn_id)


def _failure_in(answer: Any) -> str | None:
    """The error in a supervisor's answer; None: the connection does not exist."""
    error = getattr(answer, "error", None)
    if error is None:
        return "it is there now"
    kind = str(getattr(error, "value", error))
    return None if kind == _NOT_FOUND else kind


def _failure_of_a_backend(conn_id: str) -> Exception | None:
    """The error of the first secrets backend that fails; None: none fails."""
    for backend in _backends():
        if type(backend).__name__ == "ExecutionAPISecretsBackend":  # the supervisor has asked it
            continue
        try:
            backend.get_connection(conn_id=conn_id)
        except Exception as error:  # noqa: BLE001 - each service has its own errors
            if _NEVER_SET_UP not in str(error):
                return error
    return None


def _backends() -> list[Any]:
    try:
        from airflow.sdk.execution_time.supervisor import ensure_secrets_backend_loaded
    except ImportError:  # Airflow 2
        from airflow.configuration import ensure_secrets_loaded

        return list(ensure_secrets_loaded())
    return list(ensure_secrets_backend_loaded())


def _typed(conn_id: str, error: BaseException) -> BaseException:
    """The provider's error for one of Airflow's; a cancellation or exit stays as it is."""
    return _error_for(conn_id, error) if isinstance(error, Exception) else error


def _error_for(conn_id: str, failure: Exception | str | None) -> IoTDAError:
    """The error for a failure; None as the failure: the connection does not exist."""
    if isinstance(failure, IoTDAError):
        return failure
    # Airflow 3's AirflowRuntimeError holds the API's answer.
    answer = getattr(getattr(failure, "error", None), "error", None)
    kind = failure if isinstance(failure, str) else str(getattr(answer, "value", ""))
    if failure is None or kind == _NOT_FOUND:
        return IoTDAConfigError(
            f"There is no connection {conn_id!r}: create it in the UI (Admin, Connections), with "
            f"airflow connections add {conn_id} --conn-type iotda, or as the environment variable "
            f"AIRFLOW_CONN_{conn_id.upper()}; or name another one in iotda_conn_id."
        )
    # Only the type is shown: messages of such errors hold addresses, statements and parameters.
    name = type(failure).__name__
    if kind == _DENIED or name == "AirflowSecretsBackendAccessDenied":
        return IoTDAConfigError(
            f"Airflow does not let this task read connection {conn_id!r}: check which team it "
            "belongs to, and that the clocks of Airflow's parts agree."
        )
    is_plain = isinstance(failure, _FAULTS_OF_A_VALUE) or type(failure) is AirflowException
    if is_plain and not kind:
        return IoTDAConfigError(
            f"Connection {conn_id!r} can't be read ({name}): check its fields, and the secrets "
            "backend or the environment variable that it is kept in."
        )
    return IoTDATransportError(
        f"Connection {conn_id!r} can't be read now: Airflow's API, its database or a secrets "
        f"backend is away ({kind or name}).",
        sent=False,
    )
