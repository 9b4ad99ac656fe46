"""Reads an HTTP answer: its result, or the typed error that it stands for. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from iotda_provider.api import Call
from iotda_provider.exceptions import (
    IoTDAApiError,
    IoTDAAuthError,
    IoTDANotFoundError,
    IoTDAServerError,
    IoTDAThrottledError,
    IoTDATransportError,
)
from iotda_provider.masking.redaction import redacted_line, secrets_of
from iotda_provider.masking.sealed import Unpicklable, without_frames
from iotda_provider.models.json_text import read_json

T = TypeVar("T")

#: No answer of this API is larger; the largest ones list the 30,000 ids of a task.
MAX_ANSWER_BYTES = 8 * 1024 * 1024
#: The asynchronous hook parses a larger body in a thread, not on the event loop.
LARGE_BODY_BYTES = 64 * 1024

# Commas and brackets in a body: a million times ``[],`` is short as text and large in memory.
_MOST_VALUES = 300_000
# Bytes of a refusal that is parsed.
_LARGEST_REFUSAL = 256 * 1024
# Bytes of an unreadable body that an error may quote.
_LOOKED_AT = 16_384
_LONGEST_HEADER = 200
_LONGEST_TEXT = 500
# Seconds by which this machine's clock may be wrong before an error mentions it.
_CLOCK_TOLERANCE = 60.0
_CODES = ("error_code", "errorCode", "code")
# The values of an error field that mean: no error. Some gateways send a code with a success.
_NOTHING: tuple[object, ...] = (None, "", [], {})
_NO_ERROR = (*_NOTHING, 0, "0", 200, "200", "OK", "ok", "success", "SUCCESS")
# The HTTP status that the gateway's codes mean, such as APIGW.0301, if the status is a 2xx.
_STATUS_OF_CODE = {"0301": 401, "0302": 403, "0308": 429}
# IoTDA reports its own rate limits with status 403.
_THROTTLED = ("IOTDA.021101", "IOTDA.021102")
_NO_SUCH_INSTANCE = "IOTDA.000021"
_MESSAGES = ("error_msg", "errorMsg", "message", "error_message", "msg")


@dataclass(frozen=True)
class Answer(Unpicklable):
    """An HTTP answer with its whole body. Header names are in lower case.

    :param secrets: texts that no error may show, even if the answer repeats them
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def is_success(self) -> bool:
        """Whether the status is a 2xx. The body may still hold an error."""
        return 200 <= self.status < 300

    @classmethod
    def of(
        cls,
        status: int,
        headers: Iterable[tuple[str, str]],
        body: bytes,
        *,
        sent: Mapping[str, str] | None = None,
        secrets: Iterable[str] = (),
    ) -> Answer:
        """An answer to a request.

        :param sent: the request's headers; the answer might repeat the secrets in them
        :param secrets: other secrets that it might repeat, such as the password of a proxy
        """
        names = {name.lower(): value for name, value in headers}
        return cls(status, names, body, (*secrets_of(sent or {}), *secrets))


def read_answer(call: Call[T], answer: Answer) -> T:
    """The result of a call.

    :raises IoTDAApiError: the platform or its gateway refused the call: the status is not a 2xx, or
        the body holds an error. The subclass says which kind
    :raises IoTDATransportError: this is not an answer of the IoTDA API
    """
    with without_frames():  # frames hold the answer, which may repeat secrets
        return _result(call, answer)


def _result(call: Call[T], answer: Answer) -> T:
    if not answer.is_success:
        raise refusal(call, answer)
    try:
        data = parsed(answer.body)
    except ValueError:
        raise IoTDATransportError(
            f"Could not {call.action}: the answer is not JSON but {_describe(answer)}. A proxy or "
            "a wrong Host may be answering, or the answer was cut off."
        ) from None
    if _is_error(data):
        raise refusal(call, answer)
    try:
        return call.read(data)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # Not chained: the cause quotes the answer without redaction.
        raise IoTDATransportError(
            f"Could not {call.action}: the answer makes no sense "
            f"({_clip(answer, str(error))}): {_clip(answer, _beginning(answer))}"
        ) from None


def is_refusal(answer: Answer) -> bool:
    """Whether an answer refuses the call: the status is not a 2xx, or the body holds an error."""
    return not answer.is_success or _is_error(_json_of(answer))


