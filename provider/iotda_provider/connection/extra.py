"""The Extra of a connection: each field read by its kind, and every error names its field."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from iotda_provider.connection.addresses import check_proxy, is_proxy_key, proxy_secrets
from iotda_provider.connection.fields import EXTRA_FIELDS, ExtraField
from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.models.json_text import read_json

#: Characters that an Extra may have.
LONGEST_EXTRA = 65_536
# A name that an error may quote; any other text may be a part of a secret.
_NAME = re.compile(r"[A-Za-z0-9_ -]{1,80}")
_FIELDS = {spec.name: spec for spec in EXTRA_FIELDS}
_TRUE = frozenset({"true", "t", "yes", "y", "on", "1"})
_FALSE = frozenset({"false", "f", "no", "n", "off", "0"})
# Ids that may be numbers: Airflow 3 converts digits in a connection's URI.
_IDS = frozenset({"project_id", "instance_id", "domain_name", "idp_id"})
# Seconds that an attempt gets by default, at most.
_LONGEST_ATTEMPT = 10.0
# Eleven days in seconds: more than sockets and clocks take everywhere.
_LARGEST = 1e6


def read_extra(text: str | None, conn_id: str) -> dict[str, Any]:
    """The fields of an Extra by name, with their defaults; ``text`` is the JSON object.

    :raises IoTDAConfigError: it is no JSON object; a field is unknown or has a wrong value
    """
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
    # Comparing names takes quadratic time, so long ones are not compared.
    near = difflib.get_close_matches(name, _FIELDS, n=1) if _NAME.fullmatch(name) else []
    unknown = [(other, str(value)) for other, value in raw.items() if other not in _FIELDS]
    if near:
        known = f"did you mean {near[0]!r}?"
    elif any("@" in value or not _NAME.fullmatch(other) for other, value in unknown):
        # It may be the rest of a URI after a ? in the password: password, @ and host.
        return IoTDAConfigError(
            f"Connection {conn_id!r}: unknown Extra field, whose name is not shown since it may be "
            "part of a secret. In a connection's URI, is each ? and & of the password written as "
            "%3F and %26?"
        )
    else:
        known = f"known are {', '.join(_FIELDS)}."
    return IoTDAConfigError(f"Connection {conn_id!r}: unknown Extra field {name[:80]!r}; {known}")


def secrets_in(extra: str | None) -> tuple[str, ...]:
    """The secrets in an Extra, even if it is invalid; none if it is longer than allowed."""
    if extra and len(extra) > LONGEST_EXTRA:
        return ()
    try:
        raw = json.loads(extra or "{}")
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
    """All texts in a value, including those in JSON that is itself text."""
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
        raise wrong_field(conn_id, spec.name, f"must be text, not {type(value).__name__}")
    text = value.strip()
    if any(ord(char) < 32 or ord(char) == 127 for char in text):
        raise wrong_field(conn_id, spec.name, "holds a control character, such as a line break")
    return text


def set_attempt_timeout(extra: dict[str, Any], conn_id: str) -> None:
    """Set the default of ``attempt_timeout``; check that time is left for another attempt."""
    timeout = extra["timeout"]
    attempt = extra.setdefault("attempt_timeout", min(timeout / 3, _LONGEST_ATTEMPT))
    if attempt >= timeout:
        why = f"must be less than timeout ({timeout:g} s), so that another attempt has its time"
        raise wrong_field(conn_id, "attempt_timeout", why, attempt)


def _number(spec: ExtraField, value: Any, conn_id: str) -> float:
    # On Airflow 2.11 every value of a connection given as a URI is text.
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or number <= spec.minimum:
        raise wrong_field(
            conn_id, spec.name, f"must be a number greater than {spec.minimum}", value
        )
    if number > _LARGEST:
        raise wrong_field(conn_id, spec.name, f"must be at most {_LARGEST:,.0f}", value)
    return number


def _integer(spec: ExtraField, value: Any, conn_id: str) -> int:
    text = "" if isinstance(value, bool) else str(value).strip()
    number = int(text.split(".")[0]) if re.fullmatch(r"[0-9]{1,9}(\.0)?", text) else None
    if number is None or number < spec.minimum:
        raise wrong_field(
            conn_id, spec.name, f"must be a whole number of {spec.minimum} or more", value
        )
    return number


def _flag(spec: ExtraField, value: Any, conn_id: str) -> bool:
    word = str(value).strip().lower()
    if isinstance(value, (str, int)) and word in _TRUE | _FALSE:
        return word in _TRUE
    raise wrong_field(conn_id, spec.name, "must be true or false", value)


def _choice(spec: ExtraField, value: Any, conn_id: str) -> str:
    if value not in spec.choices:
        raise wrong_field(conn_id, spec.name, f"must be one of {', '.join(spec.choices)}", value)
    return str(value)


def _verify(spec: ExtraField, value: Any, conn_id: str) -> bool | str:
    if isinstance(value, bool) or str(value).strip().lower() in _TRUE | _FALSE:
        return _flag(spec, value, conn_id)
    if not isinstance(value, str):
        raise wrong_field(
            conn_id, spec.name, "must be true, false or the path of a CA bundle", value
        )
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
        raise wrong_field(conn_id, spec.name, "must be a JSON object of texts")
    for key in value:
        if not is_proxy_key(key):
            raise wrong_field(
                conn_id,
                spec.name,
                "has keys that no request is looked up by; use http, https or all, or one of these "
                "with a host, such as https://iotda.example.com, in lower case and without a port",
            )
    what = f"Connection {conn_id!r}: Extra field {spec.name!r}: the proxy for"
    return {key: check_proxy(item, f"{what} {key}") for key, item in value.items()}


def wrong_field(conn_id: str, name: str, why: str, value: Any = None) -> IoTDAConfigError:
    """The error for a field of Extra; it quotes ``value`` unless the field is secret."""
    shown = "" if value is None or _is_secret(name) else f", got {str(value)[:80]!r}"
    return IoTDAConfigError(f"Connection {conn_id!r}: Extra field {name!r} {why}{shown}.")


def _is_secret(name: str) -> bool:
    return name in _FIELDS and _FIELDS[name].is_secret


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
