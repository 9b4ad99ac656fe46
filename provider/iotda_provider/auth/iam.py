"""Requests to IAM: tokens for a user and password, and the project of a region."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote

from iotda_provider.api import Outgoing
from iotda_provider.api.responses import parsed
from iotda_provider.auth.credential_requests import Issuer
from iotda_provider.auth.renewal import Issued
from iotda_provider.connection.settings import ConnectionSettings
from iotda_provider.exceptions import IoTDAConfigError, IoTDATransportError
from iotda_provider.masking.airflow_masker import mask
from iotda_provider.masking.redaction import secrets_of
from iotda_provider.masking.sealed import Sealed, Unpicklable
from iotda_provider.models.text import one_line

#: A token's lifetime if IAM does not say: 24 hours, as documented.
_TOKEN_SECONDS = 24 * 3600.0

_HINT = (
    "Check the connection's Login (an IAM user, not the account), Password, domain_name (the "
    "account's name) and project_id (or region), and whether the user may use programmatic access"
)


def iam_of(settings: ConnectionSettings, deadline: float, hint: str = _HINT) -> Issuer:
    """IAM at the connection's ``iam_endpoint``, or at its region's."""
    return Issuer(settings, settings.iam_url, "IAM", hint=hint, deadline=deadline)


@dataclass(frozen=True)
class Token(Unpicklable):
    """An IAM token and the project it is for."""

    text: str = field(repr=False)
    project_id: str | None = None


def obtain_token(settings: ConnectionSettings, deadline: float) -> Issued[Token]:
    """A token for the connection's user and project.

    Source: "Obtaining a User Token Through Password Authentication" of the IAM API reference.

    :param deadline: when to give up, by ``time.monotonic()``
    :raises IoTDAAuthError: IAM refuses the user
    :raises IoTDATransportError: IAM does not answer, or its answer makes no sense
    """
    answer = iam_of(settings, deadline).ask(
        "obtain a token",
        "POST",
        "/v3/auth/tokens?nocatalog=true",
        headers=Sealed({"Content-Type": "application/json;charset=utf8"}),
        body=_password_body(settings),
        secrets=Sealed([settings.password]),
    )
    token = Sealed(checked_secret(answer.headers.get("x-subject-token"), "token"))
    try:
        facts = parsed(answer.body)["token"]
        lifetime = _lifetime(facts)
        project_id = (facts.get("project") or {}).get("id")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise senseless("token") from None
    return Issued(
        Token(token.reveal(), project_id if _is_project_id(project_id) else None), lifetime
    )


def _password_body(settings: ConnectionSettings) -> Sealed[str]:
    user = {
        "name": settings.login,
        "password": settings.password,
        "domain": {"name": settings.domain_name},
    }
    project = {"id": settings.project_id} if settings.project_id else {"name": settings.region}
    body = {
        "auth": {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": project},
        }
    }
    return Sealed(json.dumps(body))


def _lifetime(facts: Mapping[str, Any]) -> float:
    """The token's lifetime in seconds, by IAM's own clock: the local one may be wrong."""
    if not facts.get("expires_at"):
        return _TOKEN_SECONDS
    issued = facts.get("issued_at")
    start = moment(issued) if issued else datetime.now(timezone.utc)
    return (moment(facts["expires_at"]) - start).total_seconds()


def moment(text: str) -> datetime:
    """Parse a time of IAM, such as ``2026-11-28T10:00:00.000000Z``.

    :raises ValueError: the text is no such time
    """
    # Python 3.10 reads neither Z nor all lengths of fractions.
    whole = re.fullmatch(r"([0-9-]{10}T[0-9:]{8})(?:\.[0-9]+)?Z", text)
    if whole is None:
        raise ValueError("not a time of IAM")
    return datetime.fromisoformat(whole[1]).replace(tzinfo=timezone.utc)


def find_project(
    settings: ConnectionSettings,
    sign: Callable[[Outgoing], Mapping[str, str]],
    deadline: float,
) -> Issued[str]:
    """The project of the connection's region, as IAM lists it for the signing key.

    Source: "Querying Project Information" of the IAM API reference.

    :param deadline: when to give up, by ``time.monotonic()``
    :raises IoTDAConfigError: IAM lists no project, or several
    """
    hint = "Check the connection's access key and secret key, or set project_id"
    iam = iam_of(settings, deadline, hint)
    path, query = "/v3/projects", (("name", settings.region or ""),)
    outgoing = Outgoing("GET", iam.host, path, query, {"Content-Type": "application/json"})
    headers = Sealed(sign(outgoing))
    answer = iam.ask(
        "find the project",
        "GET",
        f"{path}?name={quote(settings.region or '', safe='~')}",
        headers=headers,
        secrets=Sealed(secrets_of(headers.reveal())),
    )
    try:
        found = [project["id"] for project in parsed(answer.body)["projects"]]
    except (ValueError, KeyError, TypeError):
        found = [None]
    if not all(isinstance(project, str) for project in found):
        raise senseless("list of projects")
    if len(found) != 1 or not _is_project_id(found[0]):
        listed = one_line(", ".join(found), 200) or "none"
        raise IoTDAConfigError(
            f"No project id: IAM lists {len(found)} projects for region {settings.region!r} "
            f"({listed}). Set project_id in the Extra of connection {settings.conn_id!r}."
        )
    return Issued(found[0], None)


def _is_project_id(value: object) -> bool:
    """Whether it is safe in a path and in a header."""
    return isinstance(value, str) and bool(re.fullmatch(r"[A-Za-z0-9_-]{1,128}", value))


def checked_secret(value: object, what: str) -> str:
    """Check a secret from an answer; Airflow's masker learns it.

    :raises IoTDATransportError: it is missing, or not allowed in a header
    """
    if not isinstance(value, str) or not re.fullmatch(r"[\x21-\x7e]{1,16384}", value):
        raise senseless(what)
    mask(value)
    return value


def senseless(what: str) -> IoTDATransportError:
    """The error for an answer that lacks what it should hold; it quotes nothing of the answer."""
    return IoTDATransportError(
        f"The answer that should hold a {what} makes no sense. A proxy or a wrong endpoint may be "
        "answering.",
        sent=False,
    )
