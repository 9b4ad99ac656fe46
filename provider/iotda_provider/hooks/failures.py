"""What went wrong below HTTP, in the same words for both transports."""

from __future__ import annotations

from enum import Enum
from typing import Any

from iotda_provider.api import Call
from iotda_provider.exceptions import IoTDATransportError
from iotda_provider.settings import ConnectionSettings

_LONGEST_REASON = 200


class Fault(Enum):
    """A kind of failure: what is said of it, and whether the platform may have got the request."""

    CERTIFICATE = (
        "the server's TLS certificate was not accepted ({reason}). For a private CA set verify in "
        "the connection's Extra to the CA bundle's path.",
        False,
    )
    TLS = ("the TLS connection failed ({reason}). Is this an https port?", True)
    PROXY = ("the proxy did not answer ({reason}).", False)
    CONNECT_TIMEOUT = ("connecting timed out. Check Host and network.", False)
    UNREACHABLE = (
        "nothing answers there ({reason}). Check the connection's Host and the network.",
        False,
    )
    TIMEOUT = ("no whole answer within {timeout:g} s ({reason}).", True)
    BROKEN = ("the connection broke ({reason}).", True)


def transport_error(
    call: Call[Any], settings: ConnectionSettings, fault: Fault, reason: str = ""
) -> IoTDATransportError:
    """The typed error for a call that got no answer."""
    words, sent = fault.value
    text = words.format(reason=reason[:_LONGEST_REASON], timeout=settings.timeout)
    return IoTDATransportError(f"Could not {call.action} at {settings.base_url}: {text}", sent=sent)
