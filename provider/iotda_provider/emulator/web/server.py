"""Serves the emulator over HTTP: uvicorn, with our own signals, sockets and shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from iotda_provider.emulator.state.instance import Instance
from iotda_provider.emulator.web.app import create_app
from iotda_provider.emulator.web.broken_answers import protocol_class, reset
from iotda_provider.emulator.web.gateway import SKEW
from iotda_provider.emulator.web.host_check import HostCheck

_BACKLOG = 2048
# Seconds that open requests may take at the shutdown, and seconds between two looks at them.
_GRACE = 1
_LOOK = 0.005


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to this address and not listening yet; port 0 picks a free one.

    :raises OSError: the address is taken or not this machine's; the error names it
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only on a socket that names its protocol; else an answer takes 40 ms.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise OSError(
            error.errno, f"can't listen at {host}, port {port}: {error.strerror}"
        ) from error
    except BaseException:
        bound.close()
        raise
    return bound


def url_of(bound: socket.socket) -> str:
    """The address of a bound socket as a URL."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _dated(app: ASGIApp) -> ASGIApp:
    """Gives each answer a ``Date`` by the clock of the gateway, which a fault may have set."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                if not any(name.lower() == b"date" for name, _ in headers):
                    now = time.time() + scope.get(SKEW, 0.0)
                    headers.append((b"date", formatdate(now, usegmt=True).encode()))
                message = {**message, "headers": headers}
            await send(message)

        await app(scope, receive, send_dated)

    return serve


class Server(uvicorn.Server):
    """Serves until ``end`` is called, ends within about a second, and can refuse connections.

    :param bound: where to listen; the server closes it
    :param host: the name or address to listen at; ``Host`` may name it or loopback
    """

    def __init__(self, instance: Instance, bound: socket.socket, host: str) -> None:
        super().__init__(
            uvicorn.Config(
                _dated(HostCheck(create_app(instance), host)),
                http=protocol_class(),
                log_config=None,
                log_level="warning",
                access_log=False,
                lifespan="off",
                ws="none",
                backlog=_BACKLOG,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                timeout_keep_alive=75,
            )
        )
        self._socket = bound
        self._ready: Callable[[], None] | None = None
        self._reopening: asyncio.TimerHandle | None = None
        self._listening: asyncio.Future[None] | None = None
        self._ending = asyncio.Event()
        instance.refuse = self.refuse
        instance.pause = self.pause

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do not handle signals: the process does."""
        yield

    async def serve_until_end(self, ready: Callable[[], None]) -> None:
        """Serve until ``end`` is called.

        :param ready: called once connections are taken
        """
        self._ready = ready
        await self.serve([self._socket])

    def end(self) -> None:
        """Begin to end; call it on the server's own event loop."""
        self.should_exit = True
        self._ending.set()

    async def pause(self, seconds: float) -> None:
        """Sleep, but not beyond the server's end."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._ending.wait(), seconds)

    async def main_loop(self) -> None:
        """Keep uvicorn's clock until the end, which is noticed at once and not at its next tick."""
        ticks = 0
        while not await self.on_tick(ticks):
            await self.pause(1.0)
            ticks += 10

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say so."""
        await super().startup(sockets)
        if self._ready is not None:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening and end open connections.

        uvicorn would sleep a tenth of a second even if nothing is open, in every test with an
        emulator of its own.
        """
        if self._reopening is not None:
            self._reopening.cancel()
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._all_ended(), _GRACE)
        for task in self.server_state.tasks:
            task.cancel()
        self._socket.close()

    async def _all_ended(self) -> None:
        """Return once no connection is open and no request under way."""
        while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK)

    def refuse(self, seconds: float) -> None:
        """Refuse connections for this many real seconds, and reset those that are open."""
        loop = asyncio.get_running_loop()
        if self._reopening is not None:
            self._reopening.cancel()
        else:
            address = self._socket.getsockname()
            for server in self.servers:
                server.close()
            self.servers.clear()
            for connection in list(self.server_state.connections):
                reset(connection.transport)
            # Bound but not listening: the port stays reserved, and the kernel refuses connections.
            self._socket = bind(address[0], address[1])
        self._reopening = loop.call_later(seconds, self._reopen)

    def _reopen(self) -> None:
        self._reopening = None
        self._listening = asyncio.ensure_future(self._listen())

    async def _listen(self) -> None:
        await super().startup([self._socket])
