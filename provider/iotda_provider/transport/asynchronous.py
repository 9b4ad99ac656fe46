"""Sends the asynchronous hook's requests by ``aiohttp``: it suspends, and never blocks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from iotda_provider.airflow_support.threads import in_thread
from iotda_provider.api import Call, Outgoing, Repeat
from iotda_provider.api.responses import LARGE_BODY_BYTES, MAX_ANSWER_BYTES, Answer, read_answer
from iotda_provider.connection.settings import ConnectionSettings
from iotda_provider.exceptions import IoTDATransportError
from iotda_provider.masking.airflow_masker import mask, on_event_loop
from iotda_provider.masking.redaction import hidden_secrets, secrets_of
from iotda_provider.masking.sealed import Sealed, without_frames
from iotda_provider.transport.failures import TOO_LARGE, Fault, transport_error
from iotda_provider.transport.pipeline import Authenticator, Received
from iotda_provider.transport.retrying import CONNECT_SECONDS, Warns
from iotda_provider.transport.single_flight import own_loop_iteration, shared_task, single_flight

if TYPE_CHECKING:
    from iotda_provider.transport.sessions import SharedSession

T = TypeVar("T")

# The share of an attempt's time that connecting may take.
_SHARE_OF_CONNECTING = 0.9


class AsyncTransport:
    """Sends in the session that all hooks for one host share in one event loop."""

    def __init__(
        self,
        settings: ConnectionSettings,
        authenticator: Authenticator,
        shared: SharedSession,
        log: Warns,
    ) -> None:
        self.settings = settings
        self.authenticator = authenticator
        self.shared = shared
        self.proxy_secrets = Sealed(shared.secrets)
        self.log = log

    async def sleep(self, seconds: float) -> None:
        """Suspend for so long."""
        await asyncio.sleep(seconds)

    async def prepare(self) -> None:
        """Obtain or renew the credentials, in a thread."""
        await prepare(self.authenticator)

    async def mask(self, secrets: Sealed[tuple[str, ...]]) -> None:
        """Have Airflow's masker hide these secrets."""
        async with on_event_loop():
            mask(*secrets.reveal())

    async def acquire_slot(self, repeat: Repeat, seconds: float) -> Callable[[], None]:
        """Wait for a slot among the requests to the host; returns the function that releases it."""
        release = await self.shared.acquire_slot(repeat, seconds) or _release_nothing
        try:
            await own_loop_iteration()
        except BaseException:
            release()
            raise
        return release

    async def send(
        self,
        call: Call[Any],
        outgoing: Outgoing,
        headers: Sealed[Mapping[str, str]],
        seconds: float,
    ) -> Received[aiohttp.ClientResponse]:
        """Send one request; after a timeout the next call gets a new session."""
        session = self.shared.take()
        with without_frames():  # frames of other libraries hold the headers
            try:
                response = await session.request(
                    outgoing.method,
                    URL(self.settings.base_url + outgoing.uri, encoded=True),
                    headers=headers.reveal(),
                    data=outgoing.body or None,
                    allow_redirects=False,
                    proxy=self.shared.proxy,
                    timeout=_total_timeout(seconds),
                )
                body = await _read_body(response)
                return Received(response, response.status, response.headers.items(), body)
            # ValueError: the libraries raise it for an answer that they do not expect.
            except (
                *(aiohttp.ClientError, asyncio.TimeoutError),
                *(OSError, RuntimeError, ValueError),
            ) as error:
                fault = _fault(error, session)
                if fault is None:
                    raise
                if fault is Fault.TIMEOUT:
                    self.shared.replace(session)
                raise _transport_error(
                    call, self.settings, error, fault, headers.reveal(), seconds
                ) from None
            finally:
                await self.shared.put_back(session)

    async def read(self, call: Call[T], answer: Answer) -> T:
        """The result that an answer holds, or its error; a thread reads a large answer."""
        if len(answer.body) <= LARGE_BODY_BYTES:
            return read_answer(call, answer)
        return await asyncio.to_thread(read_answer, call, answer)

    def hide_secrets(self, response: aiohttp.ClientResponse) -> None:
        """Redact the request that the response refers to."""
        info = response._request_info
        headers = {**info.headers, **hidden_secrets(info.headers)}
        response._request_info = type(info)(
            info.url, info.method, CIMultiDictProxy(CIMultiDict(headers)), info.real_url
        )


