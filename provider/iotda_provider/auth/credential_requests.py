"""Requests to an issuer of credentials: one host, no redirects, no secret in an error."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import KW_ONLY, dataclass

import requests

from iotda_provider.api import Call
from iotda_provider.api.responses import Answer, clock_hint, is_refusal, redirect_hint, refusal
from iotda_provider.connection.proxies_and_tls import bundle_error, secrets_of_proxies
from iotda_provider.connection.settings import ConnectionSettings
from iotda_provider.exceptions import IoTDAServerError, IoTDATransportError
from iotda_provider.masking.redaction import redacted_line
from iotda_provider.masking.sealed import Sealed
from iotda_provider.transport.blocking_send import fault_of, open_session, send
from iotda_provider.transport.failures import Fault
from iotda_provider.transport.total_timeout import innermost

_MAX_BYTES = 1024 * 1024
_LONGEST_REASON = 200
# How an error describes each kind of failure.
_WORDS = {
    Fault.CERTIFICATE: (
        "its TLS certificate was not accepted; for a private CA set verify in the connection's "
        "Extra to the CA bundle's path"
    ),
    Fault.TLS: "the TLS connection failed",
    Fault.PROXY: "the proxy did not answer",
    Fault.CONNECT_TIMEOUT: "connecting timed out",
    Fault.TIMEOUT: "no whole answer in time",
    Fault.UNREACHABLE: "nothing answers there",
    Fault.TOO_LARGE: "the answer is too large",
}


@dataclass(frozen=True)
class Issuer:
    """Sends requests to one endpoint, such as IAM's.

    :param endpoint: scheme, host and port; nothing is ever sent anywhere else
    :param name: its name in errors
    :param hint: what the user should check after a refusal
    :param field: the field of Extra that sets ``endpoint``
    :param direct: use no proxy, not even those of the environment
    :param deadline: when the last answer must have come, by ``time.monotonic()``; each request also
        has the connection's ``attempt_timeout``
    """

    settings: ConnectionSettings
    endpoint: str
    name: str
    _: KW_ONLY
    hint: str
    field: str = "iam_endpoint"
    direct: bool = False
    deadline: float

    @property
    def host(self) -> str:
        """Host and port, as in the ``Host`` header."""
        return self.endpoint.split("://", 1)[1]

    def ask(
        self,
        action: str,
        method: str,
        uri: str,
        *,
        headers: Sealed[Mapping[str, str]] | None = None,
        body: Sealed[str] | None = None,
        secrets: Sealed[Collection[str]] | None = None,
        accept: Collection[int] = (),
    ) -> Answer:
        """Send one request; its answer.

        :param action: what the request does, in words that complete "Could not ..."
        :param uri: path and query
        :param secrets: what errors must not show
        :param accept: statuses besides 2xx that are no errors
        :raises IoTDAApiError: the issuer refuses
        :raises IoTDATransportError: the issuer does not answer, or answers with a server error
        :raises IoTDAConfigError: there is no CA bundle at the path in ``verify``
        """
        hidden: Sealed[tuple[str, ...]] = Sealed(
            (*(secrets.reveal() if secrets else ()), *secrets_of_proxies(self.settings))
        )
        answer = self._send(action, method, uri, headers or Sealed({}), body, hidden)
        if answer.status in accept or not is_refusal(answer):
            return answer
        error = refusal(Call(f"{action} from {self.name}", uri, lambda _: None, method), answer)
        if isinstance(error, IoTDAServerError):
            # The call of IoTDA has not been sent, so it may be repeated.
            raise IoTDATransportError(str(error), sent=False)
        if 300 <= error.status_code < 400:
            error.hint = redirect_hint(answer, self.field, f"the address of {self.name} itself")
        else:
            clock = clock_hint(answer) if error.status_code == 401 else None
            error.hint = f"{self.hint}. {clock}" if clock else self.hint
        raise error

    def _send(
        self,
        action: str,
        method: str,
        uri: str,
        headers: Sealed[Mapping[str, str]],
        body: Sealed[str] | None,
        secrets: Sealed[tuple[str, ...]],
    ) -> Answer:
        settings = self.settings
        now = time.monotonic()
        seconds = min(self.deadline - now, settings.attempt_timeout)
        if seconds <= 0:
            raise IoTDATransportError(
                f"Could not {action} from {self.name} at {self.endpoint}: earlier requests "
                "have used up the time.",
                sent=False,
            )
        url = self.endpoint + uri
        content = Sealed(b"" if body is None else body.reveal().encode())
        try:
            with open_session(settings, self.endpoint, direct=self.direct) as session:
                response = send(
                    session,
                    method,
                    url,
                    headers,
                    content,
                    seconds=seconds,
                    most_bytes=_MAX_BYTES,
                )
        except (requests.RequestException, ValueError) as error:
            said = _WORDS.get(fault_of(error), "the connection broke")
            text = redacted_line(innermost(error), secrets.reveal(), _LONGEST_REASON)
            raise IoTDATransportError(
                f"Could not {action} from {self.name} at {self.endpoint}: {said} ({text}).",
                sent=False,
            ) from None
        except OSError as error:  # requests raises it if the file is missing
            raise bundle_error(settings, settings.verify, error) from None
        names = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status_code, names, response.content, secrets.reveal())
