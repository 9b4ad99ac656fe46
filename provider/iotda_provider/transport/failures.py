"""The errors below HTTP, in the same words for both transports."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any

from iotda_provider.api import Call
from iotda_provider.api.responses import MAX_ANSWER_BYTES
from iotda_provider.connection.proxies_and_tls import secrets_of_proxies
from iotda_provider.connection.settings import ConnectionSettings
from iotda_provider.exceptions import IoTDATransportError
from iotda_provider.masking.redaction import redacted_line

_LONGEST_REASON = 200
#: The message with which both transports raise their libraries' errors.
TOO_LARGE = f"the answer is larger than any of this API ({MAX_ANSWER_BYTES // 1024 // 1024} MiB)"


class Fault(Enum):
    """A kind of failure: the error's text, and whether the platform may have got the request."""

    CERTIFICATE = (
        "the server's TLS certificate was not accepted ({reason}). For a private CA set verify in "
        "the connection's Extra to the CA bundle's path.",
        False,
    )
    HANDSHAKE = ("the TLS connection failed ({reason}). Is this an https port?", False)
    TLS = ("the TLS connection failed ({reason}). Is this an https port?", True)
    PROXY = ("the proxy did not answer ({reason}).", False)
    CONNECT_TIMEOUT = ("connecting timed out. Check Host and network.", False)
    UNREACHABLE = (
        "nothing answers there ({reason}). Check the connection's Host and the network.",
        False,
    )
    TIMEOUT = ("no whole answer within {seconds:.3g} s ({reason}).", True)
    CLOSED = ("the connection was closed before the request was sent ({reason}).", False)
    TOO_LARGE = ("{reason}. A proxy or a wrong Host may be answering.", True)
    BROKEN = ("the connection broke ({reason}).", True)


def transport_error(
    call: Call[Any],
    settings: ConnectionSettings,
    fault: Fault,
    reason: str = "",
    secrets: Iterable[str] = (),
    *,
    seconds: float,
) -> IoTDATransportError:
    """The typed error for an attempt without an answer.

    :param secrets: what must not show: ``reason`` may quote a response that echoes the request
    :param seconds: the time that the attempt had
    """
    words, sent = fault.value
    reason = redacted_line(reason, (*secrets, *secrets_of_proxies(settings)), _LONGEST_REASON)
    text = words.format(reason=reason, seconds=seconds)
    return IoTDATransportError(f"Could not {call.action} at {settings.base_url}: {text}", sent=sent)
