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
    """The text without the secrets: plain, or as JSON, reprs, URLs and base64 write them.

    A spelling is found where it is used for the whole secret. The beginning of a long secret is
    removed, too, as the text may have been cut off. The time grows linearly with the text and with
    the secrets.
    """
    spans = [
        span
        for secret in dict.fromkeys(secrets)
        if len(secret) >= _SHORTEST
        for span in (*_spans(secret, text), *_spans_in_base64(secret, text))
    ]
    redacted, end = [], 0
    for start, stop in sorted(spans):
        if start >= end:
            redacted += [text[end:start], _MASK]
        end = max(end, stop)
    return "".join([*redacted, text[end:]])


def _spans(secret: str, text: str) -> Iterator[tuple[int, int]]:
    """The places of a secret in a text: start and end of each."""
    is_token = len(secret) >= 2 * _BEGINNING and not _ENDS_IT.search(secret)
    looked_for = secret[: _BEGINNING if is_token else _LONGEST]
    # Every spelling leaves letters and digits as they are, and searching them is fast.
    if max(_PLAIN.findall(looked_for), key=len, default="") not in text:
        return
    spellings = (re.escape, _with_percent_signs, _with_backslashes)
    for pattern in dict.fromkeys("".join(map(spell, looked_for)) for spell in spellings):
        end = 0
        for found in re.finditer(pattern, text):
            if found.start() < end:
                continue
            end = found.end()
            if looked_for != secret:
                rest = _ENDS_IT.search(text, end)
                end = rest.start() if rest else len(text)
            yield found.start(), end


# A text can be matched in one way at most by the patterns of the next two functions, so the time
# stays linear: no alternative is the beginning of another one, but for ``%`` and ``%25``, and there
# the digits up to the next sign that is no digit tell which one it is.


@lru_cache(maxsize=256)
def _with_percent_signs(char: str) -> str:
    """A pattern for a character as URLs and forms write it: encoded, or as it is.

    Some libraries leave ``%cd`` in a secret as it is, and encode its other characters.
    """
    return char if _PLAIN.fullmatch(char) else _one_of({char, *_in_urls(char)})


@lru_cache(maxsize=256)
def _with_backslashes(char: str) -> str:
    """A pattern for a character as JSON and reprs of texts and bytes write it, and URLs in them."""
    if _PLAIN.fullmatch(char):
        return char
    raw = char.encode("utf-8", "surrogatepass")
    units = re.findall("....", char.encode("utf-16-be", "surrogatepass").hex())
    lower = "".join(f"\\u{unit}" for unit in units)
    forms = {lower, lower.upper().replace("U", "u"), f"\\{char}", *_in_urls(char)}
    forms |= {json.dumps(char)[1:-1], repr(char)[1:-1], repr(raw)[2:-1]}
    forms |= {char} - {"\\"}  # which is always doubled
    return _one_of(forms)


def _in_urls(char: str) -> set[str]:
    """A character, encoded for URLs."""
    raw = "".join(f"%{byte:02x}" for byte in char.encode("utf-8", "surrogatepass"))
    return {raw, raw.upper(), *("+" if char == " " else "")}


def _one_of(forms: Iterable[str]) -> str:
    return f"(?:{'|'.join(map(re.escape, sorted(forms)))})"


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
