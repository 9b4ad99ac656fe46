"""Takes secrets out of texts that came from elsewhere, such as an answer that echoes a request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from html.entities import html5

from iotda_provider.text import one_line

_MASK = "***"
_SECRET_HEADERS = frozenset({"authorization", "x-auth-token", "x-security-token"})
_SIGNATURE = re.compile(r"Signature=([0-9a-f]{16,})")
# Shorter texts are no secrets worth the damage of replacing them wherever they occur.
_SHORTEST = 5
_BEGINNING = 16
_PLAIN = re.compile("[A-Za-z0-9]+")
_ENDS_IT = re.compile(r"[\s'\"]")
# Of a text of which a line is shown, this much is looked at. What a short secret may take of it,
# every character spelled as ``&#x0000022;``, is not shown where it was cut off.
_LOOKED_AT = 16_384
_CUT_OFF = 1_024
# How often a text may have been quoted, HTML in JSON in an address being three times.
_MOST_QUOTINGS = 8
# One character in a spelling of JSON, HTML, URLs or reprs. No part of it can be read in two ways,
# so that the time to look for it grows with the text only.
_SPELLED = re.compile(
    r"\\+(?:u([0-9a-f]{4})|x([0-9a-f]{2}))?"
    r"|%([0-9a-f]{2})"
    r"|&(?:#0{0,8}([0-9]{1,7})|#x0{0,8}([0-9a-f]{1,6})|([a-z][a-z0-9]{0,31}));"
    r"|([\ud800-\udbff][\udc00-\udfff])"
    r"|([\udc80-\udcff]+)",
    re.IGNORECASE,
)
# What may be the beginning of such a spelling, at a secret's end.
_BEGUN = re.compile(r"(?:\\[ux]?[0-9a-f]{0,3}|%[0-9a-f]?|&#?[0-9a-z]{0,8})$", re.IGNORECASE)
_LONGEST_BEGUN = 10
# Backslashes are left out: what is behind one may be a letter or an escape.
_ALIKE = str.maketrans("+\n\r\t\b\f", " nrtbf")


def secrets_of(headers: Mapping[str, str] | Mapping[str, str | bytes]) -> tuple[str, ...]:
    """What of a request's headers must not be shown: its tokens and its signature."""
    found = []
    for name, value in headers.items():
        if name.lower() in _SECRET_HEADERS:
            text = value.decode("latin-1") if isinstance(value, bytes) else value
            found += [text, *_SIGNATURE.findall(text)]
    return tuple(found)


def hidden_secrets(headers: Mapping[str, str] | Mapping[str, str | bytes]) -> dict[str, str]:
    """Those of a request's headers that hold secrets, with a mask in place of each."""
    return {name: _MASK for name in headers if name.lower() in _SECRET_HEADERS}


def redacted_line(text: str, secrets: Iterable[str], longest: int) -> str:
    """The beginning of a text as one line, without the secrets; see :func:`redact`."""
    if len(text) > _LOOKED_AT:
        text = redact(text[:_LOOKED_AT], secrets)[:-_CUT_OFF]
    else:
        text = redact(text, secrets)
    return " ".join(one_line(text, longest).split())


def redact(text: str, secrets: Iterable[str]) -> str:
    """The text without the secrets, as they are and as JSON, HTML, URLs and reprs spell them.

    Whoever quotes them may have cut them off: the beginning of a long one goes, too. The time that
    it takes grows with the text, and with the secrets, and no faster.
    """
    # Nobody spells letters and digits otherwise, and looking for them costs next to nothing.
    there = [
        secret
        for secret in dict.fromkeys(secrets)
        if len(secret) >= _SHORTEST
        and max(_PLAIN.findall(_looked_for(secret)), key=len, default="") in text
    ]
    if not there:
        return text
    readings = _readings(text)
    spans = [span for secret in there for span in _spans(secret, text, readings)]
    told, end = [], 0
    for start, stop in sorted(spans):
        if start >= end:
            told += [text[end:start], _MASK]
        end = max(end, stop)
    return "".join([*told, text[end:]])


def _is_long(secret: str) -> bool:
    return len(secret) >= 2 * _BEGINNING and " " not in secret


def _looked_for(secret: str) -> str:
    return secret[:_BEGINNING] if _is_long(secret) else secret


@dataclass(frozen=True)
class _Reading:
    """A text with its spellings undone so many times, and where each character stood at first."""

    text: str
    starts: Sequence[int]
    ends: Sequence[int]


def _readings(text: str) -> list[_Reading]:
    """The text as it is, and with its spellings undone once, twice, ... until none is left."""
    reading = _Reading(text, range(len(text)), range(1, len(text) + 1))
    found = [reading]
    while len(found) <= _MOST_QUOTINGS and (undone := _undone(reading)) is not None:
        reading = undone
        found.append(reading)
    return [_Reading(one.text.translate(_ALIKE), one.starts, one.ends) for one in found]