def _release_nothing() -> None:
    """No slot became free in time."""


async def _read_body(response: aiohttp.ClientResponse) -> bytes:
    """Read the answer up to the size limit, and store it in the response, as aiohttp does."""
    parts: list[bytes] = []
    size = 0
    try:
        async for part in response.content.iter_any():
            parts.append(part)
            size += len(part)
            if size > MAX_ANSWER_BYTES:
                raise aiohttp.ClientPayloadError(TOO_LARGE)
    except BaseException:
        response.close()
        raise
    body = response._body = b"".join(parts)
    return body


def _total_timeout(seconds: float) -> aiohttp.ClientTimeout:
    """The limit for connecting, sending and the answer together.

    Connecting (with DNS, proxy and TLS) has a shorter limit: if that is exceeded, nothing was sent.
    """
    connecting = min(CONNECT_SECONDS, _SHARE_OF_CONNECTING * seconds)
    return aiohttp.ClientTimeout(total=seconds, connect=connecting, ceil_threshold=float("inf"))


def _transport_error(
    call: Call[Any],
    settings: ConnectionSettings,
    error: BaseException,
    fault: Fault,
    sent: Mapping[str, str],
    seconds: float,
) -> IoTDATransportError:
    # The messages of these three contain the URL, which may hold a proxy's password.
    if isinstance(error, aiohttp.ClientHttpProxyError):
        reason = f"{error.status} {error.message}"
    elif isinstance(error, aiohttp.ClientResponseError):
        reason = error.message  # aiohttp makes up the status of broken HTTP
    elif isinstance(error, aiohttp.InvalidURL):
        reason = ""
    else:
        reason = getattr(getattr(error, "os_error", None), "strerror", None) or str(error)
    reason = reason or type(error).__name__
    return transport_error(call, settings, fault, reason, secrets_of(sent), seconds=seconds)


async def prepare(authenticator: Authenticator) -> None:
    """:meth:`Authenticator.prepare` in a thread; it raises the same errors.

    All callers that wait at the same time share one thread. If one of them is cancelled, the others
    go on waiting.
    """
    await single_flight(  # the id stays valid: the task refers to the authenticator
        ("prepare", id(authenticator)), lambda: shared_task(_prepare(authenticator))
    )


async def _prepare(authenticator: Authenticator) -> None:
    async with on_event_loop():
        await in_thread(authenticator.prepare)


def _fault(error: BaseException, session: aiohttp.ClientSession) -> Fault | None:
    """The kind of failure; None: a bug in the program."""
    if isinstance(error, RuntimeError):
        # aiohttp raises it for a closed session.
        return Fault.CLOSED if session.closed else None
    if session.closed and "Connector is closed" in str(error):
        return Fault.CLOSED
    if error.args == (TOO_LARGE,):
        return Fault.TOO_LARGE
    if isinstance(error, aiohttp.ClientSSLError):  # before anything is sent
        return Fault.CERTIFICATE if "certificate" in str(error).lower() else Fault.HANDSHAKE
    if isinstance(error, (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError)):
        return Fault.PROXY
    if isinstance(error, aiohttp.ServerTimeoutError):  # no other limit is set
        return Fault.CONNECT_TIMEOUT
    if isinstance(error, asyncio.TimeoutError):
        return Fault.TIMEOUT
    if isinstance(error, aiohttp.ClientConnectorError):
        return Fault.UNREACHABLE
    return Fault.BROKEN
