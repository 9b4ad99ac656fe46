"""Who callers are and what they may do: keys, tokens, agencies and federated identities.

Stands for IAM and the ECS metadata service; knows no HTTP. Lifetimes are in real seconds, as
the dates in signatures are.
"""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import AfterValidator

from iotda_provider.emulator.common import errors
from iotda_provider.emulator.common.errors import ApiError
from iotda_provider.emulator.common.field_types import Many, Seconds
from iotda_provider.emulator.common.strict_model import StrictModel
from iotda_provider.emulator.identity.signatures import (
    BASIC,
    Key,
    SentRequest,
    Verifier,
    refuse_duplicates,
)

# The most tokens, and the most keys, that are known at a time: the oldest is forgotten first.
_MOST_GRANTS = 1000
_ACCESS = re.compile(r"(?:Access|Credential)=([^,/\s]+)")
#: The IAM action that each call needs, by the name of its route.
ACTIONS = {
    "list_batch_tasks": "iotda:batchtasks:queryList",
    "create_batch_task": "iotda:batchtasks:create",
    "show_batch_task": "iotda:batchtasks:query",
    "delete_batch_task": "iotda:batchtasks:delete",
    "stop_batch_task": "iotda:batchtasks:stop",
    "retry_batch_task": "iotda:batchtasks:retry",
    "confirm_batch_task": "iotda:batchtasks:confirm",
    "list_devices": "iotda:devices:queryList",
    "show_device": "iotda:devices:query",
    "delete_device": "iotda:devices:delete",
    "list_device_groups_by_device": "iotda:devices:queryGroupList",
    "search_devices": "iotda:devices:search",
    "list_device_groups": "iotda:group:queryList",
    "show_device_group": "iotda:group:query",
    "show_devices_in_group": "iotda:group:query",
    "add_device_group": "iotda:group:create",
    "update_device_group": "iotda:group:update",
    "delete_device_group": "iotda:group:delete",
    "create_or_delete_device_in_group": "iotda:group:update",
    "list_ota_package_info": "iotda:otapackages:queryList",
    "show_ota_package": "iotda:otapackages:query",
    "create_ota_package": "iotda:otapackages:create",
    "delete_ota_package": "iotda:otapackages:delete",
}


def matching_a_call(pattern: str) -> str:
    """The same pattern of names of calls.

    :raises ValueError: it matches no call
    """
    if not any(fnmatchcase(call, pattern) for call in ACTIONS):
        raise ValueError(f"matches no call: {pattern!r}; the calls are {', '.join(ACTIONS)}")
    return pattern


def _needed(action: str) -> str:
    if action not in ACTIONS.values():
        every = ", ".join(sorted(set(ACTIONS.values())))
        raise ValueError(f"is needed by no call: {action!r}; the actions are {every}")
    return action


_Action = Annotated[str, AfterValidator(_needed)]


class IamSettings(StrictModel):
    """The one user, agency and identity provider that there are.

    :param token_lifetime: seconds that a token is valid (IAM's own: 24 hours)
    :param key_lifetime: seconds that a temporary key is valid at most
    :param agency: whether an agency is bound to the ECS instance
    :param metadata_token: whether the metadata service requires its own token
    :param denied: IAM actions that nobody may use, such as ``iotda:batchtasks:stop``
    """

    user: str = "emulator-user"
    password: str = "emulator-password"  # noqa: S105 - nobody's
    domain: str = "emulator-domain"
    region: str = "cn-north-4"
    idp_id: str = "emulator-idp"
    id_token: str = "emulator.id.token"  # noqa: S105 - nobody's
    agency: bool = True
    metadata_token: bool = True
    token_lifetime: Seconds = 24 * 3600.0
    key_lifetime: Seconds = 6 * 3600.0
    denied: Many[_Action] = ()


