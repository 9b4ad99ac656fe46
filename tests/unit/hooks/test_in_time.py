"""What a call waits for before it is sent keeps no other call, and leaves it all of its time.

Time passes by a clock of the test's own, which moves where an answer says so.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import requests

from iotda_provider.exceptions import (
    IoTDAAuthError,
    IoTDAServerError,
    IoTDATransportError,
)
from iotda_provider.hooks.iotda import IoTDAAsyncHook, IoTDAHook

TASK_ID = "5c8fb0d3c1a2e45678901234"
TASK = {"task_id": TASK_ID, "status": "Processing", "task_progress": {"total": 1, "processing": 1}}
TOKENS = "/v3/auth/tokens"
ID_TOKENS = "/v3.0/OS-AUTH/id-token/tokens"
KEYS = "/v3.0/OS-CREDENTIAL/securitytokens"
PROJECTS = "/v3/projects"
#: Of a connection whose one attempt may take nearly all of its time.
TIMES = {"timeout": 30, "attempt_timeout": 29.9}


_CLOCKS = (
    "transport.retrying",
    "auth.authenticator",
    "auth.renewal",
    "auth.credential_requests",
    "transport.blocking_send",
)


class World:
    """IAM and IoTDA at one address: what each of them answers, and how long that takes."""

    def __init__(self, fake: Any, connect: Callable[..., None]) -> None:
        self.fake = fake
        self.connect_ = connect
        self.reply = type(fake.answers[0])
        self.now = 1_000.0
        self.takes = {"iam": 0.0, "iotda": 0.0}
        self.status = {"iam": 201, "iotda": 200}
        #: Seconds that each request was given, in the order of sending.
        self.given: dict[str, list[float]] = {"iam": [], "iotda": []}
        fake.answer(self.answer)

    def connect(self, auth_type: str, **extra: Any) -> None:
        self.connect_(auth_type=auth_type, iam_endpoint=self.fake.url, **extra)

    @staticmethod
    def who(path: str) -> str:
        return "iotda" if path.startswith("/v5/") else "iam"

    def asked(self, who: str) -> int:
        return sum(self.who(seen.path) == who for seen in self.fake.seen)

    def answer(self, seen: Any) -> Any:
        who = self.who(seen.path)
        self.now += self.takes[who]
        body: Any = TASK
        if who == "iam":
            body = {"token": {"expires_at": "2999-01-01T00:00:00.000000Z"}}
        if seen.path == TOKENS:
            body["token"]["issued_at"] = "2998-12-31T23:43:20.000000Z"  # for 1,000 s
        if seen.path == KEYS:
            key = {"access": "ACCESS", "secret": "secret-1", "securitytoken": "security-token-1"}
            body = {"credential": {**key, "expires_at": "2999-01-01T00:00:00.000000Z"}}
        if seen.path == PROJECTS:
            body = {"projects": [{"id": "project-9"}]}
        headers = {"X-Subject-Token": "token-1"} if who == "iam" else {}
        return self.reply(status=self.status[who], body=body, headers=headers)


@pytest.fixture
def world(
    fake: Any, connect: Callable[..., None], monkeypatch: pytest.MonkeyPatch, no_backoff: None
) -> World:
    """Its clock is everybody's, but no socket goes by it: all wait long enough for an answer."""
    world = World(fake, connect)
    clock = SimpleNamespace(time=lambda: world.now, monotonic=lambda: world.now)
    for module in _CLOCKS:
        monkeypatch.setattr(f"iotda_provider.{module}.time", clock)
    monkeypatch.setattr("iotda_provider.auth.renewal.monotonic", clock.monotonic)
    send, client_timeout = requests.Session.send, aiohttp.ClientTimeout

    def noted(self: Any, request: Any, **more: Any) -> Any:
        world.given[world.who(urlsplit(request.url).path)].append(more["timeout"].total)
        return send(self, request, **{**more, "timeout": 60})

    def given(total: float, **more: Any) -> Any:
        world.given["iotda"].append(total)
        return client_timeout(total=60)

    monkeypatch.setattr(requests.Session, "send", noted)
    monkeypatch.setattr(aiohttp, "ClientTimeout", given)
    return world


