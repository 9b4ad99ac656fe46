"""Authenticates a connection's requests, by a signature or by a token."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from iotda_provider.auth.renewal import Issued, Renewing
from iotda_provider.auth.signing import AccessKey, Scope, can_sign, load_signers, sign

if TYPE_CHECKING:
    from iotda_provider.api import Outgoing
    from iotda_provider.auth.iam import Token
    from iotda_provider.connection.settings import ConnectionSettings
    from iotda_provider.transport.pipeline import Authenticator


class AccessKeyAuthenticator:
    """Signs with an access key: the connection's own, or a temporary one.

    :param obtain: obtains a temporary key; None: the connection holds the key
    """

    def __init__(
        self,
        settings: ConnectionSettings,
        obtain: Callable[[float], Issued[AccessKey]] | None = None,
    ) -> None:
        self._settings = settings
        self._scope = Scope.of(settings)
        self._can_renew = obtain is not None
        own = AccessKey(settings.login, settings.password, settings.security_token)
        where = f"The key of connection {settings.conn_id!r}"
        self._key = Renewing(obtain or (lambda deadline: Issued(own, None)), where)
        if obtain is None:
            self._key.renew()
        self._project: Renewing[str] | None = None
        if not settings.project_id and settings.may_ask_for_project:
            self._project = Renewing(self._find_project, "The project id")

    @property
    def project_id(self) -> str:
        return self._project.value if self._project else self._settings.require_project_id()

    @property
    def seconds_left(self) -> float | None:
        return self._key.seconds_left

    def is_ready(self, *, urgent: bool = False) -> bool:
        parts = (self._key, self._project)
        return can_sign() and all(part is None or part.is_fresh(urgent=urgent) for part in parts)

    def prepare(self) -> None:
        deadline = time.monotonic() + self._settings.timeout
        load_signers()
        self._key.renew(deadline)
        if self._project is not None:
            self._project.renew(deadline)

    def authenticate(self, outgoing: Outgoing) -> Mapping[str, str]:
        return sign(outgoing, self._key.value, self._scope)

    def rejected(self, sent: Mapping[str, str]) -> bool:
        if self._can_renew:
            token = _header(sent, "X-Security-Token")
            self._key.discard(lambda key: key.security_token == token)
        return self._can_renew

    def _find_project(self, deadline: float) -> Issued[str]:
        from iotda_provider.auth.iam import find_project

        # IAM accepts the plain signature only.
        return find_project(
            self._settings,
            lambda outgoing: sign(outgoing, self._key.value, Scope(derived=False)),
            deadline,
        )


class TokenAuthenticator:
    """Sends the IAM token of the connection's user."""

    def __init__(
        self,
        settings: ConnectionSettings,
        obtain: Callable[[ConnectionSettings, float], Issued[Token]],
    ) -> None:
        self._settings = settings
        where = f"The IAM token of connection {settings.conn_id!r}"
        self._token = Renewing(lambda deadline: obtain(settings, deadline), where)

    @property
    def project_id(self) -> str:
        # A token that was requested for a region's name tells the region's project.
        own = self._settings.project_id or self._token.value.project_id
        return own or self._settings.require_project_id()

    @property
    def seconds_left(self) -> float | None:
        return self._token.seconds_left

    def is_ready(self, *, urgent: bool = False) -> bool:
        return self._token.is_fresh(urgent=urgent)

    def prepare(self) -> None:
        self._token.renew(time.monotonic() + self._settings.timeout)

    def authenticate(self, outgoing: Outgoing) -> Mapping[str, str]:
        return {**outgoing.headers, "X-Auth-Token": self._token.value.text}

    def rejected(self, sent: Mapping[str, str]) -> bool:
        text = _header(sent, "X-Auth-Token")
        self._token.discard(lambda token: token.text == text)
        return True


def _header(headers: Mapping[str, str], name: str) -> str | None:
    return next((text for key, text in headers.items() if key.lower() == name.lower()), None)


def authenticator_for(settings: ConnectionSettings) -> Authenticator:
    """The authenticator for a connection; all users of equal settings in a process share one.

    :raises IoTDAConfigError: the connection lacks what its ``auth_type`` needs
    """
    key = _fingerprint(settings)
    with _shared_lock:
        found = _shared.get(key)
        if found is None:
            found = _shared[key] = _new(settings)
            if len(_shared) > _MOST_SHARED:
                _shared.popitem(last=False)
        _shared.move_to_end(key)
        return found


def _new(settings: ConnectionSettings) -> Authenticator:
    if settings.auth_type == "token":
        return TokenAuthenticator(settings, _token)
    if settings.auth_type in ("agency", "federation"):
        return AccessKeyAuthenticator(settings, lambda deadline: _keys(settings, deadline))
    return AccessKeyAuthenticator(settings)


# These imports take long: they happen in prepare(), which blocks, never on an event loop.


def _token(settings: ConnectionSettings, deadline: float) -> Issued[Token]:
    from iotda_provider.auth.iam import obtain_token

    return obtain_token(settings, deadline)


def _keys(settings: ConnectionSettings, deadline: float) -> Issued[AccessKey]:
    from iotda_provider.auth import temporary_keys

    if settings.auth_type == "agency":
        return temporary_keys.keys_of_agency(settings, deadline)
    return temporary_keys.keys_of_federation(settings, deadline)


# The oldest are dropped: a connection that was edited leaves an authenticator behind.
_MOST_SHARED = 256
_shared: OrderedDict[bytes, Authenticator] = OrderedDict()
_shared_lock = threading.Lock()
_salt = os.urandom(16)


def _fingerprint(settings: ConnectionSettings) -> bytes:
    """A hash that tells connections apart and reveals no secret."""
    facts = sorted(vars(settings).items())
    return hashlib.blake2b(repr(facts).encode(), key=_salt).digest()


def _forget() -> None:
    """Start anew in a forked process: the threads that hold locks do not exist there."""
    global _shared_lock
    _shared_lock = threading.Lock()
    _shared.clear()


os.register_at_fork(after_in_child=_forget)
