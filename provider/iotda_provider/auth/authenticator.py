"""Who signs a connection's requests, and with what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from iotda_provider.auth.signing import AccessKey, Scope, sign
from iotda_provider.exceptions import IoTDAConfigError

if TYPE_CHECKING:
    from iotda_provider.api import Outgoing
    from iotda_provider.settings import ConnectionSettings


class Authenticator(Protocol):
    """Turns a request's headers into those of an authenticated request, without I/O."""

    def authenticate(self, outgoing: Outgoing) -> Mapping[str, str]:
        """The request's headers with those of the authentication added."""


class AccessKeyAuthenticator:
    """Signs with the access key that stands in the connection."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self._key = AccessKey(settings.login, settings.password, settings.security_token)
        self._scope = Scope.of(settings)

    def authenticate(self, outgoing: Outgoing) -> Mapping[str, str]:
        return sign(outgoing, self._key, self._scope)


def authenticator_for(settings: ConnectionSettings) -> Authenticator:
    """The authenticator for a connection's ``auth_type``.

    :raises IoTDAConfigError: the connection lacks what its ``auth_type`` needs
    """
    if settings.auth_type != "aksk":
        raise IoTDAConfigError(
            f"Connection {settings.conn_id!r}: auth_type {settings.auth_type!r} is not supported "
            "yet; use aksk."
        )
    return AccessKeyAuthenticator(settings)