def _is_error(data: Any) -> bool:
    """Whether an answer's JSON is an error. Only its top level counts.

    Errors in the rows of an answer are about one target or subtask.
    """
    if not isinstance(data, dict):
        return False
    for code, message in (
        ("error_code", "error_msg"),
        ("errorCode", "errorMsg"),
        ("code", "message"),
        ("code", "msg"),
    ):
        said = data.get(code)
        if said not in _NO_ERROR and (code != "code" or isinstance(data.get(message), str)):
            return True
        if said in _NOTHING and code != "code" and data.get(message) not in _NO_ERROR:
            return True
    error = data.get("error")
    if isinstance(error, dict):
        return any(value not in _NO_ERROR for value in error.values())
    return error not in _NO_ERROR


def parsed(body: bytes) -> Any:
    """The JSON of an answer; None for an empty body.

    :raises ValueError: it is not JSON, or has more values or levels than any answer of this API
    """
    text = body.decode("utf-8", errors="replace").strip()
    if sum(text.count(sign) for sign in ",[{") > _MOST_VALUES:
        raise ValueError("it has too many values")
    return read_json(text) if text else None


def refusal(call: Call[Any], answer: Answer) -> IoTDAApiError:
    """The typed error for a refusal. Its ``status_code`` may be 200, with the error in the body."""
    code, message = _code_and_message(answer)
    meant = answer
    if answer.is_success and code and code.startswith("APIG"):
        meant = replace(answer, status=_STATUS_OF_CODE.get(code[-4:], answer.status))
    return _error_type(meant.status, code)(
        answer.status,
        code,
        message,
        _clip(answer, answer.headers.get("x-request-id", ""), 120) or None,
        action=call.action,
        hint=_hint(call, meant, code, message or ""),
        retry_after=_retry_after(answer),
    )


def _error_type(status: int, code: str | None) -> type[IoTDAApiError]:
    if code in _THROTTLED:
        return IoTDAThrottledError
    if status in (401, 403):
        return IoTDAAuthError
    if status == 404:
        return IoTDANotFoundError
    if status == 429:
        return IoTDAThrottledError
    return IoTDAServerError if status >= 500 else IoTDAApiError


def _hint(call: Call[Any], answer: Answer, code: str | None, message: str) -> str | None:
    if 300 <= answer.status < 400:
        return redirect_hint(answer, "Host", "the instance's endpoint")
    if answer.status == 401:
        return clock_hint(answer) or _unknown_caller(message)
    if answer.status == 429 or code in _THROTTLED:
        return "Set max_requests_per_second in the connection's Extra to stay below the limit"
    if answer.status == 403:
        return _forbidden(call, code, message)
    if answer.status == 404 and code and code.startswith("APIG"):
        return "This host does not serve the IoTDA API: check the connection's Host"
    if answer.status == 404 and not code:
        return (
            "This 404 has no error code of the platform, so a proxy or load balancer may have sent "
            "it: try again, and check the connection's Host and proxies"
        )
    if answer.status == 404 and "/batchtasks/" in call.path:
        return (
            "Check the id in the console (it may have been deleted), and that the connection's "
            "project_id and instance_id are those of the task"
        )
    return None


def redirect_hint(answer: Answer, field: str, place: str) -> str:
    """What the user can do about a redirect.

    :param field: the field of the connection that holds the redirecting address
    :param place: the address that it should hold
    """
    return (
        f"The host redirects to {_clip(answer, answer.headers.get('location', '?'), 120)}; "
        "redirects are not followed because they would carry credentials elsewhere. Set the "
        f"connection's {field} to {place}"
    )


def _unknown_caller(message: str) -> str:
    """What the user can do about a 401, by the texts that the API gateway documents."""
    if "limit" in message:
        return (
            "After five wrong signatures in a row the platform locks an access key for 5 minutes: "
            "correct the secret key, then wait"
        )
    return (
        "The credentials are wrong or have expired: check the connection's access key, secret key "
        "(or token), region and derived_auth"
    )


