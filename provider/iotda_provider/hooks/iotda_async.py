"""The asynchronous hook: ``aiohttp`` as the transport below the shared description of the API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import aiohttp
from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.common.compat.sdk import BaseHook
from multidict import CIMultiDict, CIMultiDictProxy
from tenacity import AsyncRetrying
from yarl import URL

from iotda_provider import api, creating, listing, procedures
from iotda_provider.answers import LARGE_BODY_BYTES, MAX_ANSWER_BYTES, Answer, read_answer
from iotda_provider.auth.authenticator import Authenticator, authenticator_for
from iotda_provider.auth.preparing import prepare
from iotda_provider.driving import drive_async
from iotda_provider.exceptions import IoTDAError, IoTDATransportError
from iotda_provider.hooks import checking
from iotda_provider.hooks.connection import load_settings
from iotda_provider.hooks.failures import TOO_LARGE, Fault, transport_error
from iotda_provider.hooks.headers import signed_headers
from iotda_provider.hooks.lookup import look_up_async
from iotda_provider.hooks.methods import described_by
from iotda_provider.hooks.places import in_turn
from iotda_provider.hooks.run_arguments import AnyRequest, read_arguments
from iotda_provider.hooks.sessions import SharedSession, borrow, give_back
from iotda_provider.hooks.single_flight import single_flight
from iotda_provider.masking import mask, new_signatures, on_event_loop
from iotda_provider.rate_limit import shared_limit
from iotda_provider.redaction import hidden_secrets, secrets_of
from iotda_provider.retrying import CONNECT_SECONDS, RetryPolicy
from iotda_provider.sealed import Sealed, without_frames

if TYPE_CHECKING:
    from types import TracebackType

    from iotda_provider.settings import ConnectionSettings

T = TypeVar("T")
P = ParamSpec("P")

# Of an attempt's time: what may be spent on connecting.
_SHARE_OF_CONNECTING = 0.9

_Method = Callable[Concatenate["IoTDAAsyncHook", P], Coroutine[Any, Any, T]]
_Rows = Callable[Concatenate["IoTDAAsyncHook", P], AsyncIterator[T]]


def _call(describe: Callable[P, api.Call[T]]) -> _Method[P, T]:
    async def method(self: IoTDAAsyncHook, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._perform(describe(*args, **kwargs))

    return described_by(describe, method)


def _procedure(describe: Callable[P, procedures.Procedure[T]]) -> _Method[P, T]:
    async def method(self: IoTDAAsyncHook, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await drive_async(describe(*args, **kwargs), self._take)

    return described_by(describe, method)


def _listing(describe: Callable[P, listing.Listing[T]]) -> _Rows[P, T]:
    def method(self: IoTDAAsyncHook, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        return self._rows(describe(*args, **kwargs))

    return described_by(describe, method)


def _any_request(describe: Callable[P, AnyRequest]) -> _Method[P, aiohttp.ClientResponse]:
    async def method(
        self: IoTDAAsyncHook, /, *args: P.args, **kwargs: P.kwargs
    ) -> aiohttp.ClientResponse:
        # It has been read already: what is left is ``await response.json()``.
        return await self._request(describe(*args, **kwargs))

    return described_by(describe, method)


@dataclass(frozen=True)
class _Opened:
    """What a hook knows once it has read its connection, good for one event loop."""

    settings: ConnectionSettings
    authenticator: Authenticator
    shared: SharedSession


class IoTDAAsyncHook(BaseHook):
    """An asynchronous client of IoTDA with the credentials of an Airflow connection.

    An async context manager. It reads its connection once, at the first call, and shares one pooled
    session with all other hooks for the same host in its event loop, and the rate limit with the
    whole process. Its methods are those of :class:`~iotda_provider.hooks.iotda.IoTDAHook`, as
    coroutines and async iterators, and raise the same errors.

    :param iotda_conn_id: the connection
    :param project_id: instead of the connection's
    :param region: instead of the connection's
    :param instance_id: instead of the connection's
    """

    conn_name_attr = "iotda_conn_id"
    default_conn_name = "iotda_default"
    conn_type = "iotda"
    hook_name = "Huawei Cloud IoTDA"

    def __init__(
        self,
        iotda_conn_id: str = default_conn_name,
        *,
        project_id: str | None = None,
        region: str | None = None,
        instance_id: str | None = None,
    ) -> None:
        super().__init__()
        self.iotda_conn_id = iotda_conn_id
        self._overrides = {"project_id": project_id, "region": region, "instance_id": instance_id}
        self._states: WeakKeyDictionary[asyncio.AbstractEventLoop, _Opened] = WeakKeyDictionary()

    async def __aenter__(self) -> IoTDAAsyncHook:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the shared session back; the hook takes one again when it is used again.

        Calls that are under way come to their end with what they began with.
        """
        here = asyncio.get_running_loop()
        for loop in [loop for loop in self._states if loop is here or loop.is_closed()]:
            await give_back(self._states.pop(loop).shared)

    async def get_settings(self) -> ConnectionSettings:
        """The connection, parsed and checked; its secrets are known to Airflow's masker."""
        return (await self._open()).settings

    create_batch_task = _call(api.create_batch_task)
    create_batch_task_once = _procedure(creating.create_batch_task_once)
    get_batch_task = _call(api.show_batch_task)
    list_batch_tasks = _listing(listing.list_batch_tasks)
    iter_subtasks = _listing(listing.iter_subtasks)
    stop_batch_task = _procedure(procedures.stop_batch_task)
    rehearse_stop = _procedure(procedures.rehearse_stop)
    read_stopped_targets = _procedure(procedures.read_stopped_targets)
    retry_batch_task = _procedure(procedures.retry_batch_task)
    confirm_batch_task = _procedure(procedures.confirm_batch_task)
    delete_batch_task = _procedure(procedures.delete_batch_task)

    get_device = _call(api.show_device)
    read_devices = _procedure(procedures.read_devices)
    list_devices = _listing(listing.list_devices)
    search_devices = _call(api.search_devices)
    list_device_groups = _listing(listing.list_device_groups)
    create_device_group = _call(api.create_group)
    iter_group_devices = _listing(listing.iter_group_devices)
    change_device_group = _call(api.change_group)
    list_ota_packages = _listing(listing.list_ota_packages)
    get_ota_package = _call(api.show_package)
    run = _any_request(read_arguments)

    async def test_connection(self) -> tuple[bool, str]:
        """Whether the connection works, by one cheap signed call; if not, what failed, in words."""
        try:
            await self._perform(checking.check_call())
        except checking.FAILURES as error:
            return False, checking.describe(error)
        return True, checking.success(await self.get_settings())

    async def _open(self) -> _Opened:
        loop = asyncio.get_running_loop()
        state = self._states.get(loop)
        if state is None:
            await self.close()  # that of a loop that is closed itself
            settings = await single_flight(("settings", id(self)), self._read_connection)
            authenticator = authenticator_for(settings)
            shared = await borrow(settings)
            state = self._states.get(loop)
            if state is None:
                state = self._states[loop] = _Opened(settings, authenticator, shared)
            else:  # somebody else has opened it meanwhile
                await give_back(shared)
        return state

    async def _read_connection(self) -> ConnectionSettings:
        conn_id = self.iotda_conn_id
        async with on_event_loop():
            return load_settings(
                await look_up_async(conn_id, lambda: get_async_connection(conn_id, hook=self)),
                conn_id=conn_id,
                **self._overrides,
            )

    async def _perform(self, call: api.Call[T]) -> T:
        async def attempt(policy: RetryPolicy) -> T:
            _, answer = await self._send(call, policy)
            return await _read(call, answer)

        return await self._retrying(call, attempt)

    async def _request(self, request: AnyRequest) -> aiohttp.ClientResponse:
        async def attempt(policy: RetryPolicy) -> aiohttp.ClientResponse:
            response, answer = await self._send(request.call, policy, request.headers)
            info = response._request_info
            async with on_event_loop():
                # What another library has logged of it, say.
                mask(*secrets_of(info.headers))
            if request.check:
                await _read(request.call, answer)
            # The caller gets hold of the request, and may print it.
            headers = {**info.headers, **hidden_secrets(info.headers)}
            response._request_info = type(info)(
                info.url, info.method, CIMultiDictProxy(CIMultiDict(headers)), info.real_url
            )
            return response

        return await self._retrying(request.call, attempt)

    async def _retrying(
        self, call: api.Call[Any], attempt: Callable[[RetryPolicy], Coroutine[Any, Any, T]]
    ) -> T:
        policy = RetryPolicy((await self._open()).settings, call.repeat, self.log)
        failed: IoTDAError | None
        try:
            return await attempt(policy)  # which nearly always succeeds: no machinery then
        except IoTDAError as error:
            failed = error

        async def again() -> T:
            nonlocal failed
            if failed is not None:
                first, failed = failed, None
                raise first
            return await attempt(policy)

        return await AsyncRetrying(**policy.options())(again)

    async def _send(
        self, call: api.Call[Any], policy: RetryPolicy, headers: Mapping[str, str] | None = None
    ) -> tuple[aiohttp.ClientResponse, Answer]:
        state = await self._open()
        response, answer, sent = await self._send_once(state, call, policy, headers or {})
        if answer.status == 401 and state.authenticator.rejected(sent.reveal()) and policy.may_send:
            response, answer, sent = await self._send_once(state, call, policy, headers or {})
        return response, answer

    async def _send_once(
        self,
        state: _Opened,
        call: api.Call[Any],
        policy: RetryPolicy,
        headers: Mapping[str, str],
    ) -> tuple[aiohttp.ClientResponse, Answer, Sealed[Mapping[str, str]]]:
        settings, authenticator, shared = state.settings, state.authenticator, state.shared
        await _get_ready(authenticator, policy)
        limit = shared_limit(settings)
        if limit is not None:
            with policy.beside_the_budget():
                await asyncio.sleep(limit.reserve())
            await _get_ready(authenticator, policy)
        # Last of all: whoever waits for something else must not keep others from the host.
        places = shared.places_for(call.repeat)
        has_place = await places.take(policy.remaining)
        try:
            await in_turn()
            seconds = policy.seconds_for(call.action)
            outgoing = call.outgoing(
                host=settings.host,
                project_id=authenticator.project_id,
                headers=signed_headers(settings, authenticator.project_id),
            )
            sent: Sealed[Mapping[str, str]]
            sent = Sealed({**headers, **authenticator.authenticate(outgoing)})
            signatures = Sealed(new_signatures(sent.reveal()))
            if signatures.reveal():
                async with on_event_loop():
                    mask(*signatures.reveal())
            async with shared.borrowed() as session:
                failure: BaseException | None = None
                try:
                    response = await session.request(
                        outgoing.method,
                        URL(settings.base_url + outgoing.uri, encoded=True),
                        headers=sent.reveal(),
                        data=outgoing.body or None,
                        allow_redirects=False,
                        proxy=shared.proxy,
                        timeout=_whole_time(seconds),
                    )
                    body = await _read_body(response)
                except (aiohttp.ClientError, asyncio.TimeoutError, OSError, RuntimeError) as error:
                    fault = _fault(error, session)
                    if fault is Fault.TIMEOUT:
                        shared.replace(session)
                    failure = error
                    if fault is not None:
                        failure = _transport_error(
                            call, settings, error, fault, sent.reveal(), seconds
                        )
                except BaseException as error:  # noqa: BLE001 - raised again, as a cancellation is
                    failure = error
                if failure is not None:
                    # Below are frames of other libraries, which hold the headers.
                    try:
                        raise without_frames(failure)
                    finally:
                        del failure
        finally:
            if has_place:
                places.give_back()
        answer = Answer.of(
            response.status,
            response.headers.items(),
            body,
            sent=sent.reveal(),
            secrets=shared.secrets,
        )
        return response, answer, sent

    async def _rows(self, rows: listing.Listing[T]) -> AsyncIterator[T]:
        while rows.next is not None:
            for row in rows.take(await self._perform(rows.next)):
                yield row

    async def _take(self, step: procedures.Step) -> Any:
        if isinstance(step, procedures.Together):
            return await self._together(step)
        if isinstance(step, procedures.Pause):
            return await asyncio.sleep(step.seconds)
        return await self._perform(step)

    async def _together(self, step: procedures.Together) -> list[Any]:
        """The results of some calls, or their errors, a bounded number under way at a time."""
        await self._open()  # once: where that takes its time and fails, not again for each call
        outcomes: list[Any] = [None] * len(step.calls)
        waiting = iter(enumerate(step.calls))

        async def work() -> None:
            for position, call in waiting:
                try:
                    outcomes[position] = await self._perform(call)
                except IoTDAError as error:
                    outcomes[position] = error

        workers = [asyncio.ensure_future(work()) for _ in step.calls[: procedures.MAX_IN_FLIGHT]]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
        return outcomes


async def _get_ready(authenticator: Authenticator, policy: RetryPolicy) -> None:
    if not authenticator.is_ready():
        with policy.beside_the_budget():
            await prepare(authenticator)


async def _read(call: api.Call[T], answer: Answer) -> T:
    if len(answer.body) <= LARGE_BODY_BYTES:
        return read_answer(call, answer)
    return await asyncio.to_thread(read_answer, call, answer)


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


def _whole_time(seconds: float) -> aiohttp.ClientTimeout:
    """For connecting, sending and the answer together; the name, the proxy and TLS are part of
    connecting, which is over first: then nothing was sent."""
    connecting = min(CONNECT_SECONDS, _SHARE_OF_CONNECTING * seconds)
    return aiohttp.ClientTimeout(total=seconds, connect=connecting, ceil_threshold=float("inf"))


def _transport_error(
    call: api.Call[Any],
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
