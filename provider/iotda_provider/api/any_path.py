"""A call to any other path of IoTDA."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from iotda_provider.api.call import Call, Repeat
from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.models.text import what_is

#: Characters that a path may have.
_LONGEST = 2000


def any_call(
    method: str,
    endpoint: object,
    *,
    query: Mapping[str, Any] | None = None,
    body: Any = None,
) -> Call[Any]:
    """A call to any other path of IoTDA; its result is the answer's JSON.

    :param endpoint: a path below the connection's host, ``{project_id}`` filled in; without a
        leading ``/v5`` it is taken below ``/v5/iot/{project_id}/``
    :raises IoTDAConfigError: the endpoint could lead to another host or out of its place
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