def _forbidden(call: Call[Any], code: str | None, message: str) -> str:
    """What the user can do about a 403: the caller is known but lacks a permission."""
    if code == _NO_SUCH_INSTANCE:
        return (
            "The credentials are good, but they own no IoTDA instance with these ids: check "
            "instance_id (required for professional editions) and project_id, and that the account "
            "has subscribed to IoTDA"
        )
    needs = f"the IAM action {call.permission}" if call.permission else "the call's IAM action"
    if "project" in message.lower():
        return (
            "The credentials are good, but the project is not theirs: check project_id, and that "
            f"the caller has {needs} in that project"
        )
    return (
        f"The caller is known but needs {needs} in this project; project_id and instance_id must "
        "be its own"
    )


def clock_hint(answer: Answer) -> str | None:
    """What to do about this machine's clock, by an answer's ``Date``; None if it is right.

    A signature holds the time, so a wrong clock looks like a wrong key.
    """
    theirs = _moment(answer.headers.get("date", ""))
    if theirs is None:
        return None
    ahead = (datetime.now(timezone.utc) - theirs).total_seconds()
    if abs(ahead) <= _CLOCK_TOLERANCE:
        return None
    return (
        f"This machine's clock is {_in_words(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} "
        f"the server's, which says {theirs:%Y-%m-%d %H:%M:%S} UTC, and signatures hold the time: "
        "set the clock (NTP) before looking for another cause"
    )


def _in_words(seconds: float) -> str:
    """A duration in its two largest units: ``1 hour 5 minutes``."""
    parts = []
    left = round(seconds)
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}{'' if count == 1 else 's'}")
    return " ".join(parts[:2])


def _code_and_message(answer: Answer) -> tuple[str | None, str | None]:
    data = _json_of(answer) if len(answer.body) <= _LARGEST_REFUSAL else None
    if data is None:
        return None, _describe(answer) if answer.body.strip() else None
    code, message = _first_field(answer, data, _CODES), _first_field(answer, data, _MESSAGES)
    if code is None and message is None:
        message = _clip(answer, _beginning(answer))
    return code, message


def _json_of(answer: Answer) -> Any:
    """The body's JSON; None if it is empty or not JSON."""
    try:
        return parsed(answer.body)
    except ValueError:
        return None


def _first_field(answer: Answer, data: Any, names: tuple[str, ...]) -> str | None:
    """The first of the fields ``names`` in an object, else in an object directly inside it."""
    if not isinstance(data, dict):
        return None
    for scope in (data, *(value for value in data.values() if isinstance(value, dict))):
        for name in names:
            value = scope.get(name)
            if isinstance(value, (str, int)) and not isinstance(value, bool) and value != "":
                return _clip(answer, str(value))
    return None


def _describe(answer: Answer) -> str:
    """An unreadable body in a few words; of an HTML page, its title."""
    text = _beginning(answer)
    if title := _title(text):
        return f"an HTML page titled {_clip(answer, title, 120)!r}"
    if "<html" in text.lower():
        return "an HTML page"
    if not text.strip():
        return "empty"
    return f"{len(answer.body)} bytes starting with {_clip(answer, text, 80)!r}"


def _title(text: str) -> str:
    """The text of the first ``<title>``; empty if there is none."""
    begun = re.search("<title", text, re.IGNORECASE)
    start = text.find(">", begun.end()) if begun else -1
    end = text.find("<", start)
    return text[start + 1 : end].strip() if 0 <= start < end else ""


def _beginning(answer: Answer) -> str:
    return answer.body[:_LOOKED_AT].decode("utf-8", errors="replace").strip()


def _clip(answer: Answer, text: str, longest: int = _LONGEST_TEXT) -> str:
    """One line without secrets and control characters, of at most ``longest`` characters."""
    return redacted_line(text, answer.secrets, longest)


def _retry_after(answer: Answer) -> float | None:
    """Seconds to wait, from either form of ``Retry-After`` (RFC 9110, 10.2.3)."""
    value = answer.headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value):
        return float(value)
    moment = _moment(value)
    if moment is None:
        return None
    return max(0.0, (moment - datetime.now(timezone.utc)).total_seconds())


def _moment(value: str) -> datetime | None:
    """A header's date in UTC; None if it is not a date."""
    if len(value) > _LONGEST_HEADER:
        return None
    try:
        moment = parsedate_to_datetime(value)
        zone = moment.tzinfo or timezone.utc
        return moment.replace(tzinfo=zone).astimezone(timezone.utc)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
