"""Temporary access keys: from the ECS metadata service, or for an OIDC provider's id token."""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from typing import Any

from iotda_provider.api.responses import Answer, parsed
from iotda_provider.auth.credential_requests import Issuer
from iotda_provider.auth.iam import checked_secret, iam_of, moment, senseless
from iotda_provider.auth.renewal import Issued
from iotda_provider.auth.signing import AccessKey
from iotda_provider.connection import regular_files
from iotda_provider.connection.settings import ConnectionSettings
from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.masking.airflow_masker import mask
from iotda_provider.masking.sealed import Sealed

_ACTION = "obtain temporary keys"
_JSON = {"Content-Type": "application/json;charset=UTF-8"}
_LIFETIME = 6 * 3600  # seconds, asked for: of the metadata service's token, and of IAM's keys
_LARGEST_ID_TOKEN = 16 * 1024
_ID_TOKEN = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


def keys_of_agency(settings: ConnectionSettings, deadline: float) -> Issued[AccessKey]:
    """The keys of the agency that is bound to the ECS instance.

    Source: "Obtaining Metadata" of the ECS user guide.

    :param deadline: when to give up, by ``time.monotonic()``
    :raises IoTDAAuthError: the instance has no agency
    :raises IoTDATransportError: nothing answers (as outside of an ECS instance), or the answer
        makes no sense
    """
    metadata = Issuer(
        settings,
        settings.metadata_endpoint,
        "the ECS metadata service",
        hint="Bind an agency that may use IoTDA to this ECS instance",
        field="metadata_endpoint",
        direct=True,
        deadline=deadline,
    )
    # 404 and 405: the metadata service of this instance needs no token.
    answer = metadata.ask(
        _ACTION,
        "PUT",
        "/meta-data/latest/api/token",
        headers=Sealed({"X-Metadata-Token-Ttl-Seconds": str(_LIFETIME)}),
        accept=(404, 405),
    )
    headers: Sealed[dict[str, str]] = Sealed({})
    if answer.status == 200:
        token = answer.body.decode("utf-8", "replace").strip()
        headers = Sealed({"X-Metadata-Token": checked_secret(token, "token")})
        del token
    return _keys_in(
        metadata.ask(
            _ACTION,
            "GET",
            "/openstack/latest/securitykey",
            headers=headers,
            secrets=Sealed([*headers.reveal().values()]),
        )
    )


def keys_of_federation(settings: ConnectionSettings, deadline: float) -> Issued[AccessKey]:
    """Keys for the id token of an OIDC provider; the token's file is read again each time.

    Source: "Obtaining a Token with an OpenID Connect ID Token" and "Obtaining Temporary Access
    Keys and Security Tokens" of the IAM API reference.

    :param deadline: when to give up, by ``time.monotonic()``
    :raises IoTDAConfigError: the file can't be read
    :raises IoTDAAuthError: IAM refuses the id token
    :raises IoTDATransportError: IAM does not answer, or its answer makes no sense
    """
    iam = iam_of(
        settings,
        deadline,
        "Check idp_id, and that id_token_file holds a token of that identity provider which has "
        "not expired",
    )
    id_token = Sealed(_id_token(str(settings.id_token_file)))
    mask(id_token.reveal())
    answer = iam.ask(
        _ACTION,
        "POST",
        "/v3.0/OS-AUTH/id-token/tokens",
        headers=Sealed({"X-Idp-Id": str(settings.idp_id), **_JSON}),
        body=Sealed(json.dumps({"auth": {"id_token": {"id": id_token.reveal()}}})),
        secrets=Sealed([id_token.reveal()]),
    )
    token = Sealed(checked_secret(answer.headers.get("x-subject-token"), "token"))
    return _keys_in(
        iam.ask(
            _ACTION,
            "POST",
            "/v3.0/OS-CREDENTIAL/securitytokens",
            headers=Sealed(_JSON),
            body=_body_with_token(token),
            secrets=Sealed([token.reveal()]),
        )
    )


def _body_with_token(token: Sealed[str]) -> Sealed[str]:
    identity = {
        "methods": ["token"],
        "token": {"id": token.reveal(), "duration_seconds": _LIFETIME},
    }
    return Sealed(json.dumps({"auth": {"identity": identity}}))


def _id_token(path: str) -> str:
    # The path may lead to any file, so neither an error nor its traceback holds the content.
    try:
        content = regular_files.read(path, _LARGEST_ID_TOKEN)
        reason = ""
    except OSError as error:
        reason = error.strerror or type(error).__name__
    except ValueError as error:  # also for a NUL in the path
        reason = str(error)
    if not reason:
        if found := _ID_TOKEN.fullmatch(content.strip()):
            return found[0].decode()
        reason = "it holds no id token, which has three parts of base64url with dots in between"
    content = b""
    raise IoTDAConfigError(f"Could not read id_token_file {path!r}: {reason}.")


def _keys_in(answer: Answer) -> Issued[AccessKey]:
    """The keys in an answer, with their lifetime."""
    try:
        keys: Sealed[Any] = Sealed(parsed(answer.body)["credential"])
        ends = moment(keys.reveal()["expires_at"])
        found = AccessKey(
            checked_secret(keys.reveal()["access"], "access key"),
            checked_secret(keys.reveal()["secret"], "secret key"),
            checked_secret(keys.reveal()["securitytoken"], "security token"),
        )
    except (ValueError, KeyError, TypeError):
        raise senseless("temporary key") from None
    return Issued(found, (ends - datetime.now(timezone.utc)).total_seconds())
