"""Takes secrets out of texts that came from elsewhere, such as an answer that echoes a request."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote, quote_plus

_MASK = "***"
_SECRET_HEADERS = frozenset({"authorization", "x-auth-token", "x-security-token"})
_SIGNATURE = re.compile(r"Signature=([0-9a-f]{16,})")
# Shorter texts are no secrets worth the damage of replacing them wherever they occur.
_SHORTEST = 5
_BEGINNING = 16


def secrets_of(headers: Mapping[str, str] | Mapping[str, str | bytes]) -> tuple[str, ...]:
    """What of a request's headers must not be shown: its tokens and its signature."""
    found = []
    for name, value in headers.items():
        if name.lower() in _SECRET_HEADERS:
            text = value.decode("latin-1") if isinstance(value, bytes) else value
            found += [text, *_SIGNATURE.findall(text)]
    return tuple(found)


def signatures_of(headers: Mapping[str, str]) -> tuple[str, ...]:
    """The signature in a request's headers; empty where it is not signed."""
    return tuple(
        signature
        for name, value in headers.items()
        if name.lower() == "authorization"
        for signature in _SIGNATURE.findall(value)
    )


def redact(text: str, secrets: Iterable[str]) -> str:
    """The text without the secrets, as they are and as JSON and URLs spell them.

    Whoever quotes them may have cut them off: the beginning of a long one goes, too.
    """
    spellings = {
        spelling
        for secret in secrets
        if len(secret) >= _SHORTEST
        for spelling in (
            secret,
            quote(secret),
            quote(secret, safe=""),
            quote_plus(secret),
            json.dumps(secret)[1:-1],
        )
    }
    for spelling in sorted(spellings, key=len, reverse=True):
        text = text.replace(spelling, _MASK)
        if len(spelling) >= 2 * _BEGINNING and " " not in spelling:
            text = re.sub(re.escape(spelling[:_BEGINNING]) + r"[^\s'\"]*", _MASK, text)
    return text
