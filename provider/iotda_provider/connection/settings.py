"""An Airflow connection as checked settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from iotda_provider.connection.addresses import check_url, is_ipv6, is_loopback
from iotda_provider.connection.extra import (
    LONGEST_EXTRA,
    read_extra,
    set_attempt_timeout,
    wrong_field,
)
from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.masking.sealed import Unpicklable
from iotda_provider.models.text import what_is

_IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{1,128}")
_REGION = re.compile(r"[a-z0-9-]{1,64}")
_PATTERNS = {"region": _REGION, "project_id": _IDENTIFIER, "instance_id": _IDENTIFIER}
_LABELS = {"region": "region", "project_id": "project id", "instance_id": "instance id"}
_CONN_TYPE = re.compile(r"[a-z][a-z0-9_-]{0,40}")
#: The only type of connection that is read.
CONN_TYPE = "iotda"
_METADATA = "http://169.254.169.254"


class ConnectionLike(Protocol):
    """The attributes of an Airflow connection that are read, in every version of Airflow."""

    conn_type: str | None
    host: str | None
    login: str | None
    password: str | None
    schema: str | None
    port: int | None
    extra: str | None


@dataclass(frozen=True)
class ConnectionSettings(Unpicklable):
    """What a hook needs to know of its connection; the repr shows no secret.

    ``base_url`` is scheme, host and port without a trailing slash. ``timeout``, in seconds, covers
    a call with its retries; obtaining credentials may take as long again. ``attempt_timeout``, in
    seconds, covers one attempt, or one request that obtains credentials.
    """

    conn_id: str
    base_url: str
    region: str | None = None
    project_id: str | None = None
    instance_id: str | None = None
    auth_type: str = "aksk"
    login: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    security_token: str | None = field(default=None, repr=False)
    domain_name: str | None = None
    iam_endpoint: str | None = None
    idp_id: str | None = None
    id_token_file: str | None = None
    metadata_endpoint: str = _METADATA
    derived_auth: str = "auto"
    verify: bool | str = True
    timeout: float = 30.0
    attempt_timeout: float = 10.0
    max_attempts: int = 4
    max_requests_per_second: float | None = None
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    allow_http: bool = False

    @property
    def host(self) -> str:
        """Host and port, as in the ``Host`` header."""
        return self.base_url.split("://", 1)[1]

    @property
    def iam_url(self) -> str:
        """Scheme, host and port of IAM; the user's password is sent nowhere else.

        :raises IoTDAConfigError: neither iam_endpoint nor region is set
        """
        if self.iam_endpoint:
            return self.iam_endpoint
        if not self.region:
            raise IoTDAConfigError(
                f"Connection {self.conn_id!r}: set region (or iam_endpoint) in Extra, so that IAM "
                "can be found."
            )
        return f"https://iam.{self.region}.myhuaweicloud.com"

    @property
    def may_ask_for_project(self) -> bool:
        """Whether IAM is asked for the region's project: only an IAM that the connection names."""
        return bool(self.region and self.iam_endpoint)

    def require_project_id(self) -> str:
        """The project id.

        :raises IoTDAConfigError: neither the connection nor the operator names one
        """
        if not self.project_id:
            raise IoTDAConfigError(
                f"No project id: set project_id in the Extra of connection {self.conn_id!r}, or "
                "pass project_id to the operator (console: My Credentials, API Credentials)."
            )
        return self.project_id

    @classmethod
    def from_connection(
        cls,
        connection: ConnectionLike,
        *,
        conn_id: str,
        project_id: str | None = None,
        region: str | None = None,
        instance_id: str | None = None,
    ) -> ConnectionSettings:
        """Parse and check a connection; ``project_id``, ``region`` and ``instance_id`` replace
        the fields of Extra.

        :param conn_id: its id, for errors
        :raises IoTDAConfigError: a field is unknown, ill-typed or missing; names the field
        """
        _check_lengths(connection, conn_id)
        extra = read_extra(connection.extra, conn_id)
        overrides = {"project_id": project_id, "region": region, "instance_id": instance_id}
        for name, pattern in _PATTERNS.items():
            value = extra.get(name)
            if overrides[name] is not None and overrides[name] != "":
                extra[name] = _check_override(overrides[name], name)
            elif value is not None and not (isinstance(value, str) and pattern.fullmatch(value)):
                raise wrong_field(conn_id, name, f"is not a valid {_LABELS[name]}", value)
        set_attempt_timeout(extra, conn_id)
        base_url = _base_url(connection, extra, conn_id)
        login, password = connection.login or "", connection.password or ""
        _check_credentials(extra, login, password, conn_id)
        return cls(conn_id=conn_id, base_url=base_url, login=login, password=password, **extra)


def check_conn_type(connection: ConnectionLike, conn_id: str) -> None:
    """Refuse a connection of another type, before its fields are read.

    :raises IoTDAConfigError: its type is not ``iotda``
    """
    found = connection.conn_type
    if found != CONN_TYPE:
        known = isinstance(found, str) and _CONN_TYPE.fullmatch(found)
        raise IoTDAConfigError(
            f"Connection {conn_id!r} is {f'of type {found!r}' if known else 'of no known type'}, "
            f"not of type {CONN_TYPE!r}: nothing of it was read. Name another one in "
            f"iotda_conn_id, or set its Connection Type (conn_type) to {CONN_TYPE!r}."
        )


