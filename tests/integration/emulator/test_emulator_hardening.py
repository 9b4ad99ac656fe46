"""What the emulator refuses of whoever may not talk to it, and what it keeps of nobody."""

from __future__ import annotations

import http.client
import json
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from iotda_provider.emulator import Emulator

TASK = "0123456789abcdef01234567"
DEVICES = "/v5/iot/emulator-project/devices"
HUGE = 300 * 1024 * 1024
CREATE = {
    "task_name": "x",
    "task_type": "firmwareUpgrade",
    "targets": ["device-00001"],
    "document": {"package_ids": ["1"]},
}

Call = Callable[..., requests.Response]


@pytest.fixture
def emulator(start: Callable[..., Emulator]) -> Emulator:
    return start({"devices": 10, "batch_tasks": [{"task_id": TASK}]}, control=True)


def raw(emulator: Emulator, head: str, body: bytes = b"", most: int = 0) -> tuple[int, int, bytes]:
    """Send a request as it stands; answers its status, how many bytes of ``body`` (sent again and
    again, up to ``most``) were taken, and the answer's own body."""
    address = ("127.0.0.1", int(emulator.url.rpartition(":")[2]))
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n")
        sent = 0
        try:
            while sent < most:
                connection.sendall(body)
                sent += len(body)
        except OSError:
            pass  # closed, as it should be
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, sent, answer.read()


def own(emulator: Emulator) -> str:
    return emulator.url.removeprefix("http://")


# --- what is too large ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/v5/iot/emulator-project/batchtasks",
        "/nothing",
        "/v3/auth/tokens",
        "/v3.0/OS-CREDENTIAL/securitytokens",
        "/_emulator/faults",
    ],
)
@pytest.mark.parametrize("announced", [True, False])
def test_what_nobody_has_signed_is_not_read_when_it_is_large(
    emulator: Emulator, path: str, announced: bool
) -> None:
    key = f"X-Emulator-Key: {emulator.control_key}"
    if announced:
        head = f"POST {path} HTTP/1.1\nHost: {own(emulator)}\n{key}\nContent-Length: {HUGE}"
        part = b"x" * 65_536
    else:
        head = f"POST {path} HTTP/1.1\nHost: {own(emulator)}\n{key}\nTransfer-Encoding: chunked"
        part = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    status, sent, _ = raw(emulator, head, part, HUGE)
    assert status in (401, 404, 413)
    assert sent < HUGE / 10, "what the kernel holds of a connection, and no more"


def test_a_signed_body_is_read_up_to_what_the_gateway_lets_through(
    emulator: Emulator, call: Call
) -> None:
    at_most = b" " * (12 * 1024 * 1024)
    assert call(emulator, "POST", "/batchtasks", at_most).json()["error_code"] == "IOTDA.000008"
    head = (
        f"POST /v5/iot/emulator-project/batchtasks HTTP/1.1\nHost: {own(emulator)}\n"
        f"Authorization: SDK-HMAC-SHA256 Access=emulator-ak, SignedHeaders=host, Signature=0\n"
        f"Content-Length: {HUGE}"
    )
    status, sent, answer = raw(emulator, head, b"x" * 65_536, HUGE)
    assert (status, json.loads(answer)["error_code"]) == (413, "APIGW.0201")
    assert sent < HUGE / 10


def test_a_connection_goes_on_after_a_body_that_nobody_signed(emulator: Emulator) -> None:
    with requests.Session() as session:
        for size in (1000, 2_000_000):  # the latter: 30,000 devices
            url = f"{emulator.url}/v5/iot/emulator-project/batchtasks"
            answer = session.post(url, data=b"x" * size, timeout=60)
            assert answer.status_code == 401
            assert "Connection" not in answer.headers


@pytest.mark.parametrize("where", ["url", "header"])
def test_a_head_without_end_is_refused(emulator: Emulator, where: str) -> None:
    head = f"GET /{'x' * 65_536 if where == 'url' else ''} HTTP/1.1\nHost: {own(emulator)}"
    head += f"\nX-Long: {'x' * 1024 * 1024 if where == 'header' else ''}"
    address = ("127.0.0.1", int(emulator.url.rpartition(":")[2]))
    with socket.create_connection(address, timeout=60) as connection:
        try:
            connection.sendall(head.replace("\n", "\r\n").encode())
            for _ in range(1000):
                connection.sendall(b"x" * 65_536)
        except OSError:
            return
    pytest.fail("64 MiB of a head were taken")


