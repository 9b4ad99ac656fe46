"""A timeout for a whole answer, which ``requests`` lacks: its own starts again with every byte."""

from __future__ import annotations

import io
import re
import socket
import time
from contextlib import suppress
from http.client import HTTPResponse, parse_headers
from typing import TYPE_CHECKING, Any

import requests
from requests import Session
from requests_toolbelt.adapters.socket_options import TCPKeepAliveAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, ReadTimeoutError
from urllib3.util import Timeout

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class TotalTimeoutAdapter(TCPKeepAliveAdapter):  # type: ignore[misc]
    """An adapter whose read timeout covers the time from the request to the end of the answer."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager


class _DeadlineReader(io.RawIOBase):
    """Reads from a socket until a deadline: the socket's timeout, counted once."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw = raw
        self._sock = sock
        seconds = sock.gettimeout()
        self._deadline = float("inf") if seconds is None else time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer comes too slowly")
        if left < float("inf"):
            self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_DeadlineReader(self.fp.detach(), sock))

    def _read_status(self) -> tuple[str, int, str]:
        """Skip 103 Early Hints, which http.client takes for the final status."""
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 101 < status < 200:
                return version, status, reason
            parse_headers(self.fp)


class _Connection(HTTPConnection):
    """Its timeout covers all addresses of a host together; urllib3's covers each."""

    response_class = _Response

    def _new_conn(self) -> socket.socket:
        name, seconds = self._dns_host, self.timeout
        addresses = _addresses_of(name, self.port)
        if len(addresses) < 2 or not isinstance(seconds, (int, float)):
            return super()._new_conn()
        deadline = time.monotonic() + seconds
        try:
            for left in range(len(addresses), 1, -1):
                self._dns_host, self.timeout = addresses[-left], _share(deadline, left)
                with suppress(ConnectTimeoutError, NewConnectionError):
                    return super()._new_conn()
            self._dns_host, self.timeout = addresses[-1], _share(deadline, 1)
            return super()._new_conn()
        finally:
            self._dns_host, self.timeout = name, seconds


def _addresses_of(name: str, port: int | None) -> list[str]:
    try:
        found = socket.getaddrinfo(name.strip("[]"), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []  # urllib3 will raise the error
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _share(deadline: float, left: int) -> float:
    # A timeout of 0 would mean a non-blocking socket.
    return max(0.001, (deadline - time.monotonic()) / left)


class _TlsConnection(HTTPSConnection, _Connection):
    response_class = _Response

    def connect(self) -> None:
        try:
            super().connect()
        except TimeoutError as error:
            # Of the handshake or the proxy: urllib3 would report it as a read timeout.
            raise ConnectTimeoutError(self, f"connecting timed out ({error})") from error


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class SessionWithoutRedirects(Session):
    """A session without redirects: requests would parse even the address of one not followed,
    and raise an undocumented error if it is invalid."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        return None


_POOLS = {"http": _Pool, "https": _TlsPool}


def total_timeout(seconds: float, connecting: float) -> Any:
    """The ``timeout`` argument of ``requests`` that covers connecting, sending and the answer.

    :param connecting: the most seconds of it for connecting
    """
    return Timeout(total=seconds, connect=min(seconds, connecting))


def timed_out_within(error: requests.RequestException | ValueError) -> bool:
    """Whether it is a timeout while the body was read; requests has no type for it."""
    return any(isinstance(cause, ReadTimeoutError) for cause in error.args)


def innermost(error: BaseException) -> str:
    """The text of the innermost cause; urllib3 wraps errors several times."""
    cause: Any = error
    for _ in range(6):
        inner = getattr(cause, "reason", None) or next(
            (arg for arg in getattr(cause, "args", ()) if isinstance(arg, BaseException)), None
        )
        if not isinstance(inner, BaseException):
            break
        cause = inner
    text = str(cause).rsplit(">: ", 1)[-1].partition(" (read timeout=")[0]
    return re.sub(r"^\w+\(host=[^)]*\): ", "", text) or type(cause).__name__
