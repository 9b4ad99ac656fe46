"""One aiohttp session for all that talk to the same host in one event loop, closed by the last."""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
from collections import deque
from collections.abc import Callable
from weakref import WeakKeyDictionary

from aiohttp import ClientSession, DummyCookieJar, TCPConnector

from iotda_provider.airflow_support.threads import in_thread
from iotda_provider.api import Repeat
from iotda_provider.connection.proxies_and_tls import proxy_for, secrets_of_proxies, ssl_context_for
from iotda_provider.connection.settings import ConnectionSettings
from iotda_provider.transport.headers import UNSIGNED_HEADERS
from iotda_provider.transport.lending import Lending

#: Requests to one host that one event loop has under way at the same time: so many that read, and
#: beside them so many that change something, which is never to wait until all have read.
MAX_IN_FLIGHT = 64
_KEEP_ALIVE_SECONDS = 60.0
_MAX_HEADER_BYTES = 65_536


# What makes two connections share a session: not credentials, which each request has of its own.
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


class SharedSession:
    """A pooled session and how many hooks use it.

    :param make: opens the session
    :param secrets: what of the proxies' addresses an answer may echo
    :param routes: where it is found while anybody uses it
    """

    def __init__(
        self,
        make: Callable[[], ClientSession],
        proxy: str | None,
        secrets: tuple[str, ...],
        routes: _Routes,
    ) -> None:
        self._sessions = Lending(make)
        self.proxy = proxy
        self.secrets = secrets
        self.routes = routes
        self.users = 0
        # Not the pool's own limit: that is one for both, and a request that waits for it too long
        # looks as if it had been sent.
        self._reads, self._changes = _Slots(MAX_IN_FLIGHT), _Slots(MAX_IN_FLIGHT)

    @property
    def session(self) -> ClientSession:
        """The session that the next call gets."""
        return self._sessions.current

    def take(self) -> ClientSession:
        """The session for one call, which nobody closes until it is :meth:`put_back`."""
        return self._sessions.take()

    async def put_back(self, session: ClientSession) -> None:
        """A call has ended; the last one closes a session that is not used any more."""
        if self._sessions.give_back(session):
            await session.close()

    def replace(self, session: ClientSession) -> None:
        """A connection of a borrowed session has hung: the next call gets another session."""
        self._sessions.replace(session)

    async def close(self) -> None:
        """Close the session, or have the last call that uses it do so."""
        if (session := self._sessions.end()) is not None:
            await session.close()

    async def acquire_slot(self, repeat: Repeat, seconds: float) -> Callable[[], None] | None:
        """Wait for a slot for a request: what releases it, or None where none became free in time.

        :param repeat: what repeating the request does: reads and changes have slots of their own
        """
        slots = self._reads if repeat is Repeat.READ else self._changes
        return slots.release if await slots.acquire(seconds) else None


_Routes = dict[_Route, SharedSession]
_sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, _Routes] = WeakKeyDictionary()
_salt = os.urandom(16)
_of_the_parent: list[object] = []


async def borrow(settings: ConnectionSettings) -> SharedSession:
    """The session for a connection, opened by the first who asks; give it back with `give_back`.

    :raises IoTDAConfigError: the connection's CA bundle can't be read
    """
    routes = _sessions.setdefault(asyncio.get_running_loop(), {})
    # The proxies' passwords are not to be read from it.
    proxies = hashlib.blake2b(repr(sorted(settings.proxies.items())).encode(), key=_salt).digest()
    route = (settings.base_url, settings.verify, proxies)
    if route not in routes:
        context = await in_thread(ssl_context_for, settings)
        if route not in routes:  # somebody else may have opened it meanwhile
            proxy = proxy_for(settings)  # which may refuse: before a session is opened

            def make() -> ClientSession:
                return _open(context)

            routes[route] = SharedSession(make, proxy, secrets_of_proxies(settings), routes)
    shared = routes[route]
    shared.users += 1
    return shared


def _open(context: ssl.SSLContext | bool) -> ClientSession:
    return ClientSession(
        connector=TCPConnector(limit=0, ssl=context, keepalive_timeout=_KEEP_ALIVE_SECONDS),
        # The API sets no cookies; whatever sets one is in between and gets nothing back.
        cookie_jar=DummyCookieJar(),
        headers=UNSIGNED_HEADERS,
        # As much of a header as http.client takes.
        max_line_size=_MAX_HEADER_BYTES,
        max_field_size=_MAX_HEADER_BYTES,
        trust_env=False,  # or a .netrc would replace the authentication
    )


async def give_back(shared: SharedSession) -> None:
    """Stop using a session; the last user closes it, or the last of its calls that are
    still under way. That does no harm once its loop is closed."""
    shared.users -= 1
    if shared.users > 0:
        return
    for route, known in list(shared.routes.items()):
        if known is shared:
            del shared.routes[route]
    await shared.close()


def _leave_alone() -> None:
    """In a forked process: sockets, and what an event loop asks the system about them, are shared
    with the parent, and closing a session would act upon both. So none is ever collected here."""
    _of_the_parent.append(list(_sessions.items()))
    _sessions.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_alone)
