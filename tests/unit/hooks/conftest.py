"""A fake IoTDA that answers, or misbehaves, as a test says, and one face for both hooks."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

TASK_ID = "5c8fb0d3c1a2e45678901234"


@dataclass(frozen=True)
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any
    connection: int = 0


@dataclass(frozen=True)
class Reply:
    """What the fake does with a request.

    :param early: informational answers before the answer
    :param fault: ``close`` or ``reset`` the connection without an answer, ``cut`` the answer off,
        ``drip`` its body or ``drip head`` a byte at a time, ``echo`` the request's secrets where
        HTTP has no room for them, or ``hang`` until the fake is closed (``hang head``: in the midst
        of the headers)
    """

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: str | None = None
    early: tuple[int, ...] = ()


Answer = Reply | Callable[[Seen], Reply]


def task_json(status: str = "Processing", **progress: int) -> dict[str, Any]:
    progress = progress or {"total": 2, "processing": 2}
    return {
        "task_id": TASK_ID,
        "task_name": "rollout",
        "task_type": "firmwareUpgrade",
        "status": status,
        "task_progress": progress,
    }


class FakeIoTDA:
    """Answers with the next of ``answers``, of which the last is kept."""

    def __init__(self) -> None:
        self.answers: list[Answer] = [Reply(body=task_json())]
        self.seen: list[Seen] = []
        self.under_way = self.most_under_way = 0
        self.closing = threading.Event()
        self.news = threading.Condition()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                fake.handle(self)

            do_GET = do_POST = do_PUT = do_DELETE = handle_any

            def log_message(self, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 128

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()

    def answer(self, *answers: Answer) -> None:
        self.answers = list(answers)

    def wait_for(self, count: int) -> None:
        """Wait until so many requests have arrived."""
        with self.news:
            assert self.news.wait_for(lambda: len(self.seen) >= count, 60)

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length") or 0)
        body = handler.rfile.read(length)
        parts = urlsplit(handler.path)
        seen = Seen(
            handler.command,
            parts.path,
            dict(parse_qsl(parts.query)),
            dict(handler.headers.items()),
            json.loads(body) if body else None,
            handler.client_address[1],
        )
        with self.news:
            self.seen.append(seen)
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            self.news.notify_all()
        try:
            reply = answer if isinstance(answer, Reply) else answer(seen)
        finally:
            # Before the reply: whoever has got it may ask again before this thread goes on.
            with self.news:
                self.under_way -= 1
        with contextlib.suppress(OSError):
            self.reply(handler, reply)

    def reply(self, handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        if reply.fault == "hang":
            self.closing.wait()
        if reply.fault == "reset":
            linger = struct.pack("ii", 1, 0)
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        if reply.fault in ("hang", "reset", "close"):
            handler.close_connection = True
            handler.connection.close()
            return
        if reply.fault == "echo":
            handler.close_connection = True
            signature = handler.headers["Authorization"].split("Signature=")[1]
            sent = signature + handler.headers["X-Security-Token"]
            start = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            handler.wfile.write(f"{start}{sent}\r\n".encode())
            return
        if reply.fault == "hang head":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: appli")
            self.closing.wait()
            return
        if reply.fault == "drip head":
            self.drip(handler, b"HTTP/1.1 200 OK\r\nX-Padding: " + bytes(10_000))
            return
        text = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
        data = text.encode() if reply.body is not None else b""
        for status in reply.early:
            handler.wfile.write(f"HTTP/1.1 {status} So far\r\nLink: </x>\r\n\r\n".encode())
        handler.send_response(reply.status)
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Type", "application/json")
        if "Content-Length" not in reply.headers:
            handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        if reply.fault == "drip":
            self.drip(handler, data)
            return
        handler.wfile.write(data[: len(data) // 2] if reply.fault == "cut" else data)
        if reply.fault == "cut":
            handler.close_connection = True

    def drip(self, handler: BaseHTTPRequestHandler, data: bytes) -> None:
        for byte in data:
            if self.closing.wait(0.05):
                return
            handler.wfile.write(bytes((byte,)))


@pytest.fixture
def fake() -> Iterator[FakeIoTDA]:
    fake = FakeIoTDA()
    yield fake
    fake.close()


@pytest.fixture
def connect(fake: FakeIoTDA, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets ``iotda_default``: its host is the fake's unless said otherwise, the rest is Extra."""

    def connect(*, host: str | None = None, **extra: Any) -> None:
        connection = {
            "conn_type": "iotda",
            "host": host or fake.url,
            "login": "access-key",
            "password": "secret-key",
            "extra": {"region": "cn-north-4", "project_id": "project-1", **extra},
        }
        monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(connection))

    connect()
    return connect


class Client:
    """Either hook, driven in the same way: coroutines are run, iterators become lists."""

    def __init__(self, kind: str) -> None:
        from iotda_provider.hooks.iotda import IoTDAAsyncHook, IoTDAHook

        self.kind = kind
        self.hook: Any = IoTDAHook() if kind == "blocking" else IoTDAAsyncHook()
        self.loop = asyncio.new_event_loop()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.hook, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            return self.wait_for(method(*args, **kwargs))

        return call

    def wait_for(self, result: Any) -> Any:
        if inspect.isasyncgen(result):
            result = self.collect(result)
        if inspect.isawaitable(result):
            return self.loop.run_until_complete(result)
        return list(result) if inspect.isgenerator(result) else result

    async def collect(self, items: AsyncIterator[Any]) -> list[Any]:
        return [item async for item in items]

    @property
    def settings(self) -> Any:
        """What the hook has read of its connection."""
        if self.kind == "blocking":
            return self.hook.settings
        return self.wait_for(self.hook._open()).settings

    def json_of(self, response: Any) -> Any:
        return self.wait_for(response.json())

    def finish(self) -> None:
        self.wait_for(self.hook.close())
        self.loop.run_until_complete(asyncio.sleep(0))  # lets transports close
        self.loop.close()


@pytest.fixture(params=["blocking", "asynchronous"])
def client(request: pytest.FixtureRequest, connect: Callable[..., None]) -> Iterator[Client]:
    client = Client(request.param)
    yield client
    client.finish()


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two attempts there is the shortest wait that the jitter allows: none."""
    monkeypatch.setattr("iotda_provider.transport.retrying.random.uniform", lambda low, high: low)
