"""Runs the emulator in a thread of the caller's process, for tests and notebooks."""

from __future__ import annotations

import asyncio
import secrets
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from iotda_provider.emulator.identity.signatures import DERIVED
from iotda_provider.emulator.state.instance import Instance, Settings
from iotda_provider.emulator.state.journal import Entry
from iotda_provider.emulator.web.host_check import is_loopback
from iotda_provider.emulator.web.server import Server, bind, url_of

_T = TypeVar("_T")
_START_SECONDS = 60.0


class Emulator:
    """An emulated IoTDA instance inside this process, on a free loopback port.

    Use it as a context manager, or call ``start`` and ``stop``. It runs on an event loop of its
    own in a thread; its methods may be called from any other thread.

    :param scenario: what to emulate, as in a scenario file; None: the defaults, or what ``state``
        remembers
    :param ak: the access key that calls must be signed with
    :param sk: its secret key
    :param project_id: the project that calls must name
    :param security_token: makes the key a temporary one
    :param seed: the source of all chance
    :param speed: virtual seconds per real second; 0: time moves by ``advance`` only
    :param state: the file that keeps its state over a restart; None: it keeps nothing
    :param control: whether control calls are answered too; ``control_key`` is their key
    :param host: where to listen; loopback
    :param port: where to listen; 0: a free port
    :param region: the region that ``airflow_connection`` names
    :raises ScenarioError: the scenario or the state file can't be used; one line
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
        state: str | Path | None = None,
        control: bool = False,
        host: str = "127.0.0.1",
        port: int = 0,
        region: str = "cn-north-4",
    ) -> None:
        if not is_loopback(host):
            raise ValueError(f"host must be a loopback address, not {host}")
        self.control_key = secrets.token_urlsafe(18) if control else None
        self.instance = Instance(
            None if scenario is None else dict(scenario),
            Settings(
                ak=ak,
                sk=sk,
                project_id=project_id,
                security_token=security_token,
                seed=seed,
                speed=speed,
                state=None if state is None else Path(state),
                control_key=self.control_key,
            ),
        )
        self._address = (host, port)
        self._region = region
        self._url: str | None = None
        self._server: Server | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __enter__(self) -> Emulator:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def start(self) -> None:
        """Start to serve; returns when it listens.

        :raises OSError: the address is taken
        """
        if self._thread is not None:
            raise RuntimeError("the emulator is running already")
        bound = bind(*self._address)
        self._url = url_of(bound)
        ready: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(bound, ready), name="iotda-emulator", daemon=True
        )
        self._thread.start()
        ready.result(_START_SECONDS)

    def _run(self, bound: socket.socket, ready: Future[None]) -> None:
        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            self._server = Server(self.instance, bound, self._address[0])
            await self._server.serve_until_end(lambda: ready.set_result(None))

        try:
            asyncio.run(serve())
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    def stop(self) -> None:
        """Stop serving, and wait for the thread. The next ``start`` continues the same world."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if self._server is not None and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._server.end)
        thread.join()
        self._loop = self._server = self._url = None

    def close(self) -> None:
        """Stop for good and close the state file."""
        self.stop()
        self.instance.close()

    @property
    def url(self) -> str:
        """Where it listens."""
        if self._url is None:
            raise RuntimeError("the emulator is not running")
        return self._url

    @property
    def airflow_connection(self) -> dict[str, Any]:
        """An Airflow connection to it; as JSON it fits ``AIRFLOW_CONN_IOTDA_DEFAULT``."""
        settings, switches = self.instance.settings, self.instance.scenario.switches
        extra = {"region": switches.region or self._region, "project_id": settings.project_id}
        if settings.security_token is not None:
            extra["security_token"] = settings.security_token
        if switches.instance_id is not None:
            extra["instance_id"] = switches.instance_id
        if switches.signature != "any":
            extra["derived_auth"] = "always" if switches.signature == DERIVED else "never"
        return {
            "conn_type": "iotda",
            "host": self.url,
            "login": settings.ak,
            "password": settings.sk,
            "extra": extra,
        }

    def advance(self, seconds: float) -> None:
        """Let virtual time pass; all that was due has happened when this returns."""
        self._on_loop(lambda: self.instance.advance(seconds))

    def add_fault(self, kind: str, **rule: Any) -> str:
        """Add a fault's rule; returns the rule's id.

        :param kind: what happens, such as ``lost`` or ``throttle``
        :param rule: the rule's other fields, such as ``call="stop_batch_task"`` and ``count=1``
        :raises ScenarioError: one line that names the field
        """
        return self._on_loop(lambda: self.instance.add_fault({"kind": kind, **rule}))

    def remove_fault(self, fault_id: str) -> None:
        """Remove one rule."""
        self._on_loop(lambda: self.instance.run("remove_fault", fault_id=fault_id))

    def clear_faults(self) -> None:
        """Remove all rules."""
        self._on_loop(lambda: self.instance.run("remove_fault"))

    def faults(self) -> list[dict[str, Any]]:
        """The rules, with how often each has matched and hit."""
        return self._on_loop(self.instance.faults.describe)

    def refuse_connections(self, seconds: float) -> None:
        """Stop listening for this many real seconds."""

        def refuse() -> None:
            if self.instance.refuse is not None:
                self.instance.refuse(seconds)

        self._on_loop(refuse)

    def journal(self, call: str = "*", after: int = 0) -> list[Entry]:
        """The requests of calls that match a pattern, numbered above ``after``, oldest first.

        :raises ScenarioError: the pattern matches no call
        """
        return self._on_loop(lambda: self.instance.journal.entries(call, after))

    def clear_journal(self) -> None:
        """Empty the journal."""
        self._on_loop(self.instance.forget_journal)

    def _on_loop(self, act: Callable[[], _T]) -> _T:
        """Do something in the emulator's own thread, between two requests."""
        if self._loop is None:
            return act()

        async def run() -> _T:
            return act()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()
