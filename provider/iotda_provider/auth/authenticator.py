"""Who signs a connection's requests, and with what: the one interface that both transports use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from iotda_provider.auth.signing import AccessKey, Scope, sign
from iotda_provider.exceptions import IoTDAConfigError

if TYPE_CHECKING:
    from iotda_provider.api import Outgoing
    from iotda_provider.settings import ConnectionSettings


class Authenticator(Protocol):
    """Turns a request's headers into those of an authenticated request.

    Only :meth:`prepare` does I/O, and it blocks: a transport calls it where :meth:`is_ready` says
    no, before it reads ``project_id`` or calls :meth:`authenticate`; on an event loop in a thread.
    All methods may be called from several threads at once.
    """

    @property
    def project_id(self) -> str:
        """The project that requests are for.

        :raises IoTDAConfigError: it is not known
        """

    def is_ready(self) -> bool:
        """Whether the credentials are at hand and will last for one request."""

    def prepare(self) -> None:
        """Obtain or renew the credentials, unless another caller just did; blocks.

        :raises IoTDAAuthError: whoever issues them refuses
        :raises IoTDATransportError: whoever issues them can't be reached (``sent`` is False: the
            request that needed them has not been sent)
        :raises IoTDAConfigError: the connection lacks something, such as the id token's file
        """

    def authenticate(self, outgoing: Outgoing) -> Mapping[str, str]:
        """The request's headers with those of the authentication added."""

    def rejected(self, sent: Mapping[str, str]) -> bool:
        """Take note of a 401, and whether the same request may succeed with other credentials.

        Where it may, the credentials it was sent with are not used again: :meth:`is_ready` is then
        False until they are renewed. A transport tries again once for each call.

        :param sent: the headers that :meth:`authenticate` made for it
        """


class AccessKeyAuthenticator:
    """Signs with the access key that stands in the connection."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings = settings
        self._key = AccessKey(settings.login, settings.password, settings.security_token)
        self._scope = Scope.of(settings)

    @property
    def project_id(self) -> str:
        return self._settings.require_project_id()

    def is_ready(self) -> bool:
        return True

    def prepare(self) -> None:
        """The connection holds all that is needed."""

    def authenticate(self, outgoing: Outgoing) -> Mapping[str, str]:
        return sign(outgoing, self._key, self._scope)

    def rejected(self, sent: Mapping[str, str]) -> bool:
        return False


def authenticator_for(settings: ConnectionSettings) -> Authenticator:
    """The authenticator for a connection's ``auth_type``; one for all that share the connection.

    :raises IoTDAConfigError: the connection lacks what its ``auth_type`` needs
    """
    if settings.auth_type != "aksk":
        raise IoTDAConfigError(
            f"Connection {settings.conn_id!r}: auth_type {settings.auth_type!r} is not supported "
            "yet; use aksk."
        )
    return AccessKeyAuthenticator(settings)
