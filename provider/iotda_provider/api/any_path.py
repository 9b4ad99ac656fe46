"""A call to a path of IoTDA that no other call describes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from iotda_provider.api.call import Call, Repeat
from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.models.text import what_is

#: The most characters of a path.
_LONGEST = 2000


def any_call(
    method: str,
    endpoint: object,
    *,
    query: Mapping[str, Any] | None = None,
    body: Any = None,
) -> Call[Any]:
    """A call to any path of IoTDA. Its result is the answer's JSON.

    :param method: GET, POST, PUT, PATCH or DELETE. Only a GET is repeated after a failure
    :param endpoint: a path on the connection's host; ``{project_id}`` is filled in. A path that
        does not begin with ``/v5/`` is taken as relative to ``/v5/iot/{project_id}/``
    :param query: names and values; a list gives one pair for each item, and None is left out
    :param body: plain JSON
    :raises IoTDAConfigError: the method is unknown, or the endpoint could lead to another host or
        path
    """
    method = str(method).upper()
    if method not in ("GET", "POST", "PUT", "DELETE", "PATCH"):
        raise IoTDAConfigError(
            f"method must be GET, POST, PUT, PATCH or DELETE; got {method[:20]!r}."
        )
    path = endpoint if isinstance(endpoint, str) and len(endpoint) <= _LONGEST else ""
    segments = path.replace("{project_id}", "-").lstrip("/").split("/")
    if (
        not path.strip("/")
        or path.startswith("//")
        or not all(
            re.fullmatch(r"[\w.~:@,+=-]+", part, re.ASCII) and set(part) != {"."}
            for part in segments
        )
    ):
        raise IoTDAConfigError(
            "endpoint must be a plain path such as /v5/iot/{project_id}/devices, without a host, a "
            f"query (pass it as params), empty parts or '..', of at most {_LONGEST} characters; "
            f"got {what_is(endpoint)}."
        )
    path = "/" + path.lstrip("/")
    if not path.startswith("/v5/"):
        path = f"/v5/iot/{{project_id}}{path}"
    pairs: list[tuple[str, str]] = []
    for key, value in (query or {}).items():
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if item is not None:
                pairs.append((str(key), str(item).lower() if isinstance(item, bool) else str(item)))
    return Call(
        action=f"{method} {path}",
        method=method,
        path=path,
        query=tuple(pairs),
        body=body,
        read=lambda data: data,
        repeat=Repeat.READ if method == "GET" else Repeat.ONCE,
    )
