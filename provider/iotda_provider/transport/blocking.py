"""Sends the blocking hook's requests by ``requests``: all of it blocks, nothing suspends."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests

from iotda_provider import api
from iotda_provider.api import Call, Outgoing, Repeat
from iotda_provider.api.responses import MAX_ANSWER_BYTES, Answer, read_answer
from iotda_provider.connection.proxies_and_tls import bundle_error, secrets_of_proxies
from iotda_provider.connection.settings import ConnectionSettings
from iotda_provider.masking.airflow_masker import mask
from iotda_provider.masking.redaction import hidden_secrets, secrets_of
from iotda_provider.masking.sealed import Sealed, without_frames
from iotda_provider.transport.blocking_send import fault_of, open_session, send
from iotda_provider.transport.failures import Fault, transport_error
from iotda_provider.transport.lending import Lending
from iotda_provider.transport.pipeline import Authenticator, Received
from iotda_provider.transport.retrying import Warns
from iotda_provider.transport.total_timeout import innermost

T = TypeVar("T")


class BlockingTransport:
    """One pooled session for all threads that use a hook.

    :param connections: how many connections the pool keeps open
    """

    def __init__(
        self,
        settings: ConnectionSettings,
        authenticator: Authenticator,
        log: Warns,
        connections: int,
    ) -> None:
        self.settings = settings
        self.authenticator = authenticator
        self.proxy_secrets = Sealed(secrets_of_proxies(settings))
        self.log = log
        self._sessions = Lending(
            lambda: open_session(settings, settings.base_url, connections=connections)
        )

    @property
    def session(self) -> requests.Session:
        """The session that the next call gets."""
        return self._sessions.current

    def close(self) -> None:
        """Close the session once no call uses it any more."""
        if (session := self._sessions.end()) is not None:
            session.close()

    async def sleep(self, seconds: float) -> None:
        """Block for so long."""
        time.sleep(seconds)  # noqa: ASYNC251 - there is no event loop

    async def prepare(self) -> None:
        """Obtain or renew the credentials."""
        self.authenticator.prepare()

    async def mask(self, secrets: Sealed[tuple[str, ...]]) -> None:
        """Have Airflow's masker hide these secrets."""
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
        """Send one request; after a timeout the next call gets a new session."""
        session = self._sessions.take()
        url = self.settings.base_url + outgoing.uri
        with without_frames():  # frames of other libraries hold the headers
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
            # ValueError: the libraries raise it for an answer that they do not expect.
            except (requests.RequestException, ValueError) as error:
                fault = fault_of(error)
                if fault is Fault.TIMEOUT:
                    self._sessions.replace(session)
                raise transport_error(
                    call,
                    self.settings,
                    fault,
                    innermost(error),
                    secrets_of(headers.reveal()),
                    seconds=seconds,
                ) from None
            except OSError as error:  # requests raises it if the file is missing
                raise bundle_error(self.settings, session.verify, error) from None
            finally:
                if self._sessions.give_back(session):
                    session.close()

    async def read(self, call: Call[T], answer: Answer) -> T:
        """The result that an answer holds, or its error."""
        return read_answer(call, answer)

    def check(self, response: requests.Response) -> None:
        """Raise the typed error for any response of this API that is not a success.

        :raises IoTDAApiError: the platform refuses
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
        """Redact the request: pickling a response pickles its request, too."""
        response.request.headers.update(hidden_secrets(response.request.headers))