@pytest.fixture
def federated(world: World, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> World:
    """Keys for an id token, and the region's project: three requests to IAM."""
    file = tmp_path / "id_token"
    file.write_text("id.token.1")
    extra = {"auth_type": "federation", "idp_id": "idp-1", "id_token_file": str(file)}
    extra |= {"region": "cn-north-4", "iam_endpoint": world.fake.url}
    connection = {"conn_type": "iotda", "host": world.fake.url, "extra": {**extra, **TIMES}}
    monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(connection))
    return world


@pytest.fixture
def by_token(world: World) -> World:
    world.connect("token", domain_name="account", **TIMES)
    return world


class TestBudgets:
    def test_all_requests_for_credentials_share_one_and_the_call_has_its_own(
        self, client: Any, federated: World
    ) -> None:
        federated.takes["iam"] = 8

        assert client.get_batch_task(TASK_ID)

        assert [seen.path for seen in federated.fake.seen[:3]] == [ID_TOKENS, KEYS, PROJECTS]
        assert federated.given == {"iam": [29.9, 22, 14], "iotda": [29.9]}

    def test_credentials_that_take_longer_are_an_error_and_the_call_is_not_sent(
        self, client: Any, federated: World
    ) -> None:
        federated.takes["iam"] = 16

        with pytest.raises(IoTDATransportError, match="Could not obtain temporary keys") as caught:
            client.get_batch_task(TASK_ID)

        assert not caught.value.sent
        assert federated.given == {"iam": [29.9, 14], "iotda": []}

    def test_a_renewal_that_hangs_spoils_no_call_while_the_old_token_is_good(
        self, client: Any, by_token: World
    ) -> None:
        assert client.get_batch_task(TASK_ID)
        by_token.now += 800  # of the 1,000 that the token is good for
        by_token.takes["iam"] = 60

        assert client.stop_batch_task(TASK_ID, []) is not None
        assert client.get_batch_task(TASK_ID)

        assert by_token.given == {"iam": [29.9, 5], "iotda": [29.9, 29.9]}

    def test_a_call_is_not_sent_again_where_no_answer_can_come_in_time(
        self, client: Any, world: World
    ) -> None:
        world.connect("aksk", **TIMES)
        world.takes["iotda"], world.status["iotda"] = 29.5, 503

        with pytest.raises(IoTDAServerError):
            client.get_batch_task(TASK_ID)

        assert world.given["iotda"] == [29.9]

    def test_nor_after_a_401(self, client: Any, by_token: World) -> None:
        by_token.takes["iotda"], by_token.status["iotda"] = 29.5, 401

        with pytest.raises(IoTDAAuthError):
            client.get_batch_task(TASK_ID)

        assert by_token.given == {"iam": [29.9], "iotda": [29.9]}

    def test_renewing_after_a_401_is_not_at_the_calls_expense(
        self, client: Any, by_token: World
    ) -> None:
        by_token.takes["iam"], by_token.status["iotda"] = 20, 401

        with pytest.raises(IoTDAAuthError):
            client.get_batch_task(TASK_ID)

        assert by_token.given == {"iam": [29.9, 29.9], "iotda": [29.9, 29.9]}


def in_threads(count: int) -> list[Any]:
    def one(_: int) -> Any:
        with IoTDAHook() as hook:
            try:
                return hook.get_batch_task(TASK_ID)
            except IoTDAAuthError as error:
                return error

    with ThreadPoolExecutor(20) as pool:
        return list(pool.map(one, range(count)))


def in_one_loop(count: int) -> list[Any]:
    async def one() -> Any:
        async with IoTDAAsyncHook() as hook:
            return await hook.get_batch_task(TASK_ID)

    async def all_of_them() -> list[Any]:
        return await asyncio.gather(*(one() for _ in range(count)), return_exceptions=True)

    return asyncio.run(all_of_them())


@pytest.mark.parametrize("at_once", [in_threads, in_one_loop])
def test_a_wrong_password_is_sent_once_whoever_asks(by_token: World, at_once: Any) -> None:
    by_token.status["iam"] = 401

    errors = at_once(200)

    assert {type(error) for error in errors} == {IoTDAAuthError}
    assert by_token.asked("iam") == 1
    by_token.now += 6
    at_once(2)
    assert by_token.asked("iam") == 2, "and again when somebody may have put it right"


