"""What both hooks do alike: every case runs over requests and over aiohttp."""

from __future__ import annotations

import inspect
import re
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from iotda_provider.exceptions import (
    IoTDAApiError,
    IoTDAAuthError,
    IoTDAConfigError,
    IoTDAError,
    IoTDANotFoundError,
    IoTDAServerError,
    IoTDAThrottledError,
    IoTDATransportError,
)
from iotda_provider.models import TaskStatus

TASK_ID = "5c8fb0d3c1a2e45678901234"
PATH = f"/v5/iot/project-1/batchtasks/{TASK_ID}"
TASK = {"task_id": TASK_ID, "status": "Processing", "task_progress": {"total": 1, "processing": 1}}

# Faults that a second try may not meet again: how the fake replies.
BLIPS: dict[str, dict[str, Any]] = {
    "closed": {"fault": "close"},
    "reset": {"fault": "reset"},
    "cut off": {"fault": "cut", "body": TASK},
    "throttled": {"status": 429, "body": {"error_code": "APIGW.0308", "error_msg": "slow down"}},
    "server error": {"status": 500, "body": {"error_code": "IOTDA.000001", "error_msg": "oops"}},
    "bad gateway": {"status": 502, "body": "<html><title>502 Bad Gateway</title></html>"},
    "html instead of json": {"status": 200, "body": "<html><title>Login</title></html>"},
    "broken json": {"status": 200, "body": '{"task_id": '},
    "nonsense": {"status": 200, "body": {"task_id": 5}},
}


@pytest.fixture
def reply(fake: Any) -> Callable[..., Any]:
    return type(fake.answers[0])


def test_both_offer_the_same_methods_with_the_same_parameters() -> None:
    from iotda_provider.hooks.iotda import IoTDAAsyncHook, IoTDAHook

    of_one_alone = {"close", "get_settings"}
    names = {name for name in vars(IoTDAAsyncHook) if not name.startswith("_")} - of_one_alone
    names = {name for name in names if callable(getattr(IoTDAAsyncHook, name))}
    assert {"stop_batch_task", "iter_subtasks", "run", "test_connection"} <= names
    for name in ["__init__", *sorted(names)]:
        blocking, asynchronous = getattr(IoTDAHook, name), getattr(IoTDAAsyncHook, name)
        assert list(inspect.signature(blocking).parameters.values()) == list(
            inspect.signature(asynchronous).parameters.values()
        ), name
        if name != "__init__":
            summary = inspect.cleandoc(blocking.__doc__).partition("\n\n")[0]
            assert asynchronous.__doc__ == summary, "the blocking hook's tells the rest"
        assert blocking.__qualname__ == f"IoTDAHook.{name}", "written out, and in its own class"
        assert asynchronous.__qualname__ == f"IoTDAAsyncHook.{name}"
        assert "return" in blocking.__annotations__


def test_the_request_is_signed_and_carries_only_what_it_should(client: Any, fake: Any) -> None:
    task = client.get_batch_task(TASK_ID)

    assert task.status is TaskStatus.PROCESSING
    (seen,) = fake.seen
    assert (seen.method, seen.path, dict(seen.query)) == ("GET", PATH, {"limit": "1"})
    assert seen.headers["Authorization"].startswith("V11-HMAC-SHA256 Credential=access-key/")
    assert seen.headers["User-Agent"].startswith("airflow-provider-iotda/")
    assert set(seen.headers) <= {
        "Accept",
        "Accept-Encoding",
        "Authorization",
        "Connection",
        "Content-Type",
        "Host",
        "User-Agent",
        "X-Project-Id",
        "X-Sdk-Date",
    }


