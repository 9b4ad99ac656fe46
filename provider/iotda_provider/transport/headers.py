"""The headers of every request, and the check of a caller's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from iotda_provider import __version__
from iotda_provider.connection.settings import ConnectionSettings
from iotda_provider.exceptions import IoTDAConfigError

USER_AGENT = f"airflow-provider-iotda/{__version__}"
_OURS = frozenset(
    {
        "authorization",
        "host",
        "content-length",
        "content-type",
        "transfer-encoding",
        "instance-id",
        "x-sdk-date",
        "x-sdk-content-sha256",
        "x-project-id",
        "x-security-token",
        "x-auth-token",
        "x-subject-token",
        # These concern one connection only, or say where a message ends.
        "connection",
        "content-encoding",
        "expect",
        "http2-settings",
        "keep-alive",
        "te",
        "trailer",
        "upgrade",
        # These name the caller or the call, which the signature must do.
        "client-ip",
        "cookie",
        "cookie2",
        "forwarded",
        "set-cookie",
        "true-client-ip",
        "via",
        "x-client-ip",
        "x-domain-id",
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
        "x-original-url",
        "x-real-ip",
        "x-rewrite-url",
    }
)
_OUR_PREFIXES = ("proxy-", "x-forwarded-", "x-sdk-")
_NAME = re.compile(r"[A-Za-z0-9-]{1,100}")


#: Headers that are not signed, since proxies may rewrite them.
UNSIGNED_HEADERS = {"Accept": "application/json", "User-Agent": USER_AGENT}


def _is_ours(name: str) -> bool:
    return name in _OURS or name.startswith(_OUR_PREFIXES)


def signed_headers(settings: ConnectionSettings, project_id: str) -> dict[str, str]:
    """The signed headers of a request to this connection's instance."""
    headers = {
        "Host": settings.host,
        "Content-Type": "application/json",
        "X-Project-Id": project_id,
    }
    if settings.instance_id:
        headers["Instance-Id"] = settings.instance_id
    return headers


def checked_headers(headers: Mapping[Any, Any]) -> dict[str, str]:
    """Check a caller's additional headers.

    They can't replace the provider's own headers, nor change how a message is framed, which
    connection it takes, or who sends it.

    :raises IoTDAConfigError: a name or value is not allowed in a header, or the name is reserved
    """
    checked = {}
    for name, value in headers.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name) or _is_ours(name.lower()):
            raise IoTDAConfigError(f"The header {str(name)[:40]!r} can't be set by a caller.")
        text = str(value)
        if not text.isprintable() or not text.isascii():
            raise IoTDAConfigError(
                f"The value of header {name} holds characters that no header may hold."
            )
        checked[name] = text.strip()
    return checked
