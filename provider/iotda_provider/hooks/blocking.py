"""What ``requests`` does not do by itself: a body read within its time, errors in our own words."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import requests
from urllib3.exceptions import ClosedPoolError

from iotda_provider.answers import MAX_ANSWER_BYTES
from iotda_provider.api import Call
from iotda_provider.exceptions import IoTDAError, IoTDATransportError
from iotda_provider.hooks.failures import TOO_LARGE, Fault, transport_error
from iotda_provider.procedures import MAX_IN_FLIGHT
from iotda_provider.redaction import secrets_of
from iotda_provider.settings import ConnectionSettings
from iotda_provider.timely import innermost, timed_out_within

if TYPE_CHECKING:
    from iotda_provider.hooks.iotda import IoTDAHook

T = TypeVar("T")


def read_body(response: requests.Response, deadline: float) -> None:
    """Read the body into the response, within the deadline: requests' own timeout is per read."""
    parts: list[bytes] = []
    size = 0
    for part in response.iter_content(65_536):
        parts.append(part)
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            response.close()
            raise requests.exceptions.ContentDecodingError(TOO_LARGE)
        if time.monotonic() > deadline:
            response.close()
            raise requests.exceptions.ReadTimeout("the answer comes too slowly")
    length = response.headers.get("Content-Length", "")
    if size == 0 and length.strip("0") and not length.strip("0123456789"):
        raise requests.exceptions.ChunkedEncodingError("the answer was cut off")
    response._content = b"".join(parts)
    response._content_consumed = True  # type: ignore[attr-defined]


def error_of(
    call: Call[Any],
    settings: ConnectionSettings,
    error: requests.RequestException | ValueError,
    sent: Mapping[str, str],
    seconds: float,
) -> IoTDATransportError:
    """The typed error for what ``requests`` raised.

    :param sent: the request's headers, whose secrets must not show
    :param seconds: how long the attempt might take
    """
    fault, secrets = fault_of(error), secrets_of(sent)
    return transport_error(call, settings, fault, innermost(error), secrets, seconds=seconds)


def fault_of(error: requests.RequestException | ValueError) -> Fault:
    """What kind of failure it is that ``requests`` raised."""
    if error.args == (TOO_LARGE,):
        return Fault.TOO_LARGE
    if isinstance(error, requests.exceptions.SSLError):
        # TLS may also break when the request has been sent.
        return Fault.CERTIFICATE if "certificate" in str(error).lower() else Fault.TLS
    if isinstance(error, requests.exceptions.ProxyError):
        return Fault.PROXY
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return Fault.CONNECT_TIMEOUT
    if isinstance(error, requests.exceptions.Timeout) or timed_out_within(error):
        return Fault.TIMEOUT
    if any(isinstance(cause, ClosedPoolError) for cause in error.args):
        return Fault.CLOSED
    text = str(error)
    if "NewConnectionError" in text or "NameResolutionError" in text:
        return Fault.UNREACHABLE
    return Fault.BROKEN


class BlockingIO:
    """What procedures await of the blocking hook: it blocks, and never suspends."""

    def __init__(self, hook: IoTDAHook) -> None:
        self._hook = hook

    async def perform(self, call: Call[T]) -> T:
        """Make one call."""
        return self._hook._perform(call)

    async def perform_all(self, calls: Sequence[Call[T]]) -> list[T | IoTDAError]:
        """Make some calls, each in a thread."""

        def one(call: Call[T]) -> T | IoTDAError:
            try:
                return self._hook._perform(call)
            except IoTDAError as error:
                return error

        # Read once here, so that the threads do not race to read the connection.
        self._hook._open()
        if len(calls) < 2:
            return [one(call) for call in calls]
        pool = ThreadPoolExecutor(MAX_IN_FLIGHT, thread_name_prefix="iotda")
        try:
            return list(pool.map(one, calls))
        finally:
            # Where a signal or a timeout ends the task, what has not begun must not begin.
            pool.shutdown(cancel_futures=True)

    async def pause(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)  # noqa: ASYNC251 - there is no event loop
