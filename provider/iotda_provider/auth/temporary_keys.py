"""Temporary access keys: from the ECS metadata service, and for the token of an OIDC provider."""

from __future__ import annotations

import calendar
import json
import re
import time
from typing import TYPE_CHECKING, Any

from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.auth.internal import Credential, FederalAccessor, StsAccessor
from huaweicloudsdkcore.exceptions.exceptions import SdkException
from huaweicloudsdkcore.http.http_config import HttpConfig

from iotda_provider import regular_files
from iotda_provider.answers import Answer
from iotda_provider.auth.iam import checked_secret, iam_of, senseless
from iotda_provider.auth.issuer import Issuer
from iotda_provider.auth.renewing import Issued
from iotda_provider.auth.signing import AccessKey
from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.masking import mask
from iotda_provider.sealed import Sealed

if TYPE_CHECKING:
    from huaweicloudsdkcore.sdk_request import SdkRequest

    from iotda_provider.settings import ConnectionSettings

_TOKEN_TTL = 6 * 3600
_LARGEST_ID_TOKEN = 16 * 1024
# What the SDK raises at an answer that holds no key.
_NO_KEY = (
    SdkException,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)
_ID_TOKEN = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


class _SdkAnswer:
    """What the SDK reads of an answer."""

    def __init__(self, answer: Answer) -> None:
        self.content = _text(answer)
        self.headers = (
            {"X-Subject-Token": answer.headers["x-subject-token"]}
            if "x-subject-token" in answer.headers
            else {}
        )


class _SdkClient:
    """The SDK's requests to IAM in our own way: no redirects, our timeouts, secrets masked."""

    def __init__(self, iam: Issuer) -> None:
        self._iam = iam
        self.config = HttpConfig()

    def do_request_sync(self, request: SdkRequest) -> _SdkAnswer:
        """Send one of the two requests that an exchange of an id token takes."""
        secrets = Sealed(_secrets(json.loads(request.body)))
        mask(*secrets.reveal())
        answer = self._iam.ask(
            "obtain temporary keys",
            request.method,
            request.uri,
            headers=Sealed(request.header_params),
            body=Sealed(request.body),
            secrets=secrets,
        )
        if "x-subject-token" in answer.headers:
            checked_secret(answer.headers["x-subject-token"], "token")
        return _SdkAnswer(answer)


def _secrets(body: Any) -> list[str]:
    """Every text under a key ``id``: the body holds tokens there, and nothing else."""
    if not isinstance(body, dict):
        return []
    own = [body["id"]] if isinstance(body.get("id"), str) else []
    return own + [secret for value in body.values() for secret in _secrets(value)]


def _text(answer: Answer) -> str:
    # Whatever is not UTF-8 is no JSON either, and then said to make no sense.
    return answer.body.decode("utf-8", "replace")


class _FederalAccessor(FederalAccessor):  # type: ignore[misc]
    """The SDK's own, which reads an id token's file only, and no other that a connection names."""

    @classmethod
    def _get_content(cls, path: str) -> str:
        # Nothing of the file is quoted, nor kept in an error's traceback: it may be any file.
        try:
            content = regular_files.read(path, _LARGEST_ID_TOKEN)
            reason = ""
        except OSError as error:
            reason = error.strerror or type(error).__name__
        except ValueError as error:  # among them a NUL in the path
            reason = str(error)
        if not reason:
            if found := _ID_TOKEN.fullmatch(content.strip()):
                return found[0].decode()
            reason = "it holds no id token, which has three parts of base64url with dots in between"
        content = b""
        raise IoTDAConfigError(f"Could not read id_token_file {path!r}: {reason}.")


class _MetadataAccessor(StsAccessor):  # type: ignore[misc]
    """The keys of the agency that is bound to the ECS instance.

    In place of the SDK's own accessor, which follows redirects and uses the environment's proxies:
    either would carry the instance's keys elsewhere.
    """

    def __init__(self, settings: ConnectionSettings, deadline: float) -> None:
        self._metadata = Issuer(
            settings,
            settings.metadata_endpoint,
            "the ECS metadata service",
            hint="Bind an agency that may use IoTDA to this ECS instance",
            field="metadata_endpoint",
            direct=True,
            deadline=deadline,
        )

    def get_credential(self, *args: object, **kwargs: object) -> Credential:
        action = "obtain temporary keys"
        # 404 and 405: an instance whose metadata service knows no tokens, and needs none.
        answer = self._metadata.ask(
            action,
            "PUT",
            "/meta-data/latest/api/token",
            headers=Sealed({"X-Metadata-Token-Ttl-Seconds": str(_TOKEN_TTL)}),
            accept=(404, 405),
        )
        headers: Sealed[dict[str, str]] = Sealed({})
        if answer.status == 200:
            headers = Sealed({"X-Metadata-Token": checked_secret(_text(answer).strip(), "token")})
        answer = self._metadata.ask(
            action,
            "GET",
            "/openstack/latest/securitykey",
            headers=headers,
            secrets=Sealed([*headers.reveal().values()]),
        )
        return self._process_credential(_text(answer))


class TemporaryKeys(BasicCredentials):  # type: ignore[misc]
    """The SDK's credentials of one connection, which obtain its keys.

    :param settings: of a connection whose ``auth_type`` is ``agency`` or ``federation``
    :param deadline: when to give up, by ``time.monotonic()``
    """

    def __init__(self, settings: ConnectionSettings, deadline: float) -> None:
        super().__init__()
        self._client: _SdkClient | None = None
        if settings.auth_type == "agency":
            self.sts_accessor = _MetadataAccessor(settings, deadline)
            return
        iam = iam_of(
            settings,
            deadline,
            "Check idp_id, and that id_token_file holds a token of that identity provider which "
            "has not expired",
        )
        self._client = _SdkClient(iam)
        self.sts_accessor = _FederalAccessor()
        self.with_iam_endpoint(iam.endpoint)
        self.with_idp_id(settings.idp_id).with_id_token_file(settings.id_token_file)

    # Made anew for each exchange. The SDK itself would refresh 40 minutes before the end: keys that
    # live for less at every request, and those that were refused before it never.
    def refresh(self) -> Issued[AccessKey]:
        """Obtain new ones; the id token's file is read anew.

        :raises IoTDAConfigError: the file can't be read
        :raises IoTDAAuthError: the instance has no agency, or IAM refuses the id token
        :raises IoTDATransportError: nothing answers, as the metadata service outside of an ECS
            instance
        """
        try:
            self.process_sts(self._client)
            lifetime = _lifetime(self._expire_at)
        except _NO_KEY:
            raise senseless("temporary key") from None
        return Issued(
            AccessKey(
                checked_secret(self.ak, "access key"),
                checked_secret(self.sk, "secret key"),
                checked_secret(self.security_token, "security token"),
            ),
            lifetime,
        )


def _lifetime(expire_at: float) -> float:
    # The SDK reads a time in UTC as if it were local: this undoes it.
    return calendar.timegm(time.localtime(expire_at)) - time.time()