@dataclass(frozen=True)
class Grant:
    """A token or a temporary key that was issued.

    :param expires_at: real seconds since 1970
    :param project_id: None: the token is unscoped
    """

    expires_at: float
    issued_at: float
    project_id: str | None = None
    key: Key | None = None


class Iam:
    """Issues tokens and temporary keys, and identifies callers by them.

    :param key: the permanent key
    :param project_id: the account's only project
    :param kind: the kind of signature that calls of IoTDA must carry, or ``any``
    :param signed_region: the region that a derived signature must name; None: any
    """

    def __init__(
        self,
        settings: IamSettings,
        key: Key,
        project_id: str,
        kind: str = "any",
        signed_region: str | None = None,
    ) -> None:
        self.settings = settings
        self.project_id = project_id
        self.denied = set(settings.denied)
        #: How often a ``token``, ``agency_key``, ``federated_key`` or ``projects`` was issued.
        self.given: Counter[str] = Counter()
        self._permanent = key
        self._kind = kind
        self._signed_region = signed_region
        self._tokens: dict[str, Grant] = {}
        self._metadata_tokens: dict[str, Grant] = {}
        self._keys: dict[str, Grant] = {}
        self._lock = threading.Lock()

    def expire_everything(self) -> None:
        """Every token and key issued until now is invalid from now on; later ones are valid."""
        with self._lock:
            for grants in (self._tokens, self._metadata_tokens, self._keys):
                for name, grant in grants.items():
                    grants[name] = replace(grant, expires_at=float("-inf"))

    def given_secrets(self) -> set[str]:
        """Every secret issued (the latest thousand of each kind), for tests that look for leaks."""
        with self._lock:
            keys = [grant.key for grant in self._keys.values() if grant.key is not None]
            tokens = {*self._tokens, *self._metadata_tokens}
        return tokens | {key.secret for key in keys} | {key.security_token or "" for key in keys}

    # --- issuing ---------------------------------------------------------------------------------

    def token_for_user(
        self, user: object, password: object, domain: object, project: object
    ) -> tuple[str, Grant]:
        """A token for a user and a project, given as ``{"id": ...}`` or ``{"name": region}``.

        :raises IamError: there is no such user or project, or the password is wrong
        """
        own = self.settings
        if (user, password, domain) != (own.user, own.password, own.domain):
            raise IamError(401, "The username or password is wrong.")
        if project not in ({"id": self.project_id}, {"name": own.region}):
            raise IamError(404, "Could not find the project.")
        self.given["token"] += 1
        return self._token(self.project_id)

    def token_for_identity(self, idp_id: object, id_token: object) -> tuple[str, Grant]:
        """An unscoped token for an identity provider's id token.

        :raises IamError: the provider is not known, or the token is not its own
        """
        if (idp_id, id_token) != (self.settings.idp_id, self.settings.id_token):
            raise IamError(401, "The id token is invalid or has expired.")
        return self._token(None)

    def _token(self, project_id: str | None) -> tuple[str, Grant]:
        now = time.time()
        text = secrets.token_urlsafe(48)
        grant = Grant(now + self.settings.token_lifetime, now, project_id)
        self._keep(self._tokens, text, grant)
        return text, grant

    def key_for_token(self, token: object, seconds: object) -> Grant:
        """A temporary key for a federated identity's token.

        :raises IamError: the token is not valid
        """
        known = self._tokens.get(token) if isinstance(token, str) else None
        if known is None or known.expires_at <= time.time():
            raise IamError(401, "The token must be updated.")
        wanted = 900 if seconds is None else seconds
        if type(wanted) is not int or not 900 <= wanted <= 86_400:
            raise IamError(400, "duration_seconds must be a whole number from 900 to 86400.")
        self.given["federated_key"] += 1
        return self._key(min(wanted, self.settings.key_lifetime))

    def metadata_token(self, seconds: float) -> str:
        """A token of the metadata service."""
        text = secrets.token_urlsafe(24)
        grant = Grant(time.time() + seconds, time.time())
        self._keep(self._metadata_tokens, text, grant)
        return text

    def key_for_agency(self, metadata_token: str | None) -> Grant:
        """A temporary key of the agency that is bound to the instance.

        :raises IamError: no agency is bound, or the metadata service's token is not valid
        """
        if not self.settings.agency:
            raise IamError(401, "Please configure Cloud Service Agency first")
        if self.settings.metadata_token:
            known = self._metadata_tokens.get(metadata_token or "")
            if known is None or known.expires_at <= time.time():
                raise IamError(401, "The metadata token is missing or has expired.")
        self.given["agency_key"] += 1
        return self._key(self.settings.key_lifetime)

    def _key(self, seconds: float) -> Grant:
        now = time.time()
        key = Key("HST" + secrets.token_hex(9).upper(), secrets.token_urlsafe(30), _long_token())
        grant = Grant(now + seconds, now, self.project_id, key)
        self._keep(self._keys, key.access, grant)
        return grant

    def _keep(self, grants: dict[str, Grant], name: str, grant: Grant) -> None:
        with self._lock:
            if len(grants) >= _MOST_GRANTS:
                del grants[next(iter(grants))]
            grants[name] = grant

    # --- identifying -----------------------------------------------------------------------------

    def knows(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether a request names a known key or token; its signature is not checked."""
        names = dict(headers)
        if (token := names.get(b"x-auth-token")) is not None:
            return token.decode("latin-1") in self._tokens
        access = access_of(names.get(b"authorization", b"").decode("latin-1"))
        return access is not None and (access == self._permanent.access or access in self._keys)

    def verify(self, request: SentRequest, now: float) -> Key:
        """The key of the caller of IoTDA, by token or signature; a token's key has no secret.

        :param now: the present as the gateway's clock has it
        :raises ApiError: 401 if the caller cannot be identified
        """
        verifier = Verifier(self._good_keys(), self._kind, self._signed_region)
        return self._recognise(verifier, request, now)

    def permit(self, call: str) -> None:
        """Check that an identified caller may make a call, by the call's name.

        :raises ApiError: 403, nobody has the permission
        """
        if ACTIONS.get(call) in self.denied:
            raise ApiError(
                403, "IOTDA.000022", "Operation not allowed. The user does not have the permission."
            )

    def verify_own(self, request: SentRequest) -> Key:
        """The key of the caller of IAM itself.

        :raises ApiError: 401
        """
        return self._recognise(Verifier(self._good_keys(), BASIC), request, time.time())

    def _good_keys(self) -> list[Key]:
        with self._lock:
            grants = list(self._keys.values())
        return [self._permanent, *(grant.key for grant in grants if grant.key is not None)]

    def _recognise(self, verifier: Verifier, request: SentRequest, now: float) -> Key:
        refuse_duplicates(request.headers, (b"authorization", b"x-auth-token"))
        names = {name: value.decode("latin-1") for name, value in request.headers}
        token = names.get(b"x-auth-token")
        if token is not None:
            return self._by_token(token, now)
        grant = self._keys.get(access_of(names.get(b"authorization", "")) or "")
        if grant is not None and grant.expires_at <= now:
            raise errors.unauthenticated("the security token has expired")
        return verifier.verify(request, now)

    def _by_token(self, token: str, now: float) -> Key:
        grant = self._tokens.get(token)
        if grant is None:
            raise errors.unauthenticated("decrypt token fail")
        if grant.expires_at <= now:
            raise errors.unauthenticated("token expires")
        if grant.project_id is None:
            raise errors.unauthenticated("the token is not for a project")
        return Key(self.settings.user, "")


class IamError(Exception):
    """What IAM refuses: HTTP status and text."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def access_of(authorization: str) -> str | None:
    """The access key that the header of a signed request names."""
    access = _ACCESS.search(authorization)
    return access and access[1]


def _long_token() -> str:
    # As long as real tokens, so that a client that truncates them fails.
    return secrets.token_urlsafe(300)
