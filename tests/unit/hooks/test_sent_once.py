"""A request that does something each time is sent once, whatever its method and its connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from iotda_provider.exceptions import IoTDATransportError
from iotda_provider.hooks.iotda_async import IoTDAAsyncHook

TASK_ID = "5c8fb0d3c1a2e45678901234"
TASK = f'{{"task_id": "{TASK_ID}", "task_type": "firmwareUpgrade", "status": "Success"}}'


class Closing:
    """A server that answers a GET and keeps the connection; at any other request it closes it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.asked.append(head.split(b" ", 1)[0].decode())
                if self.asked[-1] != "GET":
                    break
                answer = f"HTTP/1.1 200 OK\r\nContent-Length: {len(TASK)}\r\n\r\n{TASK}"
                writer.write(answer.encode())
        writer.close()


@pytest.fixture
async def closing(connect: Callable[..., None]) -> AsyncIterator[Closing]:
    server = Closing()
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        connect(host=f"http://127.0.0.1:{port}")
        yield server


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_aiohttp_does_not_repeat_it_on_a_new_connection(
    closing: Closing, method: str
) -> None:
    async with IoTDAAsyncHook() as hook:
        await hook.get_batch_task(TASK_ID)
        with pytest.raises(IoTDATransportError, match="the connection broke") as error:
            await hook.run("devices/d1", method=method)

    assert closing.asked == ["GET", method]
    assert error.value.sent
