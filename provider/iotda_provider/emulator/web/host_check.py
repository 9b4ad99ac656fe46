"""Refuses requests that a web page of another origin makes a browser send.

A web page can make a browser send requests to this machine, and a name of the page's own can be
made to mean this machine (DNS rebinding). Such a request has that name in ``Host``, or the page's
origin in ``Origin``.
"""

from __future__ import annotations

import ipaddress
import re

from starlette.types import ASGIApp, Receive, Scope, Send

from iotda_provider.emulator.common.errors import ApiError
from iotda_provider.emulator.web.gateway import REQUEST_ID, new_request_id, refused

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,255})(:[0-9]{1,5})?")


def is_loopback(host: str) -> bool:
    """Whether a server at this host can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class HostCheck:
    """An application in front of another: only requests for this server pass.

    :param host: the name or address that the server was told to listen at. Beyond loopback every
        address is let through as ``Host``: none can be made to mean another machine
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app = app
        self._host = host.lower()
        self._any_address = not is_loopback(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        error = self._wrong(scope) if scope["type"] == "http" else None
        if error is None:
            await self._app(scope, receive, send)
            return
        answer = refused(error)
        answer.headers[REQUEST_ID] = new_request_id()
        answer.headers["Connection"] = "close"
        await answer(scope, receive, send)

    def _wrong(self, scope: Scope) -> ApiError | None:
        hosts, origins = [], []
        for name, value in scope["headers"]:
            if name == b"host":
                hosts.append(value.decode("latin-1"))
            elif name == b"origin":
                origins.append(value.decode("latin-1"))
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            return ApiError(
                403,
                "APIGW.0302",
                "Host is not this emulator's: use a loopback address, or the --host it was given",
            )
        if any(origin.lower() != f"http://{hosts[0].lower()}" for origin in origins):
            return ApiError(403, "APIGW.0302", "Origin is not this emulator's")
        if not scope["path"].isprintable():
            return ApiError(400, "APIGW.0101", "The path has characters that no path has")
        return None

    def _is_own(self, host: str) -> bool:
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = match["name"].lower().strip("[]")
        if name == self._host or is_loopback(name):
            return True
        return self._any_address and _is_address(name)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
