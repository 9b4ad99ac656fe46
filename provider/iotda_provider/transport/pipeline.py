"""Every request of both hooks: credentials, rate limit, slot, attempt, 401, retry."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from tenacity import AsyncRetrying

from iotda_provider.airflow_support import metrics
from iotda_provider.api import Call, Outgoing, Repeat
from iotda_provider.api.responses import Answer
from iotda_provider.connection.settings import ConnectionSettings
from iotda_provider.exceptions import IoTDAApiError, IoTDAError
from iotda_provider.masking.redaction import secrets_of
from iotda_provider.masking.sealed import Sealed
from iotda_provider.transport.headers import signed_headers
from iotda_provider.transport.rate_limit import shared_limit
from iotda_provider.transport.retrying import RetryPolicy, Warns

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class Received(Generic[R]):
    """The whole response to one request.

    :param response: the HTTP library's own object
    """

    response: R = field(repr=False)
    status: int
    headers: Iterable[tuple[str, str]] = field(repr=False)
    body: bytes = field(repr=False)


class Authenticator(Protocol):
    """Adds the authentication to a request's headers.

    Only :meth:`prepare` does I/O, and it blocks. The pipeline calls it if :meth:`is_ready` is
    False, before it reads ``project_id`` or calls :meth:`authenticate`; on an event loop through
    :func:`iotda_provider.transport.asynchronous.prepare`. All methods are thread-safe.
    """

    @property
    def project_id(self) -> str:
        """The project id of the requests.

        :raises IoTDAConfigError: it is not known
        """

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the credentials expire; None: they do not, as far as is known."""

    def is_ready(self, *, urgent: bool = False) -> bool:
        """Whether the credentials are there and stay valid for one request.

        :param urgent: for a request that changes something, above all a stop: it does not wait for
            a renewal while the credentials are valid; requests that only read renew them in time
        """

    def prepare(self) -> None:
        """Obtain or renew the credentials, unless another caller just did; blocks.

        All its requests together take at most the connection's ``timeout``, and a renewal takes at
        most five seconds while the old credentials are valid.

        :raises IoTDAAuthError: the issuer refuses
        :raises IoTDATransportError: the issuer can't be reached (``sent`` is False: the request
            that needs the credentials has not been sent)
        :raises IoTDAConfigError: the connection lacks something, such as the id token's file
        """

    def authenticate(self, outgoing: Outgoing) -> Mapping[str, str]:
        """The request's headers, with those of the authentication."""

    def rejected(self, sent: Mapping[str, str]) -> bool:
        """Handle a 401; whether the same request may succeed with new credentials.

        If so, the credentials of the refused request are not used again: :meth:`is_ready` is False
        until they are renewed. The pipeline repeats each call once.

        :param sent: the headers that :meth:`authenticate` returned for the refused request
        """


class Transport(Protocol[R]):
    """How one hook sends: the blocking transport blocks, the asynchronous one suspends."""

    @property
    def settings(self) -> ConnectionSettings: ...

    @property
    def authenticator(self) -> Authenticator: ...

    @property
    def log(self) -> Warns: ...

    @property
    def proxy_secrets(self) -> Sealed[tuple[str, ...]]:
        """The secrets in the proxies' addresses, which an answer may echo."""

    async def sleep(self, seconds: float) -> None: ...

    async def prepare(self) -> None:
        """Obtain or renew the credentials."""

    async def mask(self, secrets: Sealed[tuple[str, ...]]) -> None:
        """Have Airflow's masker hide these secrets."""

    async def acquire_slot(self, repeat: Repeat, seconds: float) -> Callable[[], None]:
        """Wait for a slot among the requests under way; returns the function that releases it."""

    async def send(
        self,
        call: Call[Any],
        outgoing: Outgoing,
        headers: Sealed[Mapping[str, str]],
        seconds: float,
    ) -> Received[R]:
        """Send one request and read its answer within the time; redirects are not followed.

        :raises IoTDATransportError: no whole answer came; its traceback does not hold the headers
        """

    async def read(self, call: Call[T], answer: Answer) -> T:
        """The result in an answer; raises its error."""

    def hide_secrets(self, response: R) -> None:
        """Redact the request that a response refers to: the caller may print the response."""


@dataclass
class _Exchange(Generic[R]):
    """A request with its answer.

    :param sent: the request's headers
    """

    response: R = field(repr=False)
    answer: Answer
    sent: Sealed[Mapping[str, str]]