def connection(url: str, **changes: Any) -> str:
    extra = {"region": "cn-north-4", "project_id": "project-1", "max_attempts": 1, "timeout": 60}
    return json.dumps(
        {
            "conn_type": "iotda",
            "host": url,
            "login": changes.pop("login", "another-key"),
            "password": "secret-key",
            "extra": {**extra, **changes},
        }
    )


class TestQueue:
    """Many calls of one connection, in one event loop with another connection to the same host."""

    @pytest.fixture
    def other(self, fake: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., IoTDAAsyncHook]:
        def make(name: str = "other", **changes: Any) -> IoTDAAsyncHook:
            monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", connection(fake.url, **changes))
            return IoTDAAsyncHook(name)

        return make

    @pytest.fixture
    def held(self, fake: Any) -> Iterator[threading.Event]:
        event = threading.Event()
        yield event
        event.set()

    async def test_who_waits_for_iam_keeps_nobody_from_the_host(
        self, fake: Any, connect: Any, other: Any, held: threading.Event
    ) -> None:
        connect(auth_type="token", domain_name="account", iam_endpoint=fake.url, max_attempts=1)
        reply = type(fake.answers[0])

        def answer(seen: Any) -> Any:
            if seen.path == TOKENS:
                held.wait(120)
                return reply(status=401)
            return reply(body=TASK)

        fake.answer(answer)
        async with IoTDAAsyncHook() as mine, other() as others:
            waiting = [asyncio.create_task(mine.get_batch_task(TASK_ID)) for _ in range(200)]
            await asyncio.to_thread(fake.wait_for, 1)

            assert (await others.get_batch_task(TASK_ID)).task_id == TASK_ID

            assert not any(one.done() for one in waiting)
            held.set()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def test_who_waits_for_his_own_rate_limit_keeps_nobody_from_the_host(
        self, fake: Any, connect: Any, other: Any
    ) -> None:
        connect(max_requests_per_second=0.001)
        async with IoTDAAsyncHook() as mine, other() as others:
            await mine.get_batch_task(TASK_ID)
            waiting = [asyncio.create_task(mine.get_batch_task(TASK_ID)) for _ in range(200)]
            await asyncio.sleep(0)

            assert (await others.get_batch_task(TASK_ID)).task_id == TASK_ID

            assert not any(one.done() for one in waiting)
            for one in waiting:
                one.cancel()
            await asyncio.wait(waiting)

    async def test_a_call_waits_for_its_turn_no_longer_than_its_timeout_and_a_stop_not_at_all(
        self, fake: Any, connect: Any, other: Any, held: threading.Event
    ) -> None:
        from iotda_provider.transport.sessions import SLOTS_PER_HOST

        reply = type(fake.answers[0])

        def answer(seen: Any) -> Any:
            if seen.method == "GET":
                held.wait(120)
                return reply(body=TASK)
            rows = [{"target": target, "status": "success"} for target in seen.body["targets"]]
            return reply(body={"targets": rows})

        fake.answer(answer)
        connect(timeout=120)
        async with (
            IoTDAAsyncHook() as mine,
            other("hasty", timeout=0.2) as hasty,
            other() as others,
        ):
            reads = [asyncio.create_task(mine.get_batch_task(TASK_ID)) for _ in range(300)]
            await asyncio.to_thread(fake.wait_for, SLOTS_PER_HOST)

            with pytest.raises(IoTDATransportError, match="before its turn came") as caught:
                await hasty.get_batch_task(TASK_ID)
            assert (await others.stop_batch_task(TASK_ID, ["d1"])).succeeded

            assert not caught.value.sent
            assert len(fake.seen) == SLOTS_PER_HOST + 1
            for one in reads[1::2]:
                one.cancel()
            held.set()
            answers = await asyncio.gather(*reads, return_exceptions=True)
            assert [answer.task_id for answer in answers[::2]] == [TASK_ID] * 150
