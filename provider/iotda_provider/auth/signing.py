"""Signatures of requests, equal to those of the vendor's own signers and several times as fast.

Source: "AK/SK Signing and Authentication" of the API Gateway guide, and
``huaweicloudsdkcore.signer``, against which the tests check every byte. A poll is little more than
its signature, and there are many of them.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from iotda_provider.exceptions import IoTDAConfigError

if TYPE_CHECKING:
    from iotda_provider.api import Outgoing
    from iotda_provider.settings import ConnectionSettings

#: The name of IoTDA in the scope of a derived signature.
DERIVED_SERVICE = "iotdm"

_JSON = "application/json"
_HASH_OF_NOTHING = hashlib.sha256(b"").hexdigest()

# A region's shared endpoint, as in DerivedCredentials of huaweicloudsdkcore 3.1.219.
_SHARED_ENDPOINT = re.compile(
    r"[a-z][a-z0-9-]+(\.[a-z]{2,}-[a-z]+-\d{1,2})?\.(my)?(huaweicloud|myhwclouds)\.(com|cn)"
)


@dataclass(frozen=True)
class AccessKey:
    """An access key, permanent or (with ``security_token``) temporary."""

    access_key: str
    secret_key: str = field(repr=False)
    security_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Scope:
    """How requests of a connection are signed.

    :param derived: whether with the derived ``V11-HMAC-SHA256`` instead of ``SDK-HMAC-SHA256``
    :param region: the region in a derived signature's scope
    """

    derived: bool
    region: str | None = None

    @classmethod
    def of(cls, settings: ConnectionSettings) -> Scope:
        """By the connection's ``derived_auth``; ``auto`` decides by the host name, as the SDK does.

        :raises IoTDAConfigError: a derived signature needs the region, and none is set
        """
        if settings.derived_auth == "auto":
            derived = not _SHARED_ENDPOINT.match(settings.host)
        else:
            derived = settings.derived_auth == "always"
        if derived and not settings.region:
            raise IoTDAConfigError(
                f"Connection {settings.conn_id!r}: requests to {settings.host} carry a derived "
                "signature, which "
                "needs the region: set region in Extra, such as cn-north-4 (or derived_auth to "
                "never)."
            )
        return cls(derived, settings.region)


def sign(outgoing: Outgoing, key: AccessKey, scope: Scope) -> Mapping[str, str]:
    """The headers of a request with its signature added.

    Every header whose name holds no underscore is signed. ``X-Sdk-Date`` is set to now where it is
    missing, and ``Host`` to the request's host.
    """
    headers = {name: value for name, value in outgoing.headers.items() if name != "Authorization"}
    if key.security_token:
        headers["X-Security-Token"] = key.security_token
    known = {name.lower(): value.strip() for name, value in headers.items()}
    if "host" not in known:
        headers["Host"] = known["host"] = outgoing.host
    moment = known.get("x-sdk-date")
    if moment is None:
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        headers["X-Sdk-Date"] = known["x-sdk-date"] = moment
    if not known.get("content-type", _JSON).startswith((_JSON, "application/bson")):
        headers["X-Sdk-Content-Sha256"] = known["x-sdk-content-sha256"] = "UNSIGNED-PAYLOAD"
    names = sorted(name for name in known if "_" not in name)
    signed = ";".join(names)
    payload = known.get("x-sdk-content-sha256") if outgoing.body else _HASH_OF_NOTHING
    request = "\n".join(
        (
            outgoing.method.upper(),
            _canonical_path(outgoing.path),
            outgoing.query_string,
            *(f"{name}:{known[name]}" for name in names),
            "",
            signed,
            payload or hashlib.sha256(outgoing.body).hexdigest(),
        )
    )
    digest = hashlib.sha256(request.encode()).hexdigest()
    if scope.derived:
        credential = f"{moment[:8]}/{scope.region}/{DERIVED_SERVICE}"
        text = f"V11-HMAC-SHA256\n{moment}\n{credential}\n{digest}"
        signature = _hmac(_derived_key(key, credential), text)
        who = f"V11-HMAC-SHA256 Credential={key.access_key}/{credential}"
    else:
        signature = _hmac(key.secret_key.encode(), f"SDK-HMAC-SHA256\n{moment}\n{digest}")
        who = f"SDK-HMAC-SHA256 Access={key.access_key}"
    headers = {name: _on_the_wire(value) for name, value in headers.items()}
    headers["Authorization"] = f"{who}, SignedHeaders={signed}, Signature={signature}"
    return headers


def _hmac(key: bytes, text: str) -> str:
    return hmac.digest(key, text.encode(), "sha256").hex()


@lru_cache(maxsize=64)
def _derived_key(key: AccessKey, credential: str) -> bytes:
    """The key for one day, region and service (HKDF, RFC 5869, of one block), as its hex digits."""
    extracted = hmac.digest(key.access_key.encode(), key.secret_key.encode(), "sha256")
    return hmac.digest(extracted, credential.encode() + b"\x01", "sha256").hex().encode()


@lru_cache(maxsize=256)
def _canonical_path(path: str) -> str:
    parts = (quote(part, safe="~") for part in unquote(path).split("/"))
    encoded = "/".join(parts)
    return encoded if encoded.endswith("/") else f"{encoded}/"


def _on_the_wire(value: str) -> str:
    """UTF-8, in the Latin-1 that HTTP libraries encode headers with."""
    value = value.strip()
    return value if value.isascii() else value.encode().decode("latin-1")
