"""Signatures of requests, made by the vendor's own signers (``huaweicloudsdkcore``).

Source: "AK/SK Signing and Authentication" of the API Gateway guide, and
``huaweicloudsdkcore.signer``. They take about 0.1 ms of CPU a request. Own code would be faster,
but would have to follow every change of the vendor's.
"""

from __future__ import annotations

import importlib
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace

from iotda_provider.api import Outgoing
from iotda_provider.connection.settings import ConnectionSettings
from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.masking.sealed import Unpicklable, without_frames

#: The service name in the scope of a derived signature.
DERIVED_SERVICE = "iotdm"

# A region's shared endpoint, as in DerivedCredentials of huaweicloudsdkcore 3.1.219.
_SHARED_ENDPOINT = re.compile(
    r"[a-z][a-z0-9-]+(\.[a-z]{2,}-[a-z]+-\d{1,2})?\.(my)?(huaweicloud|myhwclouds)\.(com|cn)"
)


@dataclass(frozen=True)
class AccessKey(Unpicklable):
    """An access key, permanent or (with ``security_token``) temporary."""

    access_key: str
    secret_key: str = field(repr=False)
    security_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Scope:
    """How requests of a connection are signed.

    :param derived: True: ``V11-HMAC-SHA256``; False: ``SDK-HMAC-SHA256``
    :param region: the region in a derived signature's scope
    """

    derived: bool
    region: str | None = None

    @classmethod
    def of(cls, settings: ConnectionSettings) -> Scope:
        """Read ``derived_auth``; ``auto`` decides by the host name, as the SDK does.

        :raises IoTDAConfigError: a derived signature needs the region, and none is set
        """
        if settings.derived_auth == "auto":
            derived = not _SHARED_ENDPOINT.match(settings.host)
        else:
            derived = settings.derived_auth == "always"
        if derived and not settings.region:
            raise IoTDAConfigError(
                f"Connection {settings.conn_id!r}: requests to {settings.host} carry a derived "
                "signature, which needs the region: set region in Extra, such as cn-north-4 (or "
                "derived_auth to never)."
            )
        return cls(derived, settings.region)


_SIGNERS = ("huaweicloudsdkcore.signer.signer", "huaweicloudsdkcore.sdk_request")
_are_loaded = threading.Event()


def can_sign() -> bool:
    """Whether the vendor's signers are fully loaded; in ``sys.modules`` they appear earlier."""
    return _are_loaded.is_set()


def load_signers() -> None:
    """Import the vendor's signers, which takes a third of a second."""
    for module in _SIGNERS:
        importlib.import_module(module)
    _are_loaded.set()


def sign(outgoing: Outgoing, key: AccessKey, scope: Scope) -> Mapping[str, str]:
    """The headers of a request with its signature added.

    Every header without an underscore in its name is signed. If missing, ``X-Sdk-Date`` is set to
    the present time, and ``Host`` to the request's host.
    """
    with without_frames():  # frames of the vendor's signer hold the key
        return _sign(outgoing, key, scope)


def _sign(outgoing: Outgoing, key: AccessKey, scope: Scope) -> Mapping[str, str]:
    from huaweicloudsdkcore.sdk_request import SdkRequest
    from huaweicloudsdkcore.signer.signer import DerivationAKSKSigner, Signer

    headers = {name: value for name, value in outgoing.headers.items() if name != "Authorization"}
    if key.security_token:
        headers["X-Security-Token"] = key.security_token
    request = SdkRequest(
        method=outgoing.method,
        schema="https",
        host=outgoing.host,
        resource_path=outgoing.path,
        query_params=list(outgoing.query),
        header_params=headers,
        body=outgoing.body,
    )
    # In place of the SDK's credentials, whose import takes half a second and writes a file into the
    # user's home; a signer reads these two attributes only.
    credentials = SimpleNamespace(ak=key.access_key, sk=key.secret_key)
    if scope.derived:
        DerivationAKSKSigner(credentials).sign(request, DERIVED_SERVICE, scope.region)
    else:
        Signer(credentials).sign(request)
    return headers