_NO_HEADERS: Mapping[str, str] = {}
#: From this status on an answer is a refusal.
_FIRST_REFUSAL = 400


async def perform(transport: Transport[Any], call: Call[T]) -> T:
    """Make a call of the API; its result.

    :raises IoTDAError: the platform has refused the last attempt, or has given no usable answer
    """

    async def attempt(policy: RetryPolicy) -> T:
        exchange = await _send(transport, call, policy, _NO_HEADERS)
        return await _read(transport, call, exchange.answer)

    return await _retrying(transport, call, attempt)


async def respond(
    transport: Transport[R], call: Call[Any], headers: Mapping[str, str], check: bool
) -> R:
    """Make a call of any path; the HTTP library's response, with its request redacted.

    :param headers: the caller's own headers, checked
    :param check: whether an error response is raised instead of returned
    """

    async def attempt(policy: RetryPolicy) -> R:
        exchange = await _send(transport, call, policy, headers)
        # Other libraries may log the response with its request.
        await transport.mask(Sealed(secrets_of(exchange.sent.reveal())))
        if check:
            await _read(transport, call, exchange.answer)
        transport.hide_secrets(exchange.response)
        return exchange.response

    return await _retrying(transport, call, attempt)


async def _retrying(
    transport: Transport[Any],
    call: Call[Any],
    attempt: Callable[[RetryPolicy], Coroutine[Any, Any, T]],
) -> T:
    policy = RetryPolicy(transport.settings, call.repeat, transport.log)
    failed: IoTDAError | None
    try:
        return await attempt(policy)  # the usual case: it succeeds, and tenacity is not needed
    except IoTDAError as error:
        failed = error

    async def again() -> T:
        nonlocal failed
        if failed is not None:
            first, failed = failed, None
            raise first
        return await attempt(policy)

    return await AsyncRetrying(sleep=transport.sleep, **policy.options())(again)


async def _read(transport: Transport[Any], call: Call[T], answer: Answer) -> T:
    try:
        return await transport.read(call, answer)
    except IoTDAApiError:
        if answer.status < _FIRST_REFUSAL:  # an error inside a response with a success status
            _count(transport, "iotda.api.refusals")
        raise


def _count(transport: Transport[Any], metric: str) -> None:
    metrics.count(metric, iotda_conn_id=transport.settings.conn_id)


async def _send(
    transport: Transport[R], call: Call[Any], policy: RetryPolicy, headers: Mapping[str, str]
) -> _Exchange[R]:
    exchange = await _attempt(transport, call, policy, headers)
    if (
        exchange.answer.status == 401
        and transport.authenticator.rejected(exchange.sent.reveal())
        and policy.may_send
    ):
        exchange = await _attempt(transport, call, policy, headers)
    return exchange


async def _attempt(
    transport: Transport[R], call: Call[Any], policy: RetryPolicy, headers: Mapping[str, str]
) -> _Exchange[R]:
    settings, authenticator = transport.settings, transport.authenticator
    await _get_ready(transport, policy)
    limit = shared_limit(settings)
    if limit is not None:
        with policy.not_charged():
            turn = limit.reserve_turn(urgent=call.goes_first)
            await transport.sleep(turn.seconds)
            while not call.goes_first and (more := limit.put_off(turn)):
                await transport.sleep(more)
        await _get_ready(transport, policy)
    # Last: a request that waits for something else must not hold a slot.
    release_slot = await transport.acquire_slot(call.repeat, policy.remaining)
    try:
        seconds = policy.seconds_for(call.action)
        outgoing = call.outgoing(
            host=settings.host,
            project_id=authenticator.project_id,
            headers=signed_headers(settings, authenticator.project_id),
        )
        sent: Sealed[Mapping[str, str]]
        sent = Sealed({**headers, **authenticator.authenticate(outgoing)})
        _count(transport, "iotda.api.calls")
        received = await transport.send(call, outgoing, sent, seconds)
    finally:
        release_slot()
    if received.status >= _FIRST_REFUSAL:
        _count(transport, "iotda.api.refusals")
    answer = Answer.of(
        received.status,
        received.headers,
        received.body,
        sent=sent.reveal(),
        secrets=transport.proxy_secrets.reveal(),
    )
    return _Exchange(received.response, answer, sent)


async def _get_ready(transport: Transport[Any], policy: RetryPolicy) -> None:
    if not transport.authenticator.is_ready(urgent=policy.is_urgent):
        with policy.not_charged():
            await transport.prepare()
