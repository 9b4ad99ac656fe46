"""One IoTDA connection, parsed and checked once: all that reads a Connection's Extra is here."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from iotda_provider.connection.addresses import (
    check_proxy,
    check_url,
    is_ipv6,
    is_loopback,
    is_proxy_key,
    proxy_secrets,
)
from iotda_provider.connection.fields import EXTRA_FIELDS, ExtraField
from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.masking.sealed import Unpicklable
from iotda_provider.models.json_text import read_json
from iotda_provider.models.text import what_is

_IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{1,128}")
_REGION = re.compile(r"[a-z0-9-]{1,64}")
# What a person may have meant as a field's name; what else stands there may be half a secret.
_NAME = re.compile(r"[A-Za-z0-9_ -]{1,80}")
_PATTERNS = {"region": _REGION, "project_id": _IDENTIFIER, "instance_id": _IDENTIFIER}
_CONN_TYPE = re.compile(r"[a-z][a-z0-9_-]{0,40}")
#: The only type of connection that is read.
CONN_TYPE = "iotda"
_LONGEST_EXTRA = 65_536
_FIELDS = {spec.name: spec for spec in EXTRA_FIELDS}
_TRUE = frozenset({"true", "t", "yes", "y", "on", "1"})
_FALSE = frozenset({"false", "f", "no", "n", "off", "0"})
# Airflow 3 turns what looks like a number in a connection's URI into one.
_IDS = frozenset({"project_id", "instance_id", "domain_name", "idp_id"})
_METADATA = "http://169.254.169.254"


class ConnectionLike(Protocol):
    """What is read of an Airflow connection, on every version of Airflow."""

    conn_type: str | None
    host: str | None
    login: str | None
    password: str | None
    schema: str | None
    port: int | None
    extra: str | None


@dataclass(frozen=True)
class ConnectionSettings(Unpicklable):
    """Everything that a hook needs to know of its connection; secrets never show in the repr.

    ``base_url`` is scheme, host and port without a trailing slash. ``timeout`` is in seconds, for a
    call with its retries and as much again for obtaining credentials. ``attempt_timeout`` is in
    seconds, for one attempt, and for one request that obtains credentials.
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
        """Host and port as they stand in the ``Host`` header."""
        return self.base_url.split("://", 1)[1]

    @property
    def iam_url(self) -> str:
        """Scheme, host and port of IAM, which alone gets to see the user's password.

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
        """Whether IAM may be asked for the region's project: only one that the connection names."""
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
        """Parse and check an Airflow connection; ``project_id``, ``region`` and ``instance_id``
        win over Extra.

        :param conn_id: the name under which it was asked for, for errors
        :raises IoTDAConfigError: a field is unknown, ill-typed or missing; names the field
        """
        _check_lengths(connection, conn_id)
        extra = _parse_extra(connection.extra, conn_id)
        overrides = {"project_id": project_id, "region": region, "instance_id": instance_id}
        for name, pattern in _PATTERNS.items():
            value = extra.get(name)
            if overrides[name] is not None and overrides[name] != "":
                extra[name] = _check_override(overrides[name], name)
            elif value is not None and not (isinstance(value, str) and pattern.fullmatch(value)):
                raise _wrong(conn_id, name, f"is not a valid {_FIELDS[name].label.lower()}", value)
        _check_times(extra, conn_id)
        base_url = _base_url(connection, extra, conn_id)
        login, password = connection.login or "", connection.password or ""
        _check_credentials(extra, login, password, conn_id)
        return cls(conn_id=conn_id, base_url=base_url, login=login, password=password, **extra)


