"""Takes secrets out of texts that came from elsewhere, such as an answer that echoes a request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from html.entities import html5

_MASK = "***"
_SECRET_HEADERS = frozenset({"authorization", "x-auth-token", "x-security-token"})
_SIGNATURE = re.compile(r"Signature=([0-9a-f]{16,})")
# Shorter texts are no secrets worth the damage of replacing them wherever they occur.
_SHORTEST = 5
_BEGINNING = 16
_PLAIN = re.compile("[A-Za-z0-9]+")
_PARTS = re.compile(r"[A-Za-z0-9]+|\\+|.", re.DOTALL)
_ESCAPES = {"\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f"}


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
    """The text without the secrets, as they are and as JSON, HTML, URLs and reprs spell them.

    Whoever quotes them may have cut them off: the beginning of a long one goes, too.
    """
    for secret in sorted(set(secrets), key=len, reverse=True):
        if len(secret) < _SHORTEST:
            continue
        is_long = len(secret) >= 2 * _BEGINNING and " " not in secret
        # Nobody spells letters and digits otherwise, and looking for them costs next to nothing.
        certain = _PLAIN.findall(secret[:_BEGINNING] if is_long else secret)
        if max(certain, key=len, default="") not in text:
            continue
        text = text.replace(secret, _MASK)
        text = re.sub(_expression(secret, is_long), _MASK, text)
    return text


def _expression(secret: str, is_long: bool) -> str:
    if not is_long:
        return _spellings(secret)
    begun = rf"{_spellings(secret[:_BEGINNING])}[^\s'\"]*"
    # That is all of it, where none of those is in it; to compile all of a token takes a second.
    return f"{_spellings(secret)}|{begun}" if re.search(r"[\s'\"]", secret) else begun


def _spellings(secret: str) -> str:
    """An expression for a text, each of its characters in any spelling, mixed as may be."""
    return "".join(
        f"(?:{_spellings_of(part[0])}){{1,{4 * len(part)}}}"
        if part[0] == "\\"  # each of which quoting doubles
        else (part if _PLAIN.fullmatch(part) else f"(?:{_spellings_of(part)})")
        for part in _PARTS.findall(secret)
    )


@lru_cache(maxsize=1024)
def _spellings_of(char: str) -> str:
    code = ord(char)
    utf_8 = char.encode("utf-8", "surrogatepass")
    utf_16 = char.encode("utf-16-be", "surrogatepass").hex()
    entity = f"#0{{0,5}}{code}|#x0{{0,5}}{code:x}{_entities().get(char, '')}"
    raw = re.escape(char)
    spellings = [
        "".join(rf"%(?:25){{0,2}}{byte:02x}" for byte in utf_8),
        "".join(rf"\\{{1,4}}x{byte:02x}" for byte in utf_8),
        "".join(rf"\\{{1,4}}u{utf_16[at : at + 4]}" for at in range(0, len(utf_16), 4)),
        rf"\\{{0,4}}&(?:amp;){{0,2}}(?:{entity});",
    ]
    if 128 <= code < 256:
        spellings += [f"%{code:02x}", rf"\\{{1,4}}x{code:02x}"]
    if char in _ESCAPES:
        spellings.append(rf"\\{{1,4}}{_ESCAPES[char]}")
    if char == " ":
        spellings.append(r"\+")
    if char != "\\":
        raw = rf"\\{{0,4}}{raw}"
    return f"{raw}|(?i:{'|'.join(spellings)})"


@cache
def _entities() -> dict[str, str]:
    """HTML's names for each character, as alternatives."""
    names: dict[str, str] = {}
    for name, char in html5.items():
        if name.endswith(";"):
            names[char] = f"{names.get(char, '')}|{name[:-1]}"
    return names
