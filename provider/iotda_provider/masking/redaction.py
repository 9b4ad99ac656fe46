"""Removes secrets from texts of others, such as an answer that echoes a request."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

from iotda_provider.models.text import one_line

_MASK = "***"
_SECRET_HEADERS = frozenset({"authorization", "x-auth-token", "x-security-token"})
_SIGNATURE = re.compile(r"Signature=([0-9a-f]{16,})")
# Shorter texts are not replaced: they occur in many harmless places.
_SHORTEST = 5
_BEGINNING = 16
_LONGEST = 256
_PLAIN = re.compile("[A-Za-z0-9]+")
_ENDS_IT = re.compile(r"[\s'\"]")
# Only so much of a text is searched for one line of it. Its end is dropped: a secret may be cut off
# there, each of its characters written as ``\u0022``.
_LOOKED_AT = 16_384
_CUT_OFF = 1_024
_URL_SAFE = str.maketrans("+/", "-_")
_REST_OF_BASE64 = re.compile("[A-Za-z0-9+/_=-]*")


def secrets_of(headers: Mapping[str, str] | Mapping[str, str | bytes]) -> tuple[str, ...]:
    """The secrets in a request's headers: tokens and signature."""
    found = []
    for name, value in headers.items():
        if name.lower() in _SECRET_HEADERS:
            text = value.decode("latin-1") if isinstance(value, bytes) else value
            found += [text, *_SIGNATURE.findall(text)]
    return tuple(found)


def hidden_secrets(headers: Mapping[str, str] | Mapping[str, str | bytes]) -> dict[str, str]:
    """The request's headers that hold secrets, each with a mask for its value."""
    return {name: _MASK for name in headers if name.lower() in _SECRET_HEADERS}


def redacted_line(text: str, secrets: Iterable[str], longest: int) -> str:
    """The beginning of a text as one line, without the secrets; see :func:`redact`."""
    if len(text) > _LOOKED_AT:
        text = redact(text[:_LOOKED_AT], secrets)[:-_CUT_OFF]
    else:
        text = redact(text, secrets)
    return " ".join(one_line(text, longest).split())


def redact(text: str, secrets: Iterable[str]) -> str:
    """The text without the secrets: plain, or as JSON, URLs, reprs and base64 write them.

    The beginning of a long secret is removed, too, as the text may have been cut off. The time
    grows linearly with the text and with the secrets.
    """
    spans = [
        span
        for secret in dict.fromkeys(secrets)
        if len(secret) >= _SHORTEST
        for span in (*_spans(secret, text), *_spans_in_base64(secret, text))
    ]
    told, end = [], 0
    for start, stop in sorted(spans):
        if start >= end:
            told += [text[end:start], _MASK]
        end = max(end, stop)
    return "".join([*told, text[end:]])


def _spans(secret: str, text: str) -> Iterator[tuple[int, int]]:
    """The places of a secret in a text: start and end of each."""
    is_token = len(secret) >= 2 * _BEGINNING and not _ENDS_IT.search(secret)
    looked_for = secret[: _BEGINNING if is_token else _LONGEST]
    # Every spelling leaves letters and digits as they are, and searching them is fast.
    if max(_PLAIN.findall(looked_for), key=len, default="") not in text:
        return
    told = 0
    for found in re.finditer(_pattern(looked_for), text):
        if found.start() < told:
            continue
        told = found.end()
        if looked_for != secret:
            rest = _ENDS_IT.search(text, told)
            told = rest.start() if rest else len(text)
        yield found.start(), told


def _pattern(secret: str) -> str:
    """A regular expression for a secret, with each character in any spelling."""
    parts = []
    after_run = False
    for run in re.findall(r"\\+|[^\\]", secret):
        if run[0] == "\\":
            # Doubled in JSON, and one more where the next character has one of its own. Matched one
            # by one, or with that one left to the next character, there would be 2**n ways.
            parts.append(rf"(?:\\{{{len(run)},{2 * len(run) + 1}}}|(?:%5[Cc]){{{len(run)}}})")
        else:
            parts.append(_any_spelling(run, after_run=after_run))
        after_run = run[0] == "\\"
    return "".join(parts)


@lru_cache(maxsize=256)
def _any_spelling(char: str, *, after_run: bool) -> str:
    if char.isascii() and char.isalnum():
        return char
    raw = char.encode("utf-8", "surrogatepass")
    utf_16 = char.encode("utf-16-be", "surrogatepass").hex()
    by_number = "".join(f"\\u{utf_16[at : at + 4]}" for at in range(0, len(utf_16), 4))
    by_bytes = "".join(f"%{byte:02x}" for byte in raw)
    forms = {char, f"\\{char}", json.dumps(char)[1:-1], repr(char)[1:-1], repr(raw)[2:-1]}
    forms |= {by_number, by_number.upper().replace("U", "u"), by_bytes, by_bytes.upper()}
    forms |= {"+"} if char == " " else set()
    forms -= {f"\\{char}"} if after_run else set()
    return f"(?:{'|'.join(map(re.escape, sorted(forms, key=len, reverse=True)))})"


def _spans_in_base64(secret: str, text: str) -> Iterator[tuple[int, int]]:
    raw = secret.encode("utf-8", "surrogatepass")
    for before in range(3):  # bytes encoded before it, modulo 3
        encoded = b64encode(bytes(before) + raw).decode()
        of_it_alone = encoded[(before * 8 + 5) // 6 : (before + len(raw)) * 8 // 6]
        for form in {of_it_alone, of_it_alone.translate(_URL_SAFE)}:
            at = text.find(form[: 2 * _BEGINNING])
            while at >= 0:
                rest = _REST_OF_BASE64.match(text, at)
                assert rest is not None
                yield at, rest.end()
                at = text.find(form[: 2 * _BEGINNING], rest.end())
