"""Verifies both kinds of request signatures of IoTDA, from the bytes that were received."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, unquote_plus

from iotda_provider.emulator.common import errors
from iotda_provider.emulator.common.clock import parse_basic

BASIC = "SDK-HMAC-SHA256"
DERIVED = "V11-HMAC-SHA256"
SERVICE = "iotdm"
MAX_SKEW = 15 * 60.0

_AUTHORIZATION = re.compile(
    r"(?P<kind>\S+) (?P<id>Access|Credential)=(?P<who>[^,\s]+),\s*"
    r"SignedHeaders=(?P<headers>[^,\s]+),\s*Signature=(?P<signature>[0-9a-f]+)"
)
#: Headers that identify the caller and say what is signed.
_SECURITY_HEADERS = (
    b"authorization",
    b"host",
    b"instance-id",
    b"x-auth-token",
    b"x-sdk-content-sha256",
    b"x-sdk-date",
    b"x-security-token",
)
_EMPTY_HASH = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class Key:
    """An access key that the emulator knows; a temporary one comes with a security token."""

    access: str
    secret: str
    security_token: str | None = None


class SentRequest(NamedTuple):
    """What a caller has sent.

    :param raw_path: the path, still percent-encoded
    :param headers: names in lower case, as ASGI gives them
    """

    method: str
    raw_path: bytes
    query: bytes
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes

    @classmethod
    def of(cls, scope: Mapping[str, Any], body: bytes) -> SentRequest:
        """The request of an ASGI scope."""
        return cls(
            scope["method"], scope["raw_path"], scope["query_string"], scope["headers"], body
        )


def refuse_duplicates(headers: Iterable[tuple[bytes, bytes]], names: Iterable[bytes]) -> None:
    """Refuse a request that has one of these headers twice: the two values may differ.

    :raises ApiError: 401
    """
    seen = [name for name, _ in headers]
    for name in names:
        if seen.count(name) > 1:
            raise errors.unauthenticated(f"the header {name.decode('latin-1')} was sent twice")


class Verifier:
    """Finds the key that signed a request, or refuses the request.

    :param keys: the access keys that are known
    :param kind: the only kind of signature that is accepted, or ``any``
    :param region: the region that a derived signature must name; None: any
    """

    def __init__(self, keys: Iterable[Key], kind: str = "any", region: str | None = None) -> None:
        self._keys = {key.access: key for key in keys}
        self._kind = kind
        self._region = region

    def verify(self, request: SentRequest, now: float) -> Key:
        """The key that signed this request.

        :param now: the present in seconds since 1970, as the gateway's clock has it
        :raises ApiError: 401, the signature is not valid
        """
        headers = request.headers
        refuse_duplicates(headers, _SECURITY_HEADERS)
        sent = {name.decode("latin-1"): _text(value) for name, value in headers}
        authorization = sent.get("authorization")
        if authorization is None:
            raise errors.unauthenticated("there is no Authorization header")
        match = _AUTHORIZATION.fullmatch(authorization)
        if match is None or (match["kind"], match["id"]) not in (
            (BASIC, "Access"),
            (DERIVED, "Credential"),
        ):
            raise errors.unauthenticated("the Authorization header is not of a known form")
        kind = match["kind"]
        if self._kind not in ("any", kind):
            raise errors.unauthenticated(f"this instance does not take {kind} signatures")
        date = sent.get("x-sdk-date", "")
        self._check_date(date, now)
        signed = match["headers"].split(";")
        refuse_duplicates(headers, (name.encode("latin-1", "replace") for name in signed))
        _check_signed(signed, sent)
        access, _, scope = match["who"].partition("/")
        key = self._keys.get(access)
        if key is None:
            raise errors.unauthenticated("the access key is not known")
        canonical = _canonical(request, sent, signed)
        secret = key.secret
        if kind == DERIVED:
            self._check_scope(scope, date)
            to_sign = f"{kind}\n{date}\n{scope}\n{canonical}"
            secret = _derived_key(access, secret, scope)
        else:
            to_sign = f"{kind}\n{date}\n{canonical}"
        expected = hmac.new(secret.encode(), to_sign.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, match["signature"]):
            raise errors.unauthenticated("verify aksk signature fail")
        if sent.get("x-security-token") != key.security_token:
            raise errors.unauthenticated("the security token is not the key's")
        return key

    @staticmethod
    def _check_date(date: str, now: float) -> None:
        try:
            signed_at = parse_basic(date)
        except ValueError:
            raise errors.unauthenticated("X-Sdk-Date is missing or malformed") from None
        if abs(now - signed_at) > MAX_SKEW:
            raise errors.unauthenticated("the signature has expired or is not valid yet")

    def _check_scope(self, scope: str, date: str) -> None:
        parts = scope.split("/")
        if len(parts) != 3 or parts[0] != date[:8] or parts[2] != SERVICE:
            raise errors.unauthenticated("the credential scope is not <date>/<region>/iotdm")
        if self._region is not None and parts[1] != self._region:
            raise errors.unauthenticated("the credential scope names another region")


def _check_signed(signed: list[str], sent: Mapping[str, str]) -> None:
    for name in ("host", "x-sdk-date"):
        if name not in signed:
            raise errors.unauthenticated(f"the header {name} is not signed")
    if "x-security-token" in sent and "x-security-token" not in signed:
        raise errors.unauthenticated("the header x-security-token is not signed")
    for name in signed:
        if name not in sent:
            raise errors.unauthenticated(f"the signed header {name} was not sent")


def _canonical(request: SentRequest, sent: Mapping[str, str], signed: list[str]) -> str:
    """The hash of the canonical request."""
    raw_path = unquote(_text(request.raw_path))
    path = "/".join(quote(part, safe="~") for part in raw_path.split("/"))
    if not path.endswith("/"):
        path += "/"
    pairs = []
    for pair in _text(request.query).split("&") if request.query else ():
        name, _, value = pair.partition("=")
        # A + in a query is a space; the client signed %20.
        pairs.append((unquote_plus(name), unquote_plus(value)))
    pairs.sort()
    text = "\n".join(
        (
            request.method.upper(),
            path,
            "&".join(f"{quote(n, safe='~')}={quote(v, safe='~')}" for n, v in pairs),
            *(f"{name}:{sent[name].strip()}" for name in signed),
            "",
            ";".join(signed),
            _payload_hash(sent, request.body),
        )
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _payload_hash(sent: Mapping[str, str], body: bytes) -> str:
    if not body:
        return _EMPTY_HASH
    announced = sent.get("x-sdk-content-sha256")
    if announced == "UNSIGNED-PAYLOAD":
        return announced
    actual = hashlib.sha256(body).hexdigest()
    if announced is not None and announced != actual:
        raise errors.unauthenticated("X-Sdk-Content-Sha256 is not the body's")
    return actual


@lru_cache(maxsize=64)
def _derived_key(access: str, secret: str, scope: str) -> str:
    """HKDF with SHA-256, salted with the access key; one block, in hexadecimal."""
    extracted = hmac.new(access.encode(), secret.encode(), hashlib.sha256).digest()
    return hmac.new(extracted, scope.encode() + b"\x01", hashlib.sha256).hexdigest()


def _text(raw: bytes) -> str:
    """What clients sign as text and send as UTF-8."""
    return raw.decode("utf-8", "replace")
