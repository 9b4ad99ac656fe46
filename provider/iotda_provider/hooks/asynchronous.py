"""What the pipeline and procedures ask of the asynchronous hook: it suspends, and never blocks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from iotda_provider.airflow_support.threads import in_thread
from iotda_provider.api.responses import LARGE_BODY_BYTES, MAX_ANSWER_BYTES, Answer, read_answer
from iotda_provider.exceptions import IoTDAError, IoTDATransportError
from iotda_provider.masking.airflow_masker import mask, on_event_loop
from iotda_provider.masking.redaction import hidden_secrets, secrets_of
from iotda_provider.masking.sealed import Sealed, without_frames
from iotda_provider.procedures.batch_tasks import MAX_IN_FLIGHT
from iotda_provider.transport.failures import TOO_LARGE, Fault, transport_error
from iotda_provider.transport.pipeline import Received
from iotda_provider.transport.retrying import CONNECT_SECONDS
from iotda_provider.transport.single_flight import own_loop_iteration, shared_task, single_flight

if TYPE_CHECKING:
    from iotda_provider.api import Call, Outgoing, Repeat
    from iotda_provider.auth.authenticator import Authenticator
    from iotda_provider.connection.settings import ConnectionSettings
    from iotda_provider.transport.retrying import Warns
    from iotda_provider.transport.sessions import SharedSession

T = TypeVar("T")

# Of an attempt's time: what may be spent on connecting.
_SHARE_OF_CONNECTING = 0.9


class AsyncTransport:
    """Sends by ``aiohttp``, in the session that all hooks for a host share in one event loop."""

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
        """Make secrets known to Airflow's masker."""
        async with on_event_loop():
            mask(*secrets.reveal())

    async def acquire_slot(self, repeat: Repeat, seconds: float) -> Callable[[], None]:
        """Wait for a slot among the requests to the host; what releases it."""
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
        """Send one request; after a timeout the next call gets another session."""
        session = self.shared.take()
        failure: BaseException
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
        # A ValueError: of what no library expects in an answer.
        except (
            *(aiohttp.ClientError, asyncio.TimeoutError),
            *(OSError, RuntimeError, ValueError),
        ) as error:
            fault = _fault(error, session)
            if fault is Fault.TIMEOUT:
                self.shared.replace(session)
            failure = error
            if fault is not None:
                failure = _transport_error(
                    call, self.settings, error, fault, headers.reveal(), seconds
                )
        except BaseException as error:  # noqa: BLE001 - raised again, as a cancellation is
            failure = error
        finally:
            await self.shared.put_back(session)
        # Below are frames of other libraries, which hold the headers.
        try:
            raise without_frames(failure)
        finally:
            del failure

    async def read(self, call: Call[T], answer: Answer) -> T:
        """The result that an answer holds, or its error; of a large one, read in a thread."""
        if len(answer.body) <= LARGE_BODY_BYTES:
            return read_answer(call, answer)
        return await asyncio.to_thread(read_answer, call, answer)

    def hide_secrets(self, response: aiohttp.ClientResponse) -> None:
        """Redact the request that the response leads to."""
        info = response._request_info
        headers = {**info.headers, **hidden_secrets(info.headers)}
        response._request_info = type(info)(
            info.url, info.method, CIMultiDictProxy(CIMultiDict(headers)), info.real_url
        )


def _release_nothing() -> None:
    """No slot became free in time."""


class _Hook(Protocol):
    """The part of the asynchronous hook that procedures need."""

    async def _perform(self, call: Call[T]) -> T: ...

    async def _open(self) -> AsyncTransport: ...


class AsyncIO:
    """What procedures await of the asynchronous hook."""

    def __init__(self, hook: _Hook) -> None:
        self._hook = hook

    async def perform(self, call: Call[T]) -> T:
        """Make one call."""
        return await self._hook._perform(call)

    async def perform_all(self, calls: Sequence[Call[T]]) -> list[T | IoTDAError]:
        """Make some calls, each in a task."""
        # Once: where that takes its time and fails, not again for each call.
        await self._hook._open()
        outcomes: dict[int, T | IoTDAError] = {}
        waiting = iter(enumerate(calls))

        async def work() -> None:
            for position, call in waiting:
                try:
                    result: T = await self._hook._perform(call)
                    outcomes[position] = result
                except IoTDAError as error:
                    outcomes[position] = error

        workers = [asyncio.ensure_future(work()) for _ in calls[:MAX_IN_FLIGHT]]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
        return [outcomes[position] for position in range(len(calls))]

    async def pause(self, seconds: float) -> None:
        """Suspend for so long."""
        await asyncio.sleep(seconds)


async def _read_body(response: aiohttp.ClientResponse) -> bytes:
    """Read the answer, which may not be endless; it can be taken out of the response afterwards."""
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
    """For connecting, sending and the answer together; the name, the proxy and TLS are part of
    connecting, which is over first: then nothing was sent."""
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
    # The texts of these three hold the address that was asked, with a proxy's password in it.
    if isinstance(error, aiohttp.ClientHttpProxyError):
        reason = f"{error.status} {error.message}"
    elif isinstance(error, aiohttp.ClientResponseError):
        reason = error.message  # its status is made up, where HTTP was broken
    elif isinstance(error, aiohttp.InvalidURL):
        reason = ""
    else:
        reason = getattr(getattr(error, "os_error", None), "strerror", None) or str(error)
    reason = reason or type(error).__name__
    return transport_error(call, settings, fault, reason, secrets_of(sent), seconds=seconds)


async def prepare(authenticator: Authenticator) -> None:
    """:meth:`Authenticator.prepare` without blocking the loop.

    However many callers wait, one thread is busy; a caller that is cancelled leaves the others
    waiting for the same answer. Raises what ``prepare`` raises, for every caller.
    """
    await single_flight(  # the id stays valid: the task holds the authenticator
        ("prepare", id(authenticator)), lambda: shared_task(_prepare(authenticator))
    )


async def _prepare(authenticator: Authenticator) -> None:
    async with on_event_loop():
        await in_thread(authenticator.prepare)


def _fault(error: BaseException, session: aiohttp.ClientSession) -> Fault | None:
    """What kind of failure it is; None where it is a fault in the program."""
    if isinstance(error, RuntimeError):
        # So aiohttp says it of a session.
        return Fault.CLOSED if session.closed else None
    if session.closed and "Connector is closed" in str(error):
        return Fault.CLOSED
    if error.args == (TOO_LARGE,):
        return Fault.TOO_LARGE
    if isinstance(error, aiohttp.ClientSSLError):  # before anything is sent
        return Fault.CERTIFICATE if "certificate" in str(error).lower() else Fault.HANDSHAKE
    if isinstance(error, (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError)):
        return Fault.PROXY
    if isinstance(error, aiohttp.ServerTimeoutError):  # connecting: no other is set
        return Fault.CONNECT_TIMEOUT
    if isinstance(error, asyncio.TimeoutError):
        return Fault.TIMEOUT
    if isinstance(error, aiohttp.ClientConnectorError):
        return Fault.UNREACHABLE
    return Fault.BROKEN