def check_conn_type(connection: ConnectionLike, conn_id: str) -> None:
    """Refuse a connection to something else, before anything of it is read.

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
    """A parameter that wins over the connection's field of the same name.

    :raises IoTDAConfigError: it is none
    """
    if not isinstance(value, str) or not _PATTERNS[name].fullmatch(value):
        raise IoTDAConfigError(
            f"{name} is not a valid {_FIELDS[name].label.lower()}; got {what_is(value)}."
        )
    return value


def _wrong(conn_id: str, name: str, why: str, value: Any = None) -> IoTDAConfigError:
    shown = "" if value is None or _is_secret(name) else f", got {str(value)[:80]!r}"
    return IoTDAConfigError(f"Connection {conn_id!r}: Extra field {name!r} {why}{shown}.")


def _is_secret(name: str) -> bool:
    return name in _FIELDS and _FIELDS[name].is_secret


def _check_lengths(connection: ConnectionLike, conn_id: str) -> None:
    """Before anything is read of a connection: what is longer than any field is none."""
    for name, text, most in (
        ("Host", connection.host, 300),
        ("Schema", connection.schema, 100),
        ("Login", connection.login, 16_384),
        ("Password", connection.password, 16_384),
        ("Extra", connection.extra, _LONGEST_EXTRA),
    ):
        if text and len(text) > most:
            raise IoTDAConfigError(
                f"Connection {conn_id!r}: {name} has {len(text):,} characters; at most {most:,} "
                "are allowed."
            )


def _parse_extra(text: str | None, conn_id: str) -> dict[str, Any]:
    if not text or not text.strip():
        raw: Any = {}
    else:
        try:
            raw = read_json(text)
        except ValueError:
            raise IoTDAConfigError(
                f"Connection {conn_id!r}: Extra is not valid JSON; expected an object such as "
                '{"region": "cn-north-4", "project_id": "..."}.'
            ) from None
    if not isinstance(raw, dict):
        raise IoTDAConfigError(
            f"Connection {conn_id!r}: Extra must be a JSON object, got {type(raw).__name__}."
        )
    parsed = {spec.name: spec.default for spec in EXTRA_FIELDS if spec.default is not None}
    for name, value in raw.items():
        spec = _FIELDS.get(name)
        if spec is None:
            raise _unknown(name, raw, conn_id)
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        parsed[name] = _PARSERS[spec.kind](spec, value, conn_id)
    return parsed


def _unknown(name: str, raw: Mapping[str, Any], conn_id: str) -> IoTDAConfigError:
    # To compare a long name takes the square of its length.
    near = difflib.get_close_matches(name, _FIELDS, n=1) if _NAME.fullmatch(name) else []
    unknown = [(other, str(value)) for other, value in raw.items() if other not in _FIELDS]
    if near:
        known = f"did you mean {near[0]!r}?"
    elif any("@" in value or not _NAME.fullmatch(other) for other, value in unknown):
        # It may be what stands behind a ?: the rest of the password, an @ and the host.
        return IoTDAConfigError(
            f"Connection {conn_id!r}: unknown Extra field, whose name is not shown since it may be "
            "part of a secret. In a connection's URI, is each ? and & of the password written as "
            "%3F and %26?"
        )
    else:
        known = f"known are {', '.join(_FIELDS)}."
    return IoTDAConfigError(f"Connection {conn_id!r}: unknown Extra field {name[:80]!r}; {known}")


def secrets_in(extra: str | None) -> tuple[str, ...]:
    """The secrets in an Extra, however wrong it may be; none of one that is too long to be one."""
    if extra and len(extra) > _LONGEST_EXTRA:
        return ()
    try:
        raw = json.loads(extra or "{}")  # however wrong: its secrets are to be known
    except (ValueError, RecursionError):
        return ()
    found: list[str] = []
    for name, value in raw.items() if isinstance(raw, dict) else ():
        if _is_secret(name):
            of_text = proxy_secrets if _FIELDS[name].kind == "mapping" else _whole
            found += [secret for text in _texts(value) for secret in of_text(text)]
    return tuple(dict.fromkeys(found))


def _whole(text: str) -> tuple[str, ...]:
    return (text.strip(),)


def _texts(value: Any) -> list[str]:
    """All texts in a value, also in one that is JSON in a text."""
    found: list[str] = []
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            try:
                inner = json.loads(one)
            except (ValueError, RecursionError):
                inner = None
            if isinstance(inner, (dict, list)):
                left.append(inner)
            else:
                found.append(one)
        elif isinstance(one, (dict, list)):
            left += one.values() if isinstance(one, dict) else one
    return found


def _text(spec: ExtraField, value: Any, conn_id: str) -> str:
    if spec.name in _IDS and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise _wrong(conn_id, spec.name, f"must be text, not {type(value).__name__}")
    text = value.strip()
    if any(ord(char) < 32 or ord(char) == 127 for char in text):
        raise _wrong(conn_id, spec.name, "holds a control character, such as a line break")
    return text


def _check_times(extra: dict[str, Any], conn_id: str) -> None:
    """Give ``attempt_timeout`` its default, which leaves time for further attempts."""
    timeout = extra["timeout"]
    attempt = extra.setdefault("attempt_timeout", min(timeout / 3, _LONGEST_ATTEMPT))
    if attempt >= timeout:
        why = f"must be less than timeout ({timeout:g} s), so that another attempt has its time"
        raise _wrong(conn_id, "attempt_timeout", why, attempt)


# Seconds that an attempt gets by default, at most.
_LONGEST_ATTEMPT = 10.0
# Eleven days in seconds: more than sockets and clocks take everywhere.
_LARGEST = 1e6


def _number(spec: ExtraField, value: Any, conn_id: str) -> float:
    # On Airflow 2.11 every value of a connection given as a URI is text.
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or number <= spec.minimum:
        raise _wrong(conn_id, spec.name, f"must be a number greater than {spec.minimum}", value)
    if number > _LARGEST:
        raise _wrong(conn_id, spec.name, f"must be at most {_LARGEST:,.0f}", value)
    return number


def _integer(spec: ExtraField, value: Any, conn_id: str) -> int:
    text = "" if isinstance(value, bool) else str(value).strip()
    number = int(text.split(".")[0]) if re.fullmatch(r"[0-9]{1,9}(\.0)?", text) else None
    if number is None or number < spec.minimum:
        raise _wrong(conn_id, spec.name, f"must be a whole number of {spec.minimum} or more", value)
    return number


def _flag(spec: ExtraField, value: Any, conn_id: str) -> bool:
    word = str(value).strip().lower()
    if isinstance(value, (str, int)) and word in _TRUE | _FALSE:
        return word in _TRUE
    raise _wrong(conn_id, spec.name, "must be true or false", value)


def _choice(spec: ExtraField, value: Any, conn_id: str) -> str:
    if value not in spec.choices:
        raise _wrong(conn_id, spec.name, f"must be one of {', '.join(spec.choices)}", value)
    return str(value)


def _verify(spec: ExtraField, value: Any, conn_id: str) -> bool | str:
    if isinstance(value, bool) or str(value).strip().lower() in _TRUE | _FALSE:
        return _flag(spec, value, conn_id)
    if not isinstance(value, str):
        raise _wrong(conn_id, spec.name, "must be true, false or the path of a CA bundle", value)
    return _text(spec, value, conn_id)


def _mapping(spec: ExtraField, value: Any, conn_id: str) -> dict[str, str]:
    if isinstance(value, str):
        try:
            value = read_json(value)
        except ValueError:
            value = None
    if not isinstance(value, dict) or not all(
        isinstance(key, str) and isinstance(item, str) for key, item in value.items()
    ):
        raise _wrong(conn_id, spec.name, "must be a JSON object of texts")
    for key in value:
        if not is_proxy_key(key):
            raise _wrong(
                conn_id,
                spec.name,
                "has keys that no request is looked up by; use http, https or all, or one of these "
                "with a host, such as https://iotda.example.com, in lower case and without a port",
            )
    what = f"Connection {conn_id!r}: Extra field {spec.name!r}: the proxy for"
    return {key: check_proxy(item, f"{what} {key}") for key, item in value.items()}


_PARSERS: dict[str, Callable[[ExtraField, Any, str], Any]] = {
    "text": _text,
    "secret": _text,
    "number": _number,
    "integer": _integer,
    "flag": _flag,
    "choice": _choice,
    "verify": _verify,
    "mapping": _mapping,
}


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
    if is_ipv6(host):  # as Airflow takes one out of a URI, without its brackets
        host = f"[{host}]"
    if "://" not in host:
        scheme = (connection.schema or "https").strip().lower()
        host = f"{scheme}://{host}"
    url = check_url(host, f"Host of connection {conn_id!r}", allow_http=extra["allow_http"])
    if connection.port is not None:
        if urlsplit(url).port not in (None, connection.port):
            raise IoTDAConfigError(
                f"Connection {conn_id!r}: Host names port {urlsplit(url).port}, Port says "
                f"{connection.port}."
            )
        if not 1 <= connection.port <= 65535:
            raise IoTDAConfigError(
                f"Connection {conn_id!r}: Port must be from 1 to 65535, got {connection.port}."
            )
        if urlsplit(url).port is None:
            url = f"{url}:{connection.port}"
    return url


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
    # What ends up in a header, or is copied with a stray line break.
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
        # Whoever answers there chooses the keys that requests are signed with.
        raise IoTDAConfigError(
            f"{field_of('metadata_endpoint')} must be {_METADATA} or an address of this machine."
        )
    extra["metadata_endpoint"] = metadata