@pytest.mark.usefixtures("no_backoff")
class TestRetries:
    @pytest.mark.parametrize("blip", BLIPS)
    def test_a_read_outlives_it(self, client: Any, fake: Any, reply: Any, blip: str) -> None:
        fake.answer(reply(**BLIPS[blip]), reply(body=TASK))

        assert client.get_batch_task(TASK_ID).task_id == TASK_ID
        assert len(fake.seen) >= 2

    @pytest.mark.parametrize("blip", BLIPS)
    def test_a_create_is_repeated_only_where_it_was_not_acted_upon(
        self, client: Any, fake: Any, reply: Any, blip: str
    ) -> None:
        fake.answer(reply(**BLIPS[blip]), reply(status=201, body=TASK))

        def create() -> Any:
            return client.create_batch_task(
                task_name="rollout", task_type="firmwareUpgrade", targets=["d1"]
            )

        if blip == "throttled":
            assert create().task_id == TASK_ID
            assert len(fake.seen) == 2
        else:
            with pytest.raises((IoTDATransportError, IoTDAServerError)):
                create()
            assert len(fake.seen) == 1

    def test_each_attempt_is_signed_anew(
        self, client: Any, fake: Any, reply: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from iotda_provider.auth import authenticator

        signed = []
        real = authenticator.AccessKeyAuthenticator.authenticate

        def authenticate(self: Any, outgoing: Any) -> Any:
            signed.append(outgoing)
            return real(self, outgoing)

        monkeypatch.setattr(authenticator.AccessKeyAuthenticator, "authenticate", authenticate)
        fake.answer(reply(status=503), reply(status=503), reply(body=TASK))

        client.get_batch_task(TASK_ID)

        assert len(signed) == len(fake.seen) == 3

    def test_they_end_with_max_attempts(
        self, client: Any, connect: Any, fake: Any, reply: Any
    ) -> None:
        connect(max_attempts=2)
        fake.answer(reply(status=503, body={"error_code": "X", "error_msg": "down"}))

        with pytest.raises(IoTDAServerError, match="HTTP 503: X down") as caught:
            client.get_batch_task(TASK_ID)

        assert caught.value.status_code == 503
        assert len(fake.seen) == 2

    def test_they_end_where_the_platform_asks_for_more_time_than_there_is(
        self, client: Any, fake: Any, reply: Any
    ) -> None:
        fake.answer(reply(status=429, headers={"Retry-After": "3600"}))

        with pytest.raises(IoTDAThrottledError) as caught:
            client.get_batch_task(TASK_ID)

        assert caught.value.retry_after == 3600
        assert len(fake.seen) == 1

    def test_a_refusal_is_not_repeated(self, client: Any, fake: Any, reply: Any) -> None:
        body = {"error_code": "IOTDA.014217", "error_msg": "no such task"}
        fake.answer(reply(status=404, body=body, headers={"X-Request-Id": "r-1"}))

        with pytest.raises(IoTDANotFoundError) as caught:
            client.get_batch_task(TASK_ID)

        assert len(fake.seen) == 1
        assert str(caught.value) == (
            f"Could not read batch task {TASK_ID}: HTTP 404: IOTDA.014217 no such task. "
            "Check the id in the console (it may have been deleted), and that the connection's "
            "project_id and instance_id are those of the task (request id r-1)"
        )

    def test_a_rejected_request_is_sent_once_more_with_renewed_credentials(
        self, client: Any, fake: Any, reply: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from iotda_provider.auth.authenticator import AccessKeyAuthenticator

        rejected: list[Any] = []

        def note(self: Any, sent: Any) -> bool:
            rejected.append(dict(sent))
            return True

        monkeypatch.setattr(AccessKeyAuthenticator, "rejected", note)
        fake.answer(reply(status=401), reply(body=TASK))

        assert client.get_batch_task(TASK_ID).task_id == TASK_ID
        assert rejected[0]["Authorization"] == fake.seen[0].headers["Authorization"]

    def test_credentials_that_are_rejected_twice_are_an_error(
        self, client: Any, fake: Any, reply: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from iotda_provider.auth.authenticator import AccessKeyAuthenticator

        monkeypatch.setattr(AccessKeyAuthenticator, "rejected", lambda self, sent: True)
        fake.answer(reply(status=401))

        with pytest.raises(IoTDAAuthError):
            client.get_batch_task(TASK_ID)
        assert len(fake.seen) == 2


class TestTransport:
    @pytest.mark.parametrize("fault", ["hang", "drip", "drip head"])
    def test_the_timeout_is_a_budget_for_everything(
        self, client: Any, fake: Any, reply: Any, fault: str
    ) -> None:
        # All of it would take minutes to arrive.
        fake.answer(reply(body=TASK), reply(fault=fault, body={**TASK, "x": "x" * 10_000}))
        client.get_batch_task(TASK_ID)  # so that there is a connection already
        object.__setattr__(client.settings, "timeout", 0.3)

        with pytest.raises(IoTDATransportError) as caught:
            client.get_batch_task(TASK_ID)

        # What was left of it when the request was sent.
        limit = re.search(r"no whole answer within (0\.\d+) s", str(caught.value))
        assert limit is not None
        assert float(limit[1]) <= 0.3
        assert caught.value.sent
        fake.wait_for(2)
        assert len(fake.seen) == 2

    @pytest.mark.usefixtures("no_backoff")
    def test_an_echo_in_place_of_http_is_quoted_without_secrets(
        self, client: Any, connect: Any, fake: Any, reply: Any
    ) -> None:
        connect(max_attempts=1, security_token="the-security-token")
        fake.answer(reply(fault="echo"))

        with pytest.raises(IoTDATransportError, match=r"\*\*\*") as caught:
            client.get_batch_task(TASK_ID)

        (seen,) = fake.seen
        assert "the-security-token" not in str(caught.value)
        assert seen.headers["Authorization"].split("Signature=")[1] not in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.usefixtures("no_backoff")
    def test_where_nothing_listens_nothing_was_sent(self, client: Any, connect: Any) -> None:
        # Taken, and so nobody else's, and nobody listens.
        with socket.socket() as mute:
            mute.bind(("127.0.0.1", 0))
            connect(host=f"http://127.0.0.1:{mute.getsockname()[1]}", max_attempts=1)

            with pytest.raises(IoTDATransportError, match="nothing answers there") as caught:
                client.create_batch_task(
                    task_name="rollout", task_type="firmwareUpgrade", targets=["d1"]
                )

        assert not caught.value.sent

    @pytest.mark.parametrize("early", [(103,), (100,), (102, 103, 103)])
    def test_informational_answers_are_not_the_answer(
        self, client: Any, fake: Any, reply: Any, early: Any
    ) -> None:
        fake.answer(reply(body=TASK, early=early))

        assert client.get_batch_task(TASK_ID).task_id == TASK_ID
        assert client.get_batch_task(TASK_ID).task_id == TASK_ID, "by the same connection"

    @pytest.mark.usefixtures("no_backoff")
    @pytest.mark.parametrize(
        ("length", "is_read"), [(9_000, True), (60_000, True), (70_000, False)]
    )
    def test_a_long_header_is_read_up_to_the_same_limit(
        self, client: Any, connect: Any, fake: Any, reply: Any, length: int, is_read: bool
    ) -> None:
        connect(max_attempts=1)
        fake.answer(reply(body=TASK, headers={"X-Long": "x" * length}))

        if is_read:
            assert client.get_batch_task(TASK_ID).task_id == TASK_ID
        else:
            with pytest.raises(IoTDATransportError, match="the connection broke"):
                client.get_batch_task(TASK_ID)

    def test_a_redirect_is_an_error(self, client: Any, fake: Any, reply: Any) -> None:
        fake.answer(reply(status=302, headers={"Location": "http://127.0.0.2/login"}))

        with pytest.raises(IoTDAApiError, match="The host redirects to"):
            client.get_batch_task(TASK_ID)
        assert len(fake.seen) == 1

    def test_cookies_are_not_kept(self, client: Any, fake: Any, reply: Any) -> None:
        fake.answer(reply(body=TASK, headers={"Set-Cookie": "session=1; Path=/"}))

        client.get_batch_task(TASK_ID)
        client.get_batch_task(TASK_ID)

        assert "Cookie" not in fake.seen[1].headers

    def test_a_netrc_does_not_replace_the_signature(
        self, client: Any, fake: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login a password b\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))

        client.get_batch_task(TASK_ID)

        assert "HMAC" in fake.seen[0].headers["Authorization"]

    @pytest.mark.usefixtures("no_backoff")
    def test_an_answer_may_not_be_endless(
        self, client: Any, connect: Any, fake: Any, reply: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        connect(max_attempts=1)
        for reader in ("blocking", "asynchronous"):
            monkeypatch.setattr(f"iotda_provider.transport.{reader}.MAX_ANSWER_BYTES", 100)
        fake.answer(reply(body={**TASK, "task_name": "x" * 200}))

        with pytest.raises(IoTDATransportError, match="larger than any of this API"):
            client.get_batch_task(TASK_ID)

    @pytest.mark.usefixtures("no_backoff")
    def test_an_answer_of_many_megabytes_is_given_up_while_it_is_read(
        self, client: Any, connect: Any, fake: Any, reply: Any
    ) -> None:
        connect(max_attempts=1)
        fake.answer(reply(body="[" + "[]," * 3_000_000 + "[]]"))

        with pytest.raises(IoTDATransportError, match=r"larger than any of this API \(8 MiB\)"):
            client.get_batch_task(TASK_ID)

    def test_a_large_answer_is_read_beside_the_event_loop(
        self, client: Any, fake: Any, reply: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from iotda_provider.transport import asynchronous

        threads = []
        read = asynchronous.read_answer
        monkeypatch.setattr(
            asynchronous,
            "read_answer",
            lambda *args: (threads.append(threading.current_thread()), read(*args))[1],
        )
        fake.answer(reply(body=TASK), reply(body={**TASK, "targets": ["a" * 100] * 1_000}))

        assert client.get_batch_task(TASK_ID).task_id == TASK_ID
        assert client.get_batch_task(TASK_ID).task_id == TASK_ID

        if client.kind == "asynchronous":
            small, large = threads
            assert small is threading.main_thread()
            assert large is not threading.main_thread()

    def test_the_environments_proxy_is_used_unless_no_proxy_says_otherwise(
        self, client: Any, connect: Any, fake: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        connect(host="http://iotda.example", allow_http=True)
        monkeypatch.setenv("http_proxy", fake.url)

        client.get_batch_task(TASK_ID)

        (seen,) = fake.seen
        assert seen.headers["Host"] == "iotda.example"

    @pytest.mark.usefixtures("no_backoff")
    def test_no_proxy_is_honoured(
        self, client: Any, fake: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        monkeypatch.setenv("no_proxy", "127.0.0.1")

        assert client.get_batch_task(TASK_ID)

    @pytest.mark.usefixtures("no_backoff")
    @pytest.mark.parametrize("extra", [{}, {"proxies": {"http": "http://127.0.0.1:1"}}])
    def test_what_is_plain_http_within_this_machine_is_shown_to_no_proxy(
        self, client: Any, connect: Any, extra: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        connect(max_attempts=1, **extra)

        assert client.get_batch_task(TASK_ID)

    def test_new_keys_in_the_connection_are_used_once_the_hook_was_closed(
        self, client: Any, connect: Any, fake: Any
    ) -> None:
        client.get_batch_task(TASK_ID)
        connect(project_id="project-2")
        client.close()

        client.get_batch_task(TASK_ID)

        assert ["project-2" in seen.path for seen in fake.seen] == [False, True]

    def test_the_connections_proxy_wins(
        self, client: Any, connect: Any, fake: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        connect(host="http://iotda.example", allow_http=True, proxies={"http": fake.url})
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

        assert client.get_batch_task(TASK_ID)

    @pytest.mark.usefixtures("no_backoff")
    def test_a_proxy_that_does_not_answer_is_told_from_a_host_that_does_not(
        self, client: Any, connect: Any
    ) -> None:
        connect(
            host="http://iotda.example",
            allow_http=True,
            proxies={"http": "http://127.0.0.1:1"},
            max_attempts=1,
        )

        with pytest.raises(IoTDATransportError, match="the proxy did not answer") as caught:
            client.get_batch_task(TASK_ID)
        assert not caught.value.sent


class TestManyTargets:
    def stop_answer(self, reply: Any, failing: Callable[[list[str]], bool]) -> Any:
        def answer(seen: Any) -> Any:
            if seen.method == "GET":
                target = seen.query.get("target")
                details = [{"target": target, "status": "Processing"}] if target else []
                task = {**TASK, "task_progress": {"total": 30_000, "processing": 30_000}}
                return reply(body={"batchtask": task, "task_details": details, "page": {}})
            targets = seen.body["targets"]
            if failing(targets):
                return reply(status=400, body={"error_code": "E", "error_msg": "no"})
            rows = [{"target": target, "status": "success"} for target in targets]
            return reply(body={"targets": rows})

        return answer

    def test_they_are_sent_by_the_hundred_a_bounded_number_at_a_time(
        self, client: Any, fake: Any, reply: Any
    ) -> None:
        from iotda_provider.procedures import MAX_IN_FLIGHT

        at_once = self.stop_answer(reply, lambda targets: False)
        met = threading.Event()

        def answer(seen: Any) -> Any:
            if fake.under_way > 1:
                met.set()
            if seen.method == "POST":
                met.wait(60)  # or the one before may be answered, where the machine is busy
            time.sleep(0.02)
            return at_once(seen)

        fake.answer(answer)
        targets = [f"d{number}" for number in range(5_050)]

        results = client.stop_batch_task(TASK_ID, [*targets, *targets])

        assert [result.target for result in results] == targets
        assert not results.failed
        sizes = [len(seen.body["targets"]) for seen in fake.seen]
        assert sorted(sizes) == [50, *[100] * 50]
        assert 1 < fake.most_under_way <= MAX_IN_FLIGHT

    @pytest.mark.usefixtures("no_backoff")
    def test_one_failing_call_does_not_lose_the_results_of_the_others(
        self, client: Any, fake: Any, reply: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Targets that a stop may still reach are looked at again; these never change.
        monkeypatch.setattr("iotda_provider.procedures.target_results._STOP_PAUSES", (0.0,))
        fake.answer(self.stop_answer(reply, lambda targets: "d150" in targets))
        targets = [f"d{number}" for number in range(300)]

        results = client.stop_batch_task(TASK_ID, targets)

        assert [result.target for result in results.failed] == targets[100:200]
        assert results.failed[0].error_code == "E"
        assert "the target's status is Processing" in str(results.failed[0].error_msg)

    @pytest.mark.parametrize("verb", ["stop", "retry", "confirm"])
    def test_an_empty_list_sends_nothing(self, client: Any, fake: Any, verb: str) -> None:
        assert len(getattr(client, f"{verb}_batch_task")(TASK_ID, [])) == 0
        assert fake.seen == []

    def test_bad_input_sends_nothing(self, client: Any, fake: Any) -> None:
        with pytest.raises(IoTDAConfigError, match=r"targets\[1\]"):
            client.stop_batch_task(TASK_ID, ["d1", "d 2"])
        with pytest.raises(IoTDAConfigError, match="batch_task_id"):
            client.stop_batch_task("../x")
        assert fake.seen == []


class TestListings:
    def page(self, reply: Any, targets: list[str], marker: str, count: int) -> Any:
        rows = [{"target": target, "status": "Fail"} for target in targets]
        page = {"marker": marker, "count": count}
        return reply(body={"batchtask": TASK, "task_details": rows, "page": page})

    def test_each_target_comes_once_however_rows_move(
        self, client: Any, fake: Any, reply: Any
    ) -> None:
        targets = [f"d{number}" for number in range(75)]
        fake.answer(
            self.page(reply, targets[:50], "a", 75), self.page(reply, targets[45:], "b", 75)
        )

        rows = client.iter_subtasks(TASK_ID, status="Fail")

        assert [row.target for row in rows] == targets
        assert [seen.query for seen in fake.seen] == [
            {"limit": "50", "task_detail_status": "Fail"},
            {"limit": "50", "task_detail_status": "Fail", "marker": "a"},
        ]

    def test_a_marker_that_repeats_ends_the_list(self, client: Any, fake: Any, reply: Any) -> None:
        targets = [f"d{number}" for number in range(50)]
        fake.answer(self.page(reply, targets, "a", 1000))

        assert len(client.iter_subtasks(TASK_ID)) == 50
        assert len(fake.seen) == 2

    def test_bad_input_is_refused_before_the_first_row_is_asked_for(self, client: Any) -> None:
        with pytest.raises(IoTDAConfigError, match="status must be one of"):
            client.hook.iter_subtasks(TASK_ID, status="Failed")


class TestAnyOtherCall:
    def test_it_is_signed_and_filled_in(self, client: Any, fake: Any, reply: Any) -> None:
        fake.answer(reply(body={"devices": []}))

        response = client.run("devices", {"limit": 5}, method="GET")

        assert client.json_of(response) == {"devices": []}
        (seen,) = fake.seen
        assert (seen.path, seen.query) == ("/v5/iot/project-1/devices", {"limit": "5"})
        assert "HMAC" in seen.headers["Authorization"]

    def test_a_post_is_never_repeated_blindly(self, client: Any, fake: Any, reply: Any) -> None:
        fake.answer(reply(status=503))

        with pytest.raises(IoTDAServerError):
            client.run("devices", json={"device_id": "d1"})
        assert len(fake.seen) == 1

    def test_an_error_is_returned_where_the_caller_wants_to_look_at_it(
        self, client: Any, fake: Any, reply: Any
    ) -> None:
        fake.answer(reply(status=409, body={"error_code": "X"}))

        response = client.run("devices", extra_options={"check_response": False})

        assert client.json_of(response) == {"error_code": "X"}

    def test_headers_of_the_authentication_cannot_be_set(self, client: Any, fake: Any) -> None:
        with pytest.raises(IoTDAConfigError, match="Authorization"):
            client.run("devices", headers={"Authorization": "Basic x"})
        with pytest.raises(TypeError, match="verify"):
            client.run("devices", verify=False)
        assert fake.seen == []


@pytest.mark.parametrize(
    ("status", "header", "value"),
    [
        (302, "Location", "http://[iotda"),
        (200, "Content-Length", "\xb2"),
        (200, "Content-Length", "9" * 5_000),
        (204, "Content-Length", "\xb2"),
        (204, "Content-Length", "9" * 5_000),
    ],
)
def test_a_header_that_no_library_expects_is_a_typed_error_or_passed_over(
    client: Any, fake: Any, connect: Any, reply: Any, status: int, header: str, value: str
) -> None:
    """A guard takes anything else for a fault of its own, and ends."""
    connect(max_attempts=1, timeout=1.5)
    fake.answer(reply(status, TASK if status == 200 else None, {header: value}))

    with pytest.raises(IoTDAError) as caught:
        client.get_batch_task(TASK_ID)

    assert str(caught.value).isprintable()
