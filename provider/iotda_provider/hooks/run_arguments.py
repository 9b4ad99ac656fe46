"""The arguments of ``run``, which calls any path of IoTDA, read the same way by both hooks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from iotda_provider import api
from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.models.json_text import read_json
from iotda_provider.models.text import one_line, what_is
from iotda_provider.transport.headers import checked_headers


@dataclass(frozen=True)
class AnyRequest:
    """A checked request to any path.

    :param headers: the caller's own headers
    :param check: whether an error's answer is raised instead of returned
    """

    call: api.Call[Any]
    headers: Mapping[str, str]
    check: bool


def read_arguments(
    endpoint: str | None = None,
    data: Mapping[str, Any] | str | None = None,
    headers: Mapping[str, Any] | None = None,
    extra_options: Mapping[str, Any] | None = None,
    *,
    method: str | None = None,
    params: Mapping[str, Any] | None = None,
    json: Any = None,
    **request_kwargs: Any,
) -> AnyRequest:
    """A signed call to any other path of IoTDA, such as ``/v5/iot/{project_id}/devices``.

    ``{project_id}`` is filled in; a path without ``/v5`` is taken below ``/v5/iot/{project_id}/``.

    :param endpoint: the path
    :param data: the query of a GET, otherwise a JSON body (an object, or JSON text)
    :param headers: more headers; those of the authentication can't be set
    :param extra_options: ``{"check_response": False}`` returns an error's answer instead of raising
    :param method: GET unless there is a body, then POST
    :param params: the query
    :param json: the JSON body
    """
    for name, value in (
        ("headers", headers),
        ("extra_options", extra_options),
        ("params", params),
    ):
        if value is not None and not isinstance(value, Mapping):
            raise IoTDAConfigError(
                f"{name} must be an object; got {what_is(value, instead_of='an object')}."
            )
    options = dict(extra_options or {})
    check = bool(options.pop("check_response", True))
    if request_kwargs or options:
        unknown = ", ".join(sorted(one_line(name, 60) for name in {*request_kwargs, *options}))
        raise TypeError(
            f"run() does not take {unknown}; it takes data, headers, params, json and method. "
            "Timeout, proxies and verify belong in the connection's Extra."
        )
    body = json
    if data is not None and str(method).upper() != "GET" and body is None:
        body = _parsed(data) if isinstance(data, str) else data
    elif data is not None and isinstance(data, Mapping):
        params = {**data, **(params or {})}
    elif data is not None:
        raise IoTDAConfigError(
            "data must be an object where it is the query of a GET or stands beside json."
        )
    verb = method or ("GET" if body is None else "POST")
    call = api.any_call(verb, endpoint or "", query=params, body=body)
    return AnyRequest(call, checked_headers(headers or {}), check)


def _parsed(text: str) -> Any:
    try:
        return read_json(text)
    except ValueError as error:
        raise IoTDAConfigError(f"data must be an object or JSON text: {error}.") from None
