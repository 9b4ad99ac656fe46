"""What the pipeline and procedures ask of the blocking hook: all of it blocks, nothing suspends."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import urlsplit

import requests

from iotda_provider import api
from iotda_provider.api.responses import MAX_ANSWER_BYTES, Answer, read_answer
from iotda_provider.auth.authenticator import authenticator_for
from iotda_provider.connection.proxies_and_tls import secrets_of_proxies
from iotda_provider.exceptions import IoTDAConfigError, IoTDAError
from iotda_provider.masking.airflow_masker import mask
from iotda_provider.masking.redaction import hidden_secrets, secrets_of
from iotda_provider.masking.sealed import Sealed, without_frames
from iotda_provider.procedures.batch_tasks import MAX_IN_FLIGHT
from iotda_provider.transport.blocking import innermost
from iotda_provider.transport.blocking_send import fault_of, open_session, send
from iotda_provider.transport.failures import Fault, transport_error
from iotda_provider.transport.lending import Lending
from iotda_provider.transport.pipeline import Received

if TYPE_CHECKING:
    from iotda_provider.api import Call, Outgoing, Repeat
    from iotda_provider.connection.settings import ConnectionSettings
    from iotda_provider.transport.retrying import Warns

T = TypeVar("T")


class BlockingTransport:
    """Sends by ``requests``, in one pooled session for all threads that use a hook.

    :raises IoTDAConfigError: the connection lacks what its ``auth_type`` needs
    """

    def __init__(self, settings: ConnectionSettings, log: Warns) -> None:
        self.settings = settings
        self.authenticator = authenticator_for(settings)
        self.proxy_secrets = Sealed(secrets_of_proxies(settings))
        self.log = log
        self._sessions = Lending(
            lambda: open_session(settings, settings.base_url, connections=MAX_IN_FLIGHT)
        )

    @property
    def session(self) -> requests.Session:
        """The session that the next call gets."""
        return self._sessions.current

    def close(self) -> None:
        """Close the session, or have the last call that uses it do so."""
        if (session := self._sessions.end()) is not None:
            session.close()

    async def sleep(self, seconds: float) -> None:
        """Block for so long."""
        time.sleep(seconds)  # noqa: ASYNC251 - there is no event loop

    async def prepare(self) -> None:
        """Obtain or renew the credentials."""
        self.authenticator.prepare()

    async def mask(self, secrets: Sealed[tuple[str, ...]]) -> None:
        """Make secrets known to Airflow's masker."""
        mask(*secrets.reveal())

    async def acquire_slot(self, repeat: Repeat, seconds: float) -> Callable[[], None]:
        """Nothing to wait for: each thread sends one request at a time."""
        return lambda: None

    async def send(
        self,
        call: Call[Any],
        outgoing: Outgoing,
        headers: Sealed[Mapping[str, str]],
        seconds: float,
    ) -> Received[requests.Response]:
        """Send one request; after a timeout the next call gets another session."""
        session = self._sessions.take()
        url = self.settings.base_url + outgoing.uri
        failure: BaseException
        try:
            response = send(
                session,
                outgoing.method,
                url,
                headers,
                Sealed(outgoing.body),
                seconds=seconds,
                most_bytes=MAX_ANSWER_BYTES,
            )
            items = response.headers.items()
            return Received(response, response.status_code, items, response.content)
        # A ValueError: of what no library expects in an answer.
        except (requests.RequestException, ValueError) as error:
            fault = fault_of(error)
            if fault is Fault.TIMEOUT:
                self._sessions.replace(session)
            failure = transport_error(
                call,
                self.settings,
                fault,
                innermost(error),
                secrets_of(headers.reveal()),
                seconds=seconds,
            )
        except OSError as error:  # requests lets it through where it finds no such file
            failure = IoTDAConfigError(
                f"Connection {self.settings.conn_id!r}: the CA bundle {session.verify!r} can't be "
                f"read: {error}."
            )
        except BaseException as error:  # noqa: BLE001 - raised again, such as a task's timeout
            failure = error
        finally:
            if self._sessions.give_back(session):
                session.close()
        # Below are frames of other libraries, which hold the headers.
        try:
            raise without_frames(failure)
        finally:
            del failure

    async def read(self, call: Call[T], answer: Answer) -> T:
        """The result that an answer holds, or its error."""
        return read_answer(call, answer)

    def check(self, response: requests.Response) -> None:
        """Raise the error of a response that somebody else may have asked for.

        :raises IoTDAApiError: it is a refusal
        :raises IoTDATransportError: it is not an answer of this API
        """
        call = api.any_call(response.request.method or "GET", urlsplit(response.url or "").path)
        answer = Answer.of(
            response.status_code,
            response.headers.items(),
            response.content,
            sent=response.request.headers,
            secrets=self.proxy_secrets.reveal(),
        )
        read_answer(call, answer)

    def hide_secrets(self, response: requests.Response) -> None:
        """Redact the request: whoever pickles the response pickles that too."""
        response.request.headers.update(hidden_secrets(response.request.headers))


class _Hook(Protocol):
    """The part of the blocking hook that procedures need."""

    def _perform(self, call: Call[T]) -> T: ...

    def get_conn(self) -> requests.Session: ...


class BlockingIO:
    """What procedures await of the blocking hook."""

    def __init__(self, hook: _Hook) -> None:
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

        # Opened once here, so that the threads do not race to read the connection.
        self._hook.get_conn()
        if len(calls) < 2:
            return [one(call) for call in calls]
        pool = ThreadPoolExecutor(MAX_IN_FLIGHT, thread_name_prefix="iotda")
        try:
            return list(pool.map(one, calls))
        finally:
            # Where a signal or a timeout ends the task, what has not begun must not begin.
            pool.shutdown(cancel_futures=True)

    async def pause(self, seconds: float) -> None:
        """Block for so long."""
        time.sleep(seconds)  # noqa: ASYNC251 - there is no event loop
