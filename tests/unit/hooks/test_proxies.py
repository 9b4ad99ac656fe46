"""Proxies, the connection's and the environment's: which is used, and that no error shows how."""

from __future__ import annotations

import base64
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import pytest

from iotda_provider.exceptions import IoTDAConfigError, IoTDAError, IoTDATransportError
from iotda_provider.hooks.iotda_async import IoTDAAsyncHook

TASK_ID = "5c8fb0d3c1a2e45678901234"
USER, PASSWORD = "proxy-user", "pass!w/rd %40@"
HEADER = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

pytestmark = pytest.mark.usefixtures("no_backoff")


class Refusing:
    """A proxy that lets nobody through, and repeats whatever it was sent."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.place = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                asked = b""
                while b"\r\n\r\n" not in asked and (part := connection.recv(65_536)):
                    asked += part
                self.asked.append(asked.decode("latin-1"))
                found = re.findall(r"(?i)proxy-authorization: Basic (\S+)", self.asked[-1])
                sent = found[0] if found else ""
                body = f'{{"error_msg": "denied {sent} {base64.b64decode(sent).decode()}"}}'
                head = f"HTTP/1.1 407 Denied {sent}\r\nContent-Length: {len(body)}\r\n"
                connection.sendall(f"{head}Connection: close\r\n\r\n{body}".encode())

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def refusing() -> Iterator[Refusing]:
    proxy = Refusing()
    yield proxy
    proxy.close()


@pytest.fixture(params=["connection", "environment"])
def through(
    request: pytest.FixtureRequest, connect: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Lets the default connection lead through a proxy, which either of the two names."""

    def through(proxy: str, host: str = "https://iotda.example", **extra: Any) -> None:
        if request.param == "connection":
            extra["proxies"] = {"http": proxy, "https": proxy}
        else:
            monkeypatch.setenv("http_proxy", proxy)
            monkeypatch.setenv("https_proxy", proxy)
        connect(host=host, max_attempts=1, **{"allow_http": True, **extra})

    return through


def assert_unseen(text: str) -> None:
    for secret in (PASSWORD, quote(PASSWORD), quote(PASSWORD, safe=""), HEADER, "pass!w"):
        assert secret not in text


@pytest.mark.parametrize("host", ["https://iotda.example", "http://iotda.example"])
def test_one_that_refuses_is_named_without_its_password(
    client: Any, through: Any, refusing: Refusing, host: str
) -> None:
    through(f"http://{USER}:{quote(PASSWORD, safe='')}@{refusing.place}", host)
    with pytest.raises(IoTDAError, match="407") as caught:
        client.get_batch_task(TASK_ID)
    works, told = client.test_connection()

    assert len(refusing.asked) == 2
    assert all(HEADER in asked for asked in refusing.asked)
    assert not works
    assert "407" in told
    for text in (str(caught.value), told, repr(vars(client.hook))):
        assert_unseen(text)
    if host.startswith("https"):
        assert isinstance(caught.value, IoTDATransportError)
        assert "the proxy did not answer" in str(caught.value)


def test_one_that_issuers_are_asked_through_is_named_without_its_password(
    client: Any, through: Any, refusing: Refusing, fake: Any
) -> None:
    through(
        f"http://{USER}:{quote(PASSWORD, safe='')}@{refusing.place}",
        fake.url,
        auth_type="token",
        domain_name="company",
        iam_endpoint="http://iam.example",
    )
    with pytest.raises(IoTDAError, match="denied") as caught:
        client.get_batch_task(TASK_ID)

    (asked,) = refusing.asked
    assert HEADER in asked
    assert_unseen(str(caught.value))


@pytest.mark.parametrize(
    "proxy",
    [
        "http://user:pass-word@[bad",
        "http://user:pass-word@127.0.0.1:99999",
        "http://user:pass-word@127.0.0.1:port",
        "http://user:pass-word/x@127.0.0.1:1",
        f"http://user:pass-word@{'a' * 64}.example:1",
        "socks5://user:pass-word@127.0.0.1:1",
    ],
)
def test_what_is_no_proxys_address_is_refused_before_anything_is_sent(
    client: Any, through: Any, proxy: str
) -> None:
    through(proxy)
    with pytest.raises(IoTDAConfigError, match="proxy") as caught:
        client.get_batch_task(TASK_ID)

    assert "pass-word" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["https", "HTTPS"])
def test_an_https_proxy_that_nobody_would_verify_is_not_talked_to(
    client: Any, through: Any, refusing: Refusing, scheme: str
) -> None:
    through(f"{scheme}://{USER}:pass-word@{refusing.place}", "http://iotda.example")
    with pytest.raises(IoTDAConfigError, match="certificate of an https proxy is not verified"):
        client.get_batch_task(TASK_ID)

    assert refusing.asked == []


async def test_python_3_10_says_that_its_triggerer_can_not_use_an_https_proxy(
    through: Any, refusing: Refusing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without this, a guard is blind, and its connection seems to break."""
    monkeypatch.setattr("iotda_provider.transport.sessions._TLS_IN_TLS", False)
    through(f"https://{USER}:pass-word@{refusing.place}", "https://iotda.example")
    with pytest.raises(IoTDAConfigError, match=r"on Python 3\.10 .* https:// proxy") as caught:
        await IoTDAAsyncHook().get_batch_task(TASK_ID)

    assert refusing.asked == []
    assert "pass-word" not in str(caught.value)


@pytest.mark.parametrize("key", ["all", "http://iotda.example", "all://iotda.example"])
def test_whatever_the_connection_says_wins_over_the_environment(
    client: Any, connect: Any, fake: Any, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    connect(host="http://iotda.example", allow_http=True, proxies={key: fake.url}, max_attempts=1)

    assert client.get_batch_task(TASK_ID)
