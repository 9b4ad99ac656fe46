"""Runs the emulator: in a thread of the caller's process, or as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any, TypeVar

import uvicorn

from iotda_provider.emulator.app import create_app
from iotda_provider.emulator.platform import Platform, Settings
from iotda_provider.emulator.scenario import Scenario

_T = TypeVar("_T")
_START_SECONDS = 30.0


def is_loopback(host: str) -> bool:
    """Whether a server at this host can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 picks a free one.

    :raises OSError: the address is taken or not this machine's
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except BaseException:
        listener.close()
        raise
    return listener


def url_of(listener: socket.socket) -> str:
    """The address of a listening socket as a URL."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """uvicorn without its signal handling, which ends quickly and leaves no connection open."""

    def __init__(self, platform: Platform, listener: socket.socket) -> None:
        super().__init__(
            uvicorn.Config(
                create_app(platform),
                log_config=None,
                log_level="warning",
                access_log=False,
                lifespan="off",
                ws="none",
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=1,
            )
        )
        self._listener = listener
        self._ready: Callable[[], None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: they are the process's business, not the server's."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say so."""
        await super().startup(sockets)
        if self._ready is not None:
            self._ready()

    async def run_until_told(self, ready: Callable[[], None]) -> None:
        """Serve until ``should_exit`` is set."""
        self._ready = ready
        await self.serve([self._listener])


class Emulator:
    """An emulated IoTDA instance inside this process, on a free loopback port.

    Use it as a context manager, or call ``start`` and ``stop``. It runs on an event loop of its
    own in a thread; its methods may be called from any other thread.

    :param scenario: what to emulate, as in a scenario file; None: the defaults
    :param ak: the access key that calls must be signed with
    :param sk: its secret key
    :param project_id: the project that calls must name
    :param security_token: makes the key a temporary one
    :param seed: all chance comes from it
    :param speed: virtual seconds per real second; 0: time moves by ``advance`` only
    :param host: where to listen; loopback
    :param port: where to listen; 0: a free port
    :param region: the region that the ready connection names
    """

    def __init__(
        self,
        scenario: Mapping[str, Any] | None = None,
        *,
        ak: str = "emulator-ak",
        sk: str = "emulator-sk",
        project_id: str = "emulator-project",
        security_token: str | None = None,
        seed: int = 0,
        speed: float = 1.0,
        host: str = "127.0.0.1",
        port: int = 0,
        region: str = "cn-north-4",
    ) -> None:
        if not is_loopback(host):
            raise ValueError(f"host must be a loopback address, not {host}")
        self.platform = Platform(
            Scenario.read(dict(scenario or {})),
            Settings(ak, sk, project_id, security_token, seed, speed),
        )
        self._address = (host, port)
        self._region = region
        self._listener: socket.socket | None = None
        self._server: Server | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __enter__(self) -> Emulator:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to serve; returns when it listens."""
        if self._thread is not None:
            raise RuntimeError("the emulator is running already")
        self._listener = listen(*self._address)
        ready: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._serve, args=(ready,), name="iotda-emulator", daemon=True
        )
        self._thread.start()
        ready.result(_START_SECONDS)

    def _serve(self, ready: Future[None]) -> None:
        async def serve() -> None:
            assert self._listener is not None
            self._loop = asyncio.get_running_loop()
            self._server = Server(self.platform, self._listener)
            await self._server.run_until_told(lambda: ready.set_result(None))

        try:
            asyncio.run(serve())
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    def stop(self) -> None:
        """End; returns when nothing of it is left."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if self._server is not None:
            self._server.should_exit = True
        thread.join()
        self._loop = self._server = self._listener = None

    @property
    def url(self) -> str:
        """Where it listens."""
        if self._listener is None:
            raise RuntimeError("the emulator is not running")
        return url_of(self._listener)

    @property
    def airflow_connection(self) -> dict[str, Any]:
        """An Airflow connection to it, as ``AIRFLOW_CONN_IOTDA_DEFAULT`` takes it in JSON."""
        settings = self.platform.settings
        extra = {"region": self._region, "project_id": settings.project_id}
        if settings.security_token is not None:
            extra["security_token"] = settings.security_token
        instance_id = self.platform.scenario.switches.instance_id
        if instance_id is not None:
            extra["instance_id"] = instance_id
        return {
            "conn_type": "iotda",
            "host": self.url,
            "login": settings.ak,
            "password": settings.sk,
            "extra": extra,
        }

    def advance(self, seconds: float) -> None:
        """Let virtual time pass; everything that was due has happened when this returns."""
        self._on_loop(lambda: self.platform.advance(seconds))

    def _on_loop(self, act: Callable[[], _T]) -> _T:
        """Do something in the emulator's own thread, between two requests."""
        if self._loop is None:
            return act()

        async def run() -> _T:
            return act()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()