# --- who may talk to it --------------------------------------------------------------------------


@pytest.mark.parametrize("path", [DEVICES, "/_emulator/clock", "/openstack/latest/securitykey"])
@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:80", "localhost.evil.example", "10.0.0.5", "", "[", "a b", "²"],
)
def test_another_host_is_refused(emulator: Emulator, path: str, host: str) -> None:
    head = f"GET {path} HTTP/1.1\nHost: {host}\nX-Emulator-Key: {emulator.control_key}"
    status, _, answer = raw(emulator, head)
    assert status in (400, 403)
    assert b"credential" not in answer


@pytest.mark.parametrize("hosts", ["", "Host: localhost\nHost: evil.example"])
def test_a_host_is_sent_once(emulator: Emulator, hosts: str) -> None:
    status, _, _ = raw(emulator, f"GET {DEVICES} HTTP/1.1\n{hosts or 'X-No: host'}")
    assert status in (400, 403)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.9.9.9:5", "[::1]:5"]
)
def test_names_and_addresses_of_loopback_are_its_own(emulator: Emulator, host: str) -> None:
    head = f"GET /_emulator/clock HTTP/1.1\nHost: {host}\nX-Emulator-Key: {emulator.control_key}"
    assert raw(emulator, head)[0] == 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://evil.example", 403), ("null", 403), ("http://localhost:3000", 403), (None, 200)],
)
def test_a_foreign_page_is_refused(emulator: Emulator, origin: str | None, status: int) -> None:
    sent = f"http://{own(emulator)}" if origin is None else origin
    head = (
        f"GET /_emulator/clock HTTP/1.1\nHost: {own(emulator)}\nOrigin: {sent}\n"
        f"X-Emulator-Key: {emulator.control_key}"
    )
    assert raw(emulator, head)[0] == status


