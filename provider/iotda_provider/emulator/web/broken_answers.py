"""Answers that break below HTTP: the connection is reset, or closed within the body."""

from __future__ import annotations

import asyncio
import socket
import struct
from importlib.util import find_spec
from typing import Any

from fastapi import Response
from starlette.types import Receive, Scope, Send
from uvicorn.importer import import_from_string

TRANSPORT = "transport"
MAX_HEAD = 64 * 1024

_HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"Connection: close\r\nContent-Length: 0\r\n\r\n"
)

# Close at once: the client sees a reset.
_NO_LINGER = struct.pack("ii", 1, 0)


def protocol_class() -> type[asyncio.Protocol]:
    """uvicorn's own HTTP protocol, which also tells each request its connection."""
    fast = find_spec("httptools") is not None
    name = "httptools_impl:HttpToolsProtocol" if fast else "h11_impl:H11Protocol"
    base: Any = import_from_string(f"uvicorn.protocols.http.{name}")

    class Protocol(base):  # type: ignore[misc]
        """A connection whose requests find its transport in their ``state``."""

        app_state: dict[str, Any]
        transport: asyncio.Transport
        # For httptools, which has no limit of its own. h11 has one, and never calls these methods.
        _in_head = False
        _head = 0

        def connection_made(self, transport: asyncio.Transport) -> None:
            self.app_state = {**self.app_state, TRANSPORT: transport}
            super().connection_made(transport)

        def data_received(self, data: bytes) -> None:
            if self._in_head:
                self._head += len(data)
            super().data_received(data)
            if self._in_head and self._head > MAX_HEAD and not self.transport.is_closing():
                self.transport.write(_HEAD_TOO_LARGE)
                self.transport.close()

        def on_message_begin(self) -> None:
            self._in_head, self._head = True, 0
            super().on_message_begin()

        def on_header(self, name: bytes, value: bytes) -> None:
            if self._in_head:  # what comes after the body is no header of this request
                super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self._in_head = False
            super().on_headers_complete()

    return Protocol


def reset(transport: asyncio.Transport) -> None:
    """End a connection with a reset."""
    sock = transport.get_extra_info("socket")
    if sock is not None and not transport.is_closing():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


class Severed(Response):
    """No answer or a part of one, then the connection ends.

    :param answer: the answer without the fault
    :param keep: how much of its body is sent before the end; None: not even the status
    :param with_reset: end with a reset instead of an ordinary close
    """

    def __init__(
        self, answer: Response | None = None, keep: float | None = None, with_reset: bool = True
    ) -> None:
        super().__init__()
        self._answer = answer
        self._keep = keep
        self._with_reset = with_reset

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer or its part, and end the connection."""
        transport: asyncio.Transport = scope["state"][TRANSPORT]
        if self._answer is not None and self._keep is not None:
            body = bytes(self._answer.body)
            await send(
                {
                    "type": "http.response.start",
                    "status": self._answer.status_code,
                    "headers": self._answer.raw_headers,
                }
            )
            part = body[: int(len(body) * self._keep)]
            await send({"type": "http.response.body", "body": part, "more_body": True})
        if self._with_reset:
            reset(transport)
        else:
            transport.close()
        # uvicorn is told before this returns, or it would complain about an unfinished answer.
        while (await receive())["type"] != "http.disconnect":
            pass
