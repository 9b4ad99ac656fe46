"""One aiohttp session for all hooks of a host in one event loop; the last one closes it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
import sys
from collections import deque
from collections.abc import Callable
from weakref import WeakKeyDictionary

from aiohttp import ClientSession, DummyCookieJar, TCPConnector

from iotda_provider.airflow_support.threads import in_thread
from iotda_provider.api import Repeat
from iotda_provider.connection.proxies_and_tls import proxy_for, secrets_of_proxies, ssl_context_for
from iotda_provider.connection.settings import ConnectionSettings
from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.transport.headers import UNSIGNED_HEADERS
from iotda_provider.transport.lending import Lending

#: The most requests to one host that an event loop has under way: so many reads, and as many calls
#: that change something, which must not wait for reads.
SLOTS_PER_HOST = 64
_KEEP_ALIVE_SECONDS = 60.0
_MAX_HEADER_BYTES = 65_536
# Whether asyncio can begin TLS within TLS.
_TLS_IN_TLS = sys.version_info >= (3, 11)


# Two connections with the same route share a session; each request has its own credentials.
_Route = tuple[str, bool | str, bytes]


class _Slots:
    """A semaphore with a timeout: slots for requests; first come, first served."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._queue: deque[asyncio.Future[bool]] = deque()

    async def acquire(self, seconds: float) -> bool:
        """Whether a slot became free in time; if so, the caller must :meth:`release` it."""
        if self._free > 0:
            self._free -= 1
            return True
        loop = asyncio.get_running_loop()
        slot: asyncio.Future[bool] = loop.create_future()
        self._queue.append(slot)
        timer = loop.call_later(seconds, self._give_up, slot)
        try:
            return await slot
        except asyncio.CancelledError:
            if not slot.cancelled() and slot.result():
                self.release()
            raise
        finally:
            timer.cancel()

    @staticmethod
    def _give_up(slot: asyncio.Future[bool]) -> None:
        if not slot.done():
            slot.set_result(False)

    def release(self) -> None:
        """Hand the slot to the first in the queue, or make it free."""
        while self._queue:
            slot = self._queue.popleft()
            if not slot.done():
                slot.set_result(True)
                return
        self._free += 1


class SharedSession(Lending[ClientSession]):
    """A pooled session that calls share, and how many hooks use it.

    :param make: opens the session
    :param secrets: the secrets in the proxies' addresses, which an answer may echo
    :param routes: the dictionary that holds this session while it is used
    """

    def __init__(
        self,
        make: Callable[[], ClientSession],
        proxy: str | None,
        secrets: tuple[str, ...],
        routes: _Routes,
    ) -> None:
        super().__init__(make)
        self.proxy = proxy
        self.secrets = secrets
        self.routes = routes
        self.users = 0
        # aiohttp's own limit would not tell reads from changes, and a timeout while waiting for it
        # looks as if the request had been sent.
        self._reads, self._changes = _Slots(SLOTS_PER_HOST), _Slots(SLOTS_PER_HOST)

    async def put_back(self, session: ClientSession) -> None:
        """End a call; the last one closes a session that was replaced."""
        if self.give_back(session):
            await session.close()

    async def close(self) -> None:
        """Close the session once no call uses it any more."""
        if (session := self.end()) is not None:
            await session.close()

    async def acquire_slot(self, repeat: Repeat, seconds: float) -> Callable[[], None] | None:
        """Wait for a slot; returns its release, or None if none became free in time.

        :param repeat: what repeating the request does: reads and changes have separate slots
        """
        slots = self._reads if repeat.is_read else self._changes
        return slots.release if await slots.acquire(seconds) else None


_Routes = dict[_Route, SharedSession]
_sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, _Routes] = WeakKeyDictionary()
_salt = os.urandom(16)
_of_the_parent: list[object] = []


async def borrow(settings: ConnectionSettings) -> SharedSession:
    """The session for a connection, opened by its first user; end the use with :func:`give_back`.

    :raises IoTDAConfigError: the connection's CA bundle can't be read, or its proxy can't be used
    """
    routes = _sessions.setdefault(asyncio.get_running_loop(), {})
    # Hashed: a route must not reveal the proxies' passwords.
    proxies = hashlib.blake2b(repr(sorted(settings.proxies.items())).encode(), key=_salt).digest()
    route = (settings.base_url, settings.verify, proxies)
    if route not in routes:
        context = await in_thread(ssl_context_for, settings)
        if route not in routes:  # another task may have opened it meanwhile
            proxy = proxy_for(settings)  # it may raise, so before a session is opened
            if proxy and proxy.startswith("https") and not _TLS_IN_TLS:
                # Only https hosts are left here. aiohttp would say that the connection broke.
                raise IoTDAConfigError(
                    f"Connection {settings.conn_id!r}: a triggerer on Python 3.10 can't reach a "
                    "host through an https:// proxy. Use http:// for the proxy, Python 3.11, or "
                    "deferrable=False."
                )

            def make() -> ClientSession:
                return _open(context)

            routes[route] = SharedSession(make, proxy, secrets_of_proxies(settings), routes)
    shared = routes[route]
    shared.users += 1
    return shared


def _open(context: ssl.SSLContext | bool) -> ClientSession:
    session = ClientSession(
        connector=TCPConnector(limit=0, ssl=context, keepalive_timeout=_KEEP_ALIVE_SECONDS),
        # The API sets no cookies; a proxy that sets one gets none back.
        cookie_jar=DummyCookieJar(),
        headers=UNSIGNED_HEADERS,
        # As in http.client.
        max_line_size=_MAX_HEADER_BYTES,
        max_field_size=_MAX_HEADER_BYTES,
        trust_env=False,  # True would let a .netrc replace the authentication
    )
    # The pipeline repeats what may be repeated. aiohttp would repeat every PUT and DELETE, too.
    session._retry_connection = False
    return session


async def give_back(shared: SharedSession) -> None:
    """End the use of a session; its last user, or the last call under way, closes it.

    It works on a closed event loop, too.
    """
    shared.users -= 1
    if shared.users > 0:
        return
    for route, known in list(shared.routes.items()):
        if known is shared:
            del shared.routes[route]
    await shared.close()


def _leave_alone() -> None:
    """Keep the parent's sessions in a forked process, but do not use them.

    The parent uses their sockets, so they must be neither closed nor garbage-collected here.
    """
    _of_the_parent.append(list(_sessions.items()))
    _sessions.clear()


os.register_at_fork(after_in_child=_leave_alone)
