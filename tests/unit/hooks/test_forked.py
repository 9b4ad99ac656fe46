"""A hook that was used before a fork: parent and child each have connections of their own."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

TASK_ID = "5c8fb0d3c1a2e45678901234"
TASK = {"task_id": TASK_ID, "status": "Processing", "task_progress": {"total": 1, "processing": 1}}

pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork"), reason="this system has no fork(), whose children the tests are about"
)


def succeeds_in_a_child(act: Callable[[], object]) -> bool:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(60)  # ends it where it hangs
            act()
            status = 0
        finally:
            # Nothing of the test run may go on here.
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0


def asks(client: Any, path: str) -> Callable[[], None]:
    def ask() -> None:
        client.loop = asyncio.new_event_loop()
        assert client.json_of(client.run(path)) == {"asked": path}

    return ask


@pytest.fixture(autouse=True)
def connection_read_on_the_spot(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a child Airflow waits for ever for its thread that reads connections for coroutines."""

    async def read(conn_id: str, hook: Any) -> Any:
        return hook.get_connection(conn_id)

    monkeypatch.setattr("iotda_provider.hooks.iotda_async.get_async_connection", read)


@pytest.fixture
def echoing(fake: Any) -> Any:
    reply = type(fake.answers[0])
    fake.answer(lambda seen: reply(body={"asked": seen.path}))
    return fake


def test_they_share_no_connection(client: Any, echoing: Any) -> None:
    for path in ("/v5/first", "/v5/second"):
        client.run(path)

    assert succeeds_in_a_child(asks(client, "/v5/child"))

    assert client.json_of(client.run("/v5/third")) == {"asked": "/v5/third"}
    connections = {seen.path: seen.connection for seen in echoing.seen}
    assert connections["/v5/child"] not in (connections["/v5/first"], connections["/v5/second"])
    assert connections["/v5/third"] == connections["/v5/second"], "the parent's is still open"


def test_a_child_made_while_another_thread_obtains_a_token_obtains_its_own(
    client: Any, connect: Any, fake: Any
) -> None:
    reply = type(fake.answers[0])
    tokens = iter(range(1, 10))
    go_on = threading.Event()

    def answer(seen: Any) -> Any:
        if not seen.path.startswith("/v3"):
            return reply(body={"asked": seen.path})
        number = next(tokens)
        if number == 1:
            go_on.wait(120)
        return reply(status=201, body={"token": {}}, headers={"X-Subject-Token": f"token-{number}"})

    fake.answer(answer)
    connect(auth_type="token", domain_name="account", iam_endpoint=fake.url, timeout=120)
    thread = threading.Thread(target=client.run, args=("/v5/parent",))
    thread.start()
    fake.wait_for(1)

    succeeded = succeeds_in_a_child(asks(client, "/v5/child"))

    go_on.set()
    thread.join(60)
    assert succeeded
    sent = {seen.path: seen.headers.get("X-Auth-Token") for seen in fake.seen}
    assert (sent["/v5/parent"], sent["/v5/child"]) == ("token-1", "token-2")


def test_a_child_keeps_no_rate_limit_of_the_parents(
    client: Any, connect: Any, echoing: Any
) -> None:
    connect(max_requests_per_second=0.001)
    client.run("/v5/parent")  # the next would be in a thousand seconds

    assert succeeds_in_a_child(asks(client, "/v5/child"))
