"""An attempt that gets no answer is given up, and the others have their time.

An answer here hangs until the test is over: whatever waits for it for longer than an attempt may
take would not end. On a busy machine an answer that does not hang may be late too, so requests are
counted beside the attempts that the log says were given up.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from iotda_provider.exceptions import IoTDATransportError
from iotda_provider.transport.asynchronous import AsyncTransport
from iotda_provider.transport.blocking import BlockingTransport

TASK_ID = "5c8fb0d3c1a2e45678901234"
TASK = {
    "task_id": TASK_ID,
    "task_name": "rollout",
    "task_type": "firmwareUpgrade",
    "status": "Processing",
    "task_progress": {"total": 2, "processing": 2},
}
TOKENS = "/v3/auth/tokens"

pytestmark = pytest.mark.usefixtures("no_backoff")


@pytest.fixture(autouse=True)
def attempts(connect: Callable[..., None]) -> None:
    """A tenth of a second each, in a time in which no test would wait for all of them."""
    connect(timeout=120, attempt_timeout=0.1, max_attempts=100)


@pytest.fixture
def given_up(logged: Callable[[], str]) -> Callable[[], int]:
    """How many attempts have been given up; at least one was."""

    def count() -> int:
        number = logged().count("no whole answer within")
        assert number
        return number

    return count


@pytest.fixture
def reply(fake: Any) -> Any:
    return type(fake.answers[0])


def rows(seen: Any) -> list[dict[str, str]]:
    return [{"target": target, "status": "success"} for target in seen.body["targets"]]


def method_before_reads(fake: Any) -> str:
    """The method of the first request; there are others, and all of them read."""
    first, *others = (seen.method for seen in fake.seen)
    assert set(others) == {"GET"}
    return str(first)


class TestOnce:
    @pytest.mark.parametrize("fault", ["hang", "hang head", "drip", "drip head"])
    def test_a_read(self, client: Any, fake: Any, reply: Any, given_up: Any, fault: str) -> None:
        fake.answer(reply(body=TASK, fault=fault), reply(body=TASK))

        assert client.get_batch_task(TASK_ID).task_id == TASK_ID
        assert len(fake.seen) == 1 + given_up()

    @pytest.mark.parametrize("call", ["stop_batch_task", "confirm_batch_task"])
    def test_a_call_for_some_targets(
        self, client: Any, fake: Any, reply: Any, given_up: Any, call: str
    ) -> None:
        targets = [f"d{number}" for number in range(61)]
        fake.answer(reply(fault="hang"), lambda seen: reply(body={"targets": rows(seen)}))

        results = getattr(client, call)(TASK_ID, targets)

        assert [result.target for result in results.succeeded] == targets
        assert [seen.body for seen in fake.seen] == [{"targets": targets}] * (1 + given_up())

    @pytest.mark.parametrize("call", ["stop_batch_task", "confirm_batch_task"])
    def test_a_call_for_all(
        self, client: Any, fake: Any, reply: Any, given_up: Any, call: str
    ) -> None:
        fake.answer(reply(fault="hang"), reply(body={}))

        assert list(getattr(client, call)(TASK_ID)) == []
        assert [seen.body for seen in fake.seen] == [{}] * (1 + given_up())


class TestWhereOnlyTheTimeForAllOfThemIsGiven:
    """An attempt has a third of it; the server would hang for longer than all."""

    @pytest.fixture(autouse=True)
    def attempts(self, connect: Callable[..., None]) -> None:
        connect(timeout=4)

    def test_a_read(self, client: Any, fake: Any, reply: Any) -> None:
        fake.answer(reply(fault="hang"), reply(body=TASK))
        assert client.get_batch_task(TASK_ID).task_id == TASK_ID

    def test_a_stop_of_61_targets_and_then_a_confirmation_of_all(
        self, client: Any, fake: Any, reply: Any
    ) -> None:
        targets = [f"d{number}" for number in range(61)]
        fake.answer(reply(fault="hang"), lambda seen: reply(body={"targets": rows(seen)}))
        assert len(client.stop_batch_task(TASK_ID, targets).succeeded) == 61

        fake.answer(reply(fault="hang"), reply(body={}))
        assert list(client.confirm_batch_task(TASK_ID)) == []


class TestWhatIsNotSentTwice:
    @pytest.fixture(autouse=True)
    def attempts(self, connect: Callable[..., None]) -> None:
        """Time enough to connect: what was not sent is sent again."""
        connect(timeout=120, attempt_timeout=0.3)

    def test_a_retry_is_judged_by_reading(self, client: Any, fake: Any, reply: Any) -> None:
        fake.answer(reply(fault="hang"), reply(body=TASK))

        assert list(client.retry_batch_task(TASK_ID)) == []
        assert method_before_reads(fake) == "POST"

    def test_a_retry_of_some_too(self, client: Any, fake: Any, reply: Any) -> None:
        row = {"target": "d1", "status": "Processing"}
        told = reply(body={"batchtask": TASK, "task_details": [row]})
        fake.answer(reply(fault="hang"), told)

        assert client.retry_batch_task(TASK_ID, ["d1"])[0].succeeded
        assert method_before_reads(fake) == "POST"

    def test_a_creation_is_looked_for(self, client: Any, fake: Any, reply: Any) -> None:
        shown = {"batchtask": TASK, "task_details": [{"target": "d1", "status": "Processing"}]}

        def answer(seen: Any) -> Any:
            if seen.method == "POST":
                return reply(fault="hang")
            if seen.path.endswith(TASK_ID):
                return reply(body=shown)
            is_made = any(earlier.method == "POST" for earlier in fake.seen)
            return reply(body={"batchtasks": [TASK] if is_made else []})

        fake.answer(answer)

        created = client.create_batch_task_once(
            task_name="rollout", task_type="firmwareUpgrade", targets=["d1"]
        )

        assert created.task.task_id == TASK_ID
        assert sum(seen.method == "POST" for seen in fake.seen) == 1

    def test_a_deletion_is_looked_at(self, client: Any, fake: Any, reply: Any) -> None:
        gone = {"error_code": "IOTDA.014217", "error_msg": "no such task"}
        fake.answer(reply(fault="hang"), reply(status=404, body=gone))

        client.delete_batch_task(TASK_ID)
        assert method_before_reads(fake) == "DELETE"


def test_it_may_hang_several_times(client: Any, fake: Any, reply: Any) -> None:
    fake.answer(*[reply(fault="hang")] * 3, reply(body=TASK))

    assert client.get_batch_task(TASK_ID).task_id == TASK_ID


def test_and_not_for_ever(client: Any, fake: Any, reply: Any, connect: Any) -> None:
    connect(timeout=1.5, max_attempts=20)
    fake.answer(reply(fault="hang"))

    with pytest.raises(IoTDATransportError, match="no whole answer within") as caught:
        client.get_batch_task(TASK_ID)
    assert caught.value.sent
    assert len(fake.seen) == 3


def test_one_of_many_calls_side_by_side_keeps_none_of_the_others(
    client: Any, fake: Any, reply: Any, given_up: Any, connect: Any
) -> None:
    connect(timeout=120, attempt_timeout=0.5, max_attempts=100)
    targets = [f"d{number}" for number in range(3_000)]
    hung: list[Any] = []

    def answer(seen: Any) -> Any:
        if "d700" in seen.body["targets"] and not hung:
            hung.append(seen)
            return reply(fault="hang")
        return reply(body={"targets": rows(seen)})

    fake.answer(answer)

    assert len(client.stop_batch_task(TASK_ID, targets).succeeded) == 3_000
    assert len(fake.seen) == 30 + given_up()


def test_where_one_connection_hangs_its_like_are_not_used_again(
    client: Any, fake: Any, reply: Any, connect: Any
) -> None:
    """A balancer that was replaced answers on none of the connections that are open."""
    connect(timeout=120, attempt_timeout=0.5)
    targets = [f"d{number}" for number in range(1_000)]
    fake.answer(lambda seen: reply(body={"targets": rows(seen)}))
    client.stop_batch_task(TASK_ID, targets)
    stale = {seen.connection for seen in fake.seen}
    assert len(stale) > 1
    fake.seen.clear()
    fake.answer(lambda seen: reply(body=TASK, fault="hang" if seen.connection in stale else None))

    assert client.get_batch_task(TASK_ID).task_id == TASK_ID
    assert sum(seen.connection in stale for seen in fake.seen) == 1


def test_whoever_issues_credentials_may_hang_too(
    client: Any, fake: Any, reply: Any, connect: Any
) -> None:
    connect(
        auth_type="token",
        domain_name="account",
        iam_endpoint=fake.url,
        timeout=120,
        attempt_timeout=0.3,
    )
    token = reply(status=201, body={"token": {}}, headers={"X-Subject-Token": "token-1"})
    fake.answer(reply(fault="hang"), token, reply(body=TASK))

    assert client.get_batch_task(TASK_ID).task_id == TASK_ID
    assert [seen.path == TOKENS for seen in fake.seen][:3] == [True, True, False]


class TestConnecting:
    @pytest.fixture
    def silent(self) -> Iterator[str]:
        """Takes connections, and says nothing."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            yield f"https://127.0.0.1:{server.getsockname()[1]}"

    def test_what_hangs_there_was_not_sent(self, client: Any, connect: Any, silent: str) -> None:
        connect(host=silent, timeout=120, attempt_timeout=1, max_attempts=2)

        with pytest.raises(IoTDATransportError, match="connecting timed out") as caught:
            client.retry_batch_task(TASK_ID, ["d1"])
        assert not caught.value.sent

    @pytest.mark.skipif(sys.platform != "linux", reason="others refuse what Linux leaves waiting")
    def test_an_address_that_is_silent_leaves_the_others_their_time(
        self, client: Any, connect: Any, fake: Any, monkeypatch: Any
    ) -> None:
        port = fake.server.server_address[1]
        resolve = socket.getaddrinfo
        # The first three of its addresses take no connection, and say nothing of it.
        silent = [f"127.0.0.{number}" for number in (2, 3, 4)]

        def resolved(host: Any, *args: Any, **kwargs: Any) -> Any:
            if host != "iotda.localhost":
                return resolve(host, *args, **kwargs)
            found = [resolve(address, *args, **kwargs) for address in (*silent, "127.0.0.1")]
            return [info for infos in found for info in infos]

        monkeypatch.setattr(socket, "getaddrinfo", resolved)
        times = {"timeout": 120, "attempt_timeout": 2}
        connect(host=f"http://iotda.localhost:{port}", allow_http=True, **times)
        with ExitStack() as stack:
            for address in silent:
                full = stack.enter_context(socket.socket())
                full.bind((address, port))
                full.listen(0)
                for _ in range(4):
                    filling = stack.enter_context(socket.socket())
                    filling.setblocking(False)
                    filling.connect_ex((address, port))

            assert client.get_batch_task(TASK_ID).task_id == TASK_ID
        assert len(fake.seen) == 1


class TestRetryAfter:
    def test_one_that_fits_into_the_time_left_is_waited_for(
        self, client: Any, fake: Any, reply: Any, connect: Any, monkeypatch: Any
    ) -> None:
        waits: list[float] = []

        async def sleep(transport: Any, seconds: float) -> None:
            waits.append(seconds)

        for transport in (BlockingTransport, AsyncTransport):
            monkeypatch.setattr(transport, "sleep", sleep)
        monkeypatch.setattr(
            "iotda_provider.transport.retrying.random.uniform", lambda low, high: high
        )
        connect(timeout=30)
        fake.answer(reply(status=429, headers={"Retry-After": "20"}), reply(body=TASK))

        assert client.get_batch_task(TASK_ID).task_id == TASK_ID
        (wait,) = waits
        assert 20 < wait < 21

    def test_one_that_does_not_is_an_error_at_once(
        self, client: Any, fake: Any, reply: Any, connect: Any
    ) -> None:
        connect(timeout=30)
        fake.answer(reply(status=503, headers={"Retry-After": "30"}))

        with pytest.raises(Exception, match="503"):
            client.get_batch_task(TASK_ID)
        assert len(fake.seen) == 1