def _undone(reading: _Reading) -> _Reading | None:
    """Every spelling undone once; None where there is none."""
    parts: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    done = 0
    left_out: int | None = None  # where backslashes began that the next character is behind

    def add(part: str, its_starts: Sequence[int], its_ends: Sequence[int]) -> None:
        nonlocal left_out
        if not part:
            return
        parts.append(part)
        begun = len(starts)
        starts.extend(its_starts)
        ends.extend(its_ends)
        if left_out is not None:
            starts[begun], left_out = left_out, None

    for spelled in _SPELLED.finditer(reading.text):
        at, end = spelled.span()
        chars = _characters(spelled)
        if chars is None:
            continue
        add(reading.text[done:at], reading.starts[done:at], reading.ends[done:at])
        start, done = reading.starts[at], end
        if not chars and left_out is None:
            left_out = start
        for char, here, there in chars:
            add(
                char,
                [reading.starts[at + here]] * len(char),
                [reading.ends[at + there - 1]] * len(char),
            )
    if not done:
        return None
    add(reading.text[done:], reading.starts[done:], reading.ends[done:])
    return _Reading("".join(parts), starts, ends)


def _characters(spelled: re.Match[str]) -> list[tuple[str, int, int]] | None:
    """What a spelling means, with the part of it that says so; None where it means nothing."""
    whole = len(spelled[0])
    utf_16, byte, percent, decimal, hexadecimal, name, pair, some_bytes = spelled.groups()
    if some_bytes:
        return _decoded(some_bytes)
    if pair:
        char = pair.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    elif name:
        found = html5.get(f"{name};") or html5.get(f"{name.lower()};")
        if not found:
            return None
        char = found
    elif byte or percent:
        code = int(byte or percent, 16)
        # What more than one byte mean is known once all of them are next to each other.
        char = chr(code) if code < 128 else chr(0xDC00 + code)
    elif code := int(utf_16 or hexadecimal or "0", 16) or int(decimal or "0"):
        if code > 0x10FFFF:
            return None
        char = chr(code)
    else:
        return [] if spelled[0].startswith("\\") else [("\0", 0, whole)]
    return [(char, 0, whole)]


def _decoded(text: str) -> list[tuple[str, int, int]]:
    """Bytes as UTF-8, and those that are none as Latin-1."""
    raw = bytes(ord(char) - 0xDC00 for char in text)
    found: list[tuple[str, int, int]] = []
    at = 0
    while at < len(raw):
        size = 4 if raw[at] >= 0xF0 else 3 if raw[at] >= 0xE0 else 2
        try:
            char = raw[at : at + size].decode()
        except UnicodeDecodeError:
            char, size = chr(raw[at]), 1
        found.append((char, at, at + size))
        at += size
    return found


def _spans(secret: str, text: str, readings: Sequence[_Reading]) -> Iterator[tuple[int, int]]:
    """From where to where a secret stands in a text."""
    forms = _forms(secret)
    is_long = _is_long(secret)
    if not is_long or _ENDS_IT.search(secret):
        last = 4 * (len(secret) - len(secret.rstrip("\\")))  # of which quoting makes more
        for start, end in _places(forms, readings):
            yield (
                start,
                end + len(text[end : end + last]) - len(text[end : end + last].lstrip("\\")),
            )
    if is_long:
        told = 0
        for start, end in sorted(_places([form[:_BEGINNING] for form in forms], readings)):
            if end > told:
                rest = _ENDS_IT.search(text, end)
                told = rest.start() if rest else len(text)
                yield start, told


def _forms(secret: str) -> list[str]:
    """A secret as a text with no spelling left in it may show it."""
    found = [secret.translate(_ALIKE)]
    spelled = [secret]
    if begun := _BEGUN.search(secret[-_LONGEST_BEGUN:]):  # which what comes next may complete
        spelled.append(secret[: len(secret) - len(begun[0])])
    if not secret.isascii():
        with suppress(UnicodeEncodeError):  # which also are two bytes of UTF-8 here and there
            spelled.append("".join(f"%{byte:02x}" for byte in secret.encode("latin-1")))
    found += [_readings(one)[-1].text for one in spelled]
    return [form for form in dict.fromkeys(found) if len(form) >= _SHORTEST - 2]


def _places(forms: Iterable[str], readings: Iterable[_Reading]) -> Iterator[tuple[int, int]]:
    for reading in readings:
        for form in forms:
            at = reading.text.find(form)
            while at >= 0:
                end = at + len(form)
                yield reading.starts[at], reading.ends[end - 1]
                at = reading.text.find(form, end)