def _check_override(value: object, name: str) -> str:
    """Check a parameter that replaces the connection's field of the same name."""
    if not isinstance(value, str) or not _PATTERNS[name].fullmatch(value):
        raise IoTDAConfigError(f"{name} is not a valid {_LABELS[name]}; got {what_is(value)}.")
    return value


def _check_lengths(connection: ConnectionLike, conn_id: str) -> None:
    """Refuse a field that is longer than any valid one, before it is parsed."""
    for name, text, most in (
        ("Host", connection.host, 300),
        ("Schema", connection.schema, 100),
        ("Login", connection.login, 16_384),
        ("Password", connection.password, 16_384),
        ("Extra", connection.extra, LONGEST_EXTRA),
    ):
        if text and len(text) > most:
            raise IoTDAConfigError(
                f"Connection {conn_id!r}: {name} has {len(text):,} characters; at most {most:,} "
                "are allowed."
            )


def _base_url(connection: ConnectionLike, extra: Mapping[str, Any], conn_id: str) -> str:
    host = (connection.host or "").strip()
    if not host:
        if not extra.get("region"):
            raise IoTDAConfigError(
                f"Connection {conn_id!r} has no Host: set it to the instance's endpoint (console: "
                "Overview, Access Details), or set region in Extra to use the region's shared "
                "endpoint."
            )
        host = f"iotda.{extra['region']}.myhuaweicloud.com"
    if is_ipv6(host):  # Airflow drops the brackets when it reads a URI
        host = f"[{host}]"
    if "://" not in host:
        scheme = (connection.schema or "https").strip().lower()
        host = f"{scheme}://{host}"
    url = check_url(host, f"Host of connection {conn_id!r}", allow_http=extra["allow_http"])
    if (port := _port(connection.port, conn_id)) is not None:
        if urlsplit(url).port not in (None, port):
            raise IoTDAConfigError(
                f"Connection {conn_id!r}: Host names port {urlsplit(url).port}, Port says {port}."
            )
        if urlsplit(url).port is None:
            url = f"{url}:{port}"
    return url


def _port(value: object, conn_id: str) -> int | None:
    """The port of a connection, which Vault's secrets backend may leave a text; None: none."""
    text = "" if value is None else str(value).strip()
    if not text:
        return None
    if not re.fullmatch("[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        got = value if isinstance(value, int) else "something else"  # it may be a secret
        raise IoTDAConfigError(f"Connection {conn_id!r}: Port must be from 1 to 65535, got {got}.")
    return int(text)


def _check_credentials(extra: dict[str, Any], login: str, password: str, conn_id: str) -> None:
    auth_type = extra["auth_type"]
    where = f"Connection {conn_id!r}, auth_type {auth_type}"
    needs: tuple[tuple[str, Any], ...] = ()
    if auth_type == "aksk":
        needs = (("Login (the access key)", login), ("Password (the secret key)", password))
    elif auth_type == "token":
        needs = (
            ("Login (the IAM user)", login),
            ("Password", password),
            ("domain_name in Extra", extra.get("domain_name")),
            ("project_id or region in Extra", extra.get("project_id") or extra.get("region")),
        )
    elif auth_type == "federation":
        needs = (
            ("idp_id in Extra", extra.get("idp_id")),
            ("id_token_file in Extra", extra.get("id_token_file")),
        )
    if auth_type in ("token", "federation"):
        iam = extra.get("iam_endpoint") or extra.get("region")
        needs = (*needs, ("region (or iam_endpoint) in Extra", iam))
    missing = [name for name, value in needs if not value]
    if missing:
        raise IoTDAConfigError(f"{where}: {' and '.join(missing)} must be set.")
    if auth_type in ("agency", "federation") and (login or password):
        raise IoTDAConfigError(
            f"{where}: Login and Password must be empty; keys are obtained at run time."
        )
    if extra.get("security_token") and auth_type != "aksk":
        raise IoTDAConfigError(f"{where}: security_token goes with auth_type aksk only.")
    # These go into headers; people copy them with stray line breaks.
    for name, value in (
        ("Login (the access key)", login if auth_type == "aksk" else ""),
        ("Password (the secret key)", password if auth_type == "aksk" else ""),
        ("security_token in Extra", extra.get("security_token") or ""),
        ("idp_id in Extra", extra.get("idp_id") or ""),
    ):
        if any(not "!" <= char <= "~" for char in value):
            raise IoTDAConfigError(
                f"{where}: {name} holds a space, a line break or another character that none has."
            )
    _check_endpoints(extra, conn_id)


def _check_endpoints(extra: dict[str, Any], conn_id: str) -> None:
    def field_of(name: str) -> str:
        return f"Extra field {name!r} of connection {conn_id!r}"

    if extra.get("iam_endpoint"):
        iam = extra["iam_endpoint"]
        extra["iam_endpoint"] = check_url(
            iam if "://" in iam else f"https://{iam}",
            field_of("iam_endpoint"),
            allow_http=extra["allow_http"],
        )
    metadata = check_url(extra["metadata_endpoint"], field_of("metadata_endpoint"), allow_http=True)
    if metadata != _METADATA and not is_loopback(urlsplit(metadata).hostname or ""):
        # The server at this address chooses the keys that requests are signed with.
        raise IoTDAConfigError(
            f"{field_of('metadata_endpoint')} must be {_METADATA} or an address of this machine."
        )
    extra["metadata_endpoint"] = metadata