@pytest.mark.parametrize(
    ("twice", "value"),
    [
        ("Authorization", "x"),
        ("X-Sdk-Date", "20200101T000000Z"),
        ("Host", "127.0.0.1"),
        ("X-Security-Token", "t"),
        ("X-Auth-Token", "t"),
        ("Instance-Id", "other"),
        ("X-Sdk-Content-Sha256", "UNSIGNED-PAYLOAD"),
        ("Content-Type", "text/plain"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_header_that_says_who_calls_comes_once(
    emulator: Emulator, call: Call, twice: str, value: str, first: bool
) -> None:
    headers = {"Instance-Id": "mine", "X-Sdk-Content-Sha256": "UNSIGNED-PAYLOAD"}
    signed = call(emulator, "GET", "/devices", headers=headers).request.headers
    good = [f"{name}: {text}" for name, text in signed.items() if name in signed]
    if not any(line.lower().startswith("host:") for line in good):
        good.append(f"Host: {own(emulator)}")
    more = [f"{twice}: {value}"] * (2 if twice.startswith(("X-Sec", "X-Auth")) else 1)
    lines = [*more, *good] if first else [*good, *more]
    status, _, _ = raw(emulator, f"GET {DEVICES} HTTP/1.1\n" + "\n".join(lines))
    assert status in (400, 401, 403)
    # The same without the second one is let in, so it was that which was refused.
    assert raw(emulator, f"GET {DEVICES} HTTP/1.1\n" + "\n".join(good))[0] == 200


def test_a_control_key_comes_once(emulator: Emulator) -> None:
    key = f"X-Emulator-Key: {emulator.control_key}"
    head = f"GET /_emulator/clock HTTP/1.1\nHost: {own(emulator)}\n"
    assert raw(emulator, head + key)[0] == 200
    assert raw(emulator, f"{head}X-Emulator-Key: wrong\n{key}")[0] == 401
    assert raw(emulator, f"{head}{key}\nX-Emulator-Key: wrong")[0] == 401


# --- what is kept --------------------------------------------------------------------------------


def test_the_journal_keeps_no_body_that_nobody_signed_and_nothing_secret(
    emulator: Emulator, call: Call
) -> None:
    secrets = {
        "Cookie": "session=SECRET",
        "Proxy-Authorization": "Basic SECRET",
        "X-Auth-Token": "SECRET",
        "X-Security-Token": "SECRET",
        "X-Subject-Token": "SECRET",
        "X-Metadata-Token": "SECRET",
        "X-Api-Key": "SECRET",
        "X-Emulator-Key": "SECRET",
    }
    url = f"{emulator.url}/v5/iot/emulator-project/batchtasks?X-Auth-Token=SECRET&limit=1"
    requests.post(url, json={"password": "SECRET"}, headers=secrets, timeout=60)
    requests.post(f"{emulator.url}/other", json={"password": "SECRET"}, timeout=60)
    call(emulator, "GET", "/devices", headers={"Cookie": "SECRET"})
    entries = emulator.journal()
    assert [entry["status"] for entry in entries] == [401, 404, 200]
    assert "SECRET" not in json.dumps(entries)
    assert entries[0]["body"] is None
    assert entries[0]["query"] == {"limit": "1"}


def test_what_a_fault_answers_is_written_down_with_its_body(emulator: Emulator, call: Call) -> None:
    emulator.add_fault("status", call="stop_batch_task", status=503)
    call(emulator, "POST", f"/batchtasks/{TASK}/stop", {"targets": ["device-00001"]})
    requests.post(f"{emulator.url}/v5/iot/p/batchtasks/{TASK}/stop", json={"a": 1}, timeout=60)
    assert [e["body"] for e in emulator.journal()] == [{"targets": ["device-00001"]}, None]


def test_a_mistake_of_the_emulators_own_is_in_the_journal(
    emulator: Emulator, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(task: object) -> Any:
        raise ZeroDivisionError

    for thing, name in ((emulator.instance.world, "describe"), (emulator.instance.iam, "permit")):
        monkeypatch.setattr(thing, name, broken)
        answer = call(emulator, "GET", f"/batchtasks/{TASK}")
        assert (answer.status_code, answer.json()["error_code"]) == (500, "IOTDA.000001")
        entry = emulator.journal()[-1]
        assert (entry["call"], entry["status"]) == ("show_batch_task", 500)
        assert entry["request_id"] == answer.headers["X-Request-Id"]


@pytest.mark.parametrize("existed", [False, True])
def test_a_state_file_is_its_owners_alone(
    start: Callable[..., Emulator], tmp_path: Path, existed: bool
) -> None:
    state = tmp_path / "state.db"
    if existed:
        start({"devices": 1}, state=state).close()
        state.chmod(0o644)
    before = os.umask(0)
    try:
        start({"devices": 1}, state=state)
    finally:
        os.umask(before)
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name


def test_what_is_no_state_file_keeps_its_mode(
    start: Callable[..., Emulator], tmp_path: Path
) -> None:
    other = tmp_path / "notes"
    other.write_text("not a database, but long enough to be looked at as one" * 50)
    other.chmod(0o644)
    with pytest.raises(ValueError, match="is not a state file"):
        start(state=other)
    assert stat.S_IMODE(other.stat().st_mode) == 0o644


# --- what one request holds makes no other one fail ----------------------------------------------


def still_answers(emulator: Emulator, call: Call) -> None:
    """Every list, each task and the journal are JSON."""

    def no_number(text: str) -> None:
        pytest.fail(f"{text} is not JSON")

    with requests.Session() as session:
        session.headers["X-Emulator-Key"] = emulator.control_key or ""
        answers = [
            call(emulator, "GET", "/batchtasks", query={"task_type": "firmwareUpgrade"}),
            call(emulator, "GET", "/device-group"),
            session.get(f"{emulator.url}/_emulator/journal", timeout=60),
            session.get(f"{emulator.url}/_emulator/faults", timeout=60),
        ]
    tasks = json.loads(answers[0].text, parse_constant=no_number)["batchtasks"]
    answers += [call(emulator, "GET", f"/batchtasks/{task['task_id']}") for task in tasks]
    for answer in answers:
        assert answer.status_code == 200, answer.text[:300]
        json.loads(answer.text, parse_constant=no_number)


@pytest.mark.parametrize(
    "value",
    [
        "1e999",
        "-1e999",
        "NaN",
        "Infinity",
        "-Infinity",
        "9" * 5000,
        '{"x":' * 960 + "1" + "}" * 960,
        "[" * 33 + "]" * 33,
        "[" * 100_000,
    ],
    ids=lambda value: value[:12],
)
def test_what_json_can_not_say_again_is_refused(emulator: Emulator, call: Call, value: str) -> None:
    for field in ("document", "task_ext_info", "task_policy", "unknown"):
        text = json.dumps({**CREATE, field: {"package_ids": ["1"], "x": "HERE"}})
        answer = call(emulator, "POST", "/batchtasks", text.replace('"HERE"', value).encode())
        assert (answer.status_code, answer.json()["error_code"]) == (400, "IOTDA.000008")
    with requests.Session() as session:
        session.headers["X-Emulator-Key"] = emulator.control_key or ""
        for path, name in (("clock/advance", "seconds"), ("refuse", "seconds"), ("faults", "body")):
            body = f'{{"{name}": {value}, "kind": "status"}}'.encode()
            answer = session.post(f"{emulator.url}/_emulator/{path}", data=body, timeout=60)
            assert answer.status_code == 400
    still_answers(emulator, call)


@pytest.mark.parametrize(
    "seconds", [0, -1, 1e300, True, "900", 900.5, 10**30, None, [], {}], ids=str
)
def test_the_lifetime_of_a_key_is_checked(emulator: Emulator, seconds: object) -> None:
    settings = emulator.instance.iam.settings
    user = {"name": settings.user, "password": settings.password}
    auth = {
        "identity": {"password": {"user": {**user, "domain": {"name": settings.domain}}}},
        "scope": {"project": {"name": settings.region}},
    }
    made = requests.post(f"{emulator.url}/v3/auth/tokens", json={"auth": auth}, timeout=60)
    token = {"id": made.headers["X-Subject-Token"], "duration_seconds": seconds}
    answer = requests.post(
        f"{emulator.url}/v3.0/OS-CREDENTIAL/securitytokens",
        json={"auth": {"identity": {"token": token}}},
        timeout=60,
    )
    assert answer.status_code == (201 if seconds is None else 400)


@pytest.mark.parametrize("ttl", ["²", "9" * 5000, "+60", "6e1", "", "59", "21601", " 6 0"])
def test_the_lifetime_of_a_metadata_token_is_checked(emulator: Emulator, ttl: str) -> None:
    head = (
        f"PUT /meta-data/latest/api/token HTTP/1.1\nHost: {own(emulator)}\n"
        f"X-Metadata-Token-Ttl-Seconds: {ttl}\nContent-Length: 0"
    )
    assert raw(emulator, head)[0] == 400


@pytest.mark.parametrize("text", ["9" * 5000, "²", "٣", "-1", "+1", "1e1", "1_0", " 1", ""])
@pytest.mark.parametrize("name", ["limit", "after"])
def test_numbers_of_the_journal_are_checked(emulator: Emulator, name: str, text: str) -> None:
    answer = requests.get(
        f"{emulator.url}/_emulator/journal",
        params={name: text},
        headers={"X-Emulator-Key": emulator.control_key or ""},
        timeout=60,
    )
    assert (answer.status_code, answer.json()["error_code"]) == (400, "IOTDA.000006")
    assert f"{name} must be a whole number of at most 18 digits." in answer.json()["error_msg"]


def test_a_misspelled_query_of_the_journal_is_named(emulator: Emulator) -> None:
    answer = requests.get(
        f"{emulator.url}/_emulator/journal?limits=1",
        headers={"X-Emulator-Key": emulator.control_key or ""},
        timeout=60,
    )
    assert answer.status_code == 400
    assert "limits is not a known field; did you mean limit?" in answer.json()["error_msg"]


def test_virtual_time_ends_where_ids_do(emulator: Emulator, call: Call) -> None:
    for _ in range(20):
        emulator.advance(1e9)
    made = call(emulator, "POST", "/batchtasks", CREATE)
    assert len(made.json()["task_id"]) == 24
    still_answers(emulator, call)


@pytest.mark.parametrize("header", [{"A\r\nB": "x"}, {"A": "x\r\nB: y"}, {"": "x"}, {"A": "水"}])
def test_a_fault_can_not_break_the_answers_it_is_for(
    emulator: Emulator, call: Call, header: dict[str, str]
) -> None:
    with pytest.raises(ValueError, match=r"fault\.headers holds what is no HTTP header"):
        emulator.add_fault("status", status=200, headers=header)
    emulator.add_fault("status", call="list_devices", status=200, body="half a pair: \ud800")
    assert call(emulator, "GET", "/devices").text == "half a pair: ?"
