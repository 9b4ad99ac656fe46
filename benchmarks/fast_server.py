"""A server that answers batch-task calls as fast as this machine can, for measuring clients alone.

It checks nothing, and runs as a process of its own:
``python benchmarks/fast_server.py --latency 0.05``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast
from urllib.parse import parse_qsl

TASK_ID = "5c8fb0d3c1a2e45678901234"
PROJECT_ID = "benchmark"


def task_body(total: int) -> dict[str, object]:
    """A task in the middle of a rollout, as the platform describes it."""
    return {
        "task_id": TASK_ID,
        "task_name": "benchmark",
        "task_type": "firmwareUpgrade",
        "status": "Processing",
        "create_time": "20260101T000000Z",
        "targets": [f"device-{number:06}" for number in range(100)],
        "document": {"package_ids": ["32822e5744a45ede319d2c50"]},
        "task_progress": {"total": total, "processing": total},
    }


class Fleet:
    """The answers; those that do not depend on the request are made once."""

    def __init__(self, subtasks: int) -> None:
        self.subtasks = subtasks
        self.task = task_body(subtasks)
        one = {"task_details": self.rows(0, 1), "page": {"count": subtasks, "marker": "1"}}
        self.shown = answer(200, {"batchtask": self.task, **one})

    def rows(self, start: int, count: int) -> list[dict[str, str]]:
        last = min(start + count, self.subtasks)
        return [{"target": f"device-{n:07}", "status": "Processing"} for n in range(start, last)]

    def answer_to(self, method: bytes, query: bytes, body: bytes) -> bytes:
        if method == b"POST":
            rows = [{"target": t, "status": "success"} for t in json.loads(body).get("targets", ())]
            return answer(200, {"targets": rows})
        asked = dict(parse_qsl(query.decode()))
        limit, start = int(asked.get("limit", "10")), int(asked.get("marker", "0"))
        if limit == 1:
            return self.shown
        page = {"count": self.subtasks, "marker": str(start + limit)}
        task = {key: value for key, value in self.task.items() if key != "targets"}
        return answer(
            200, {"batchtask": task, "task_details": self.rows(start, limit), "page": page}
        )


def answer(status: int, body: object) -> bytes:
    text = json.dumps(body).encode()
    head = f"HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\nContent-Length: {len(text)}"
    return head.encode() + b"\r\n\r\n" + text


class Connection(asyncio.Protocol):
    """Just enough HTTP/1.1 for clients that follow it."""

    def __init__(self, fleet: Fleet, latency: float) -> None:
        self.fleet = fleet
        self.latency = latency
        self.buffer = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is not one by class

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end]
            length = 0
            for line in head.split(b"\r\n"):
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            if len(self.buffer) < end + 4 + length:
                return
            body = self.buffer[end + 4 : end + 4 + length]
            self.buffer = self.buffer[end + 4 + length :]
            method, uri, _ = head.split(b" ", 2)
            reply = self.fleet.answer_to(method, uri.partition(b"?")[2], body)
            if self.latency:
                asyncio.get_running_loop().call_later(self.latency, self.send, reply)
            else:
                self.send(reply)

    def send(self, reply: bytes) -> None:
        assert self.transport is not None
        if not self.transport.is_closing():
            self.transport.write(reply)


async def serve(latency: float, subtasks: int) -> None:
    fleet = Fleet(subtasks)
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(fleet, latency), "127.0.0.1", 0, backlog=2048
    )
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


@contextmanager
def running(latency: float = 0.0, subtasks: int = 30_000) -> Iterator[str]:
    """The server as a process of its own; its URL."""
    command = [sys.executable, __file__, f"--latency={latency}", f"--subtasks={subtasks}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--subtasks", type=int, default=30_000)
    arguments = parser.parse_args()
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve(arguments.latency, arguments.subtasks))
    else:
        uvloop.run(serve(arguments.latency, arguments.subtasks))


if __name__ == "__main__":
    main()
