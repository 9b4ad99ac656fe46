"""Faults as a client meets them: over real connections."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Callable

import pytest
import requests

from iotda_provider.emulator import Emulator, ScenarioError

TASK = "0123456789abcdef01234567"
LIST = ("GET", "/batchtasks", None, {"task_type": "firmwareUpgrade"})
STOP = ("POST", f"/batchtasks/{TASK}/stop", {})

Call = Callable[..., requests.Response]


@pytest.fixture
def emulator(start: Callable[..., Emulator]) -> Emulator:
    emulator = start({"devices": 10, "batch_tasks": [{"task_id": TASK}]})
    emulator.advance(2)
    return emulator


def status(emulator: Emulator, call: Call) -> str:
    answer = call(emulator, "GET", f"/batchtasks/{TASK}").json()
    return str(answer["batchtask"]["status"])


def test_a_status_with_a_body_of_ones_own(emulator: Emulator, call: Call) -> None:
    body = {"error_code": "IOTDA.000001", "error_msg": "out of order"}
    emulator.add_fault("status", status=500, body=body, headers={"X-Shown": "yes"}, count=1)
    answer = call(emulator, *LIST)
    assert (answer.status_code, answer.json()) == (500, body)
    assert answer.headers["X-Shown"] == "yes"
    assert answer.headers["X-Request-Id"]
    assert call(emulator, *LIST).status_code == 200


def test_a_gateway_timeout_after_the_call_has_acted(emulator: Emulator, call: Call) -> None:
    emulator.add_fault("status", call="stop_batch_task", status=504, acted=True)
    assert call(emulator, *STOP).status_code == 504
    assert status(emulator, call) == "Stopping"


def test_a_fault_of_a_call_that_does_not_exist_is_refused(start: Callable[..., Emulator]) -> None:
    emulator = start({"devices": 1}, control=True)
    with pytest.raises(ScenarioError, match=r"^fault\.call matches no call: .*stop_batch_task"):
        emulator.add_fault("lost", call="stop_batchtask")
    answer = requests.post(
        f"{emulator.url}/_emulator/faults",
        headers={"X-Emulator-Key": emulator.control_key or ""},
        json={"kind": "lost", "call": "stop_batchtask"},
        timeout=60,
    )
    assert answer.status_code == 400
    assert "fault.call matches no call: 'stop_batchtask'" in answer.json()["error_msg"]
    assert emulator.faults() == []


@pytest.mark.parametrize("speed", [-1, float("nan"), 2_000_000])
def test_a_speed_at_which_no_time_can_move_is_refused(speed: float) -> None:
    with pytest.raises(ScenarioError, match=r"^speed must be from 0 to 1000000, not"):
        Emulator(speed=speed)


def test_throttling_names_the_time_to_wait(emulator: Emulator, call: Call) -> None:
    emulator.add_fault("throttle", retry_after=7, count=1)
    answer = call(emulator, *LIST)
    assert answer.status_code == 429
    assert answer.headers["Retry-After"] == "7"
    assert answer.json()["error_code"] == "APIGW.0308"


def test_a_rate_limit_lets_a_burst_through(emulator: Emulator, call: Call) -> None:
    emulator.add_fault("rate_limit", per_second=0.01, burst=2)
    answers = [call(emulator, *LIST) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    assert int(answers[-1].headers["Retry-After"]) > 60


def test_latency_makes_a_client_time_out_although_the_call_has_acted(
    emulator: Emulator, call: Call
) -> None:
    emulator.add_fault("latency", call="stop_batch_task", seconds=60, acted=True)
    with pytest.raises(requests.ReadTimeout):
        call(emulator, *STOP, timeout=0.2)
    assert status(emulator, call) == "Stopping"


def test_latency_delays_and_then_answers(emulator: Emulator, call: Call) -> None:
    emulator.add_fault("latency", seconds=0.1, jitter=0.05)
    begun = time.monotonic()
    assert call(emulator, *LIST).status_code == 200
    assert time.monotonic() - begun >= 0.1


def test_a_reset_comes_before_the_call_acts(emulator: Emulator, call: Call) -> None:
    emulator.add_fault("reset", call="stop_batch_task")
    with pytest.raises(requests.ConnectionError) as broken:
        call(emulator, *STOP)
    assert "reset" in str(broken.value).lower()
    assert status(emulator, call) == "Processing"


def test_a_lost_answer_comes_after_it(emulator: Emulator, call: Call) -> None:
    emulator.add_fault("lost", call="stop_batch_task")
    with pytest.raises(requests.ConnectionError):
        call(emulator, *STOP)
    assert status(emulator, call) == "Stopping"
    assert emulator.journal("stop_batch_task")[0]["faults"] == ["lost"]


def test_a_truncated_answer_ends_before_its_length(emulator: Emulator, call: Call) -> None:
    emulator.add_fault("truncate", count=1, keep=0.3)
    with pytest.raises(requests.exceptions.ChunkedEncodingError) as broken:
        call(emulator, *LIST)
    assert isinstance(broken.value.args[0].args[1], Exception)
    assert call(emulator, *LIST).status_code == 200


def test_malformed_json_has_a_good_length(emulator: Emulator, call: Call) -> None:
    emulator.add_fault("malformed", count=1)
    answer = call(emulator, *LIST)
    assert answer.status_code == 200
    with pytest.raises(ValueError):
        answer.json()


def test_a_proxy_answers_html(emulator: Emulator, call: Call) -> None:
    emulator.add_fault("html", count=1)
    answer = call(emulator, *LIST)
    assert answer.status_code == 502
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "<h1>502 Bad Gateway</h1>" in answer.text


@pytest.mark.parametrize("kind", ["status", "html"])
@pytest.mark.parametrize("code", [200, 204, 304, 418, 499, 599])
def test_any_status_can_be_answered(emulator: Emulator, call: Call, kind: str, code: int) -> None:
    emulator.add_fault(kind, status=code, count=1)
    assert call(emulator, *LIST).status_code == code
    assert call(emulator, *LIST).status_code == 200


def test_a_key_expires(emulator: Emulator, call: Call) -> None:
    emulator.add_fault("expired_key", after=1)
    assert call(emulator, *LIST).status_code == 200
    answer = call(emulator, *LIST)
    assert answer.status_code == 401
    assert answer.json()["error_code"] == "APIGW.0301"


@pytest.mark.parametrize("seconds", [1000, -1000])
def test_the_clocks_are_too_far_apart(emulator: Emulator, call: Call, seconds: int) -> None:
    emulator.add_fault("clock_skew", seconds=seconds)
    assert call(emulator, *LIST).status_code == 401
    emulator.clear_faults()
    emulator.add_fault("clock_skew", seconds=seconds / 2)
    assert call(emulator, *LIST).status_code == 200


def test_connections_are_refused_for_a_time(emulator: Emulator, call: Call) -> None:
    assert call(emulator, *LIST).status_code == 200
    address = ("127.0.0.1", int(emulator.url.rpartition(":")[2]))
    emulator.refuse_connections(3600)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=60)
    emulator.refuse_connections(0.3)
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(address, timeout=60).close()
            break
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
    assert call(emulator, *LIST).status_code == 200


def test_a_call_may_begin_the_refusal(emulator: Emulator, call: Call) -> None:
    emulator.add_fault("refuse", call="stop_batch_task", seconds=3600, count=1)
    with pytest.raises(requests.ConnectionError):
        call(emulator, *STOP)
    with pytest.raises(requests.ConnectionError):
        call(emulator, *LIST)


def test_a_rule_skips_then_hits_so_often(emulator: Emulator, call: Call) -> None:
    fault_id = emulator.add_fault("status", call="list_*", after=2, count=1)
    codes = [call(emulator, *LIST).status_code for _ in range(5)]
    assert codes == [200, 200, 503, 200, 200]
    assert emulator.faults()[0] == {
        "id": fault_id,
        "kind": "status",
        "call": ["list_*"],
        "seen": 5,
        "fired": 1,
    }
    emulator.remove_fault(fault_id)
    assert emulator.faults() == []


def test_a_wrong_rule_names_its_field(emulator: Emulator) -> None:
    with pytest.raises(ScenarioError, match=r"fault\.probability must be from 0 to 1, not 2"):
        emulator.add_fault("reset", probability=2)


def test_an_emulator_with_a_call_under_way_still_ends_at_once(
    start: Callable[..., Emulator],
) -> None:
    took = []
    while not took or (min(took) >= 5 and len(took) < 5):  # as on a machine that is busy
        emulator = start({"faults": [{"kind": "latency", "seconds": 3600}]})
        connection = http.client.HTTPConnection(emulator.url.removeprefix("http://"))
        known = {"Authorization": "SDK-HMAC-SHA256 Access=emulator-ak"}
        connection.request("GET", "/v5/iot/p/batchtasks", headers=known)
        deadline = time.monotonic() + 60
        while not emulator.faults()[0]["seen"]:
            assert time.monotonic() < deadline
        begun = time.monotonic()
        emulator.stop()
        connection.close()
        took.append(time.monotonic() - begun)
    assert min(took) < 5


def test_an_end_waits_for_no_connection_that_is_only_open(start: Callable[..., Emulator]) -> None:
    """Nor for a clock: uvicorn's own end takes a tenth of a second, in every test of a user's."""
    took = []
    while len(took) < 5 or (min(took) >= 0.1 and len(took) < 50):  # as on a machine that is busy
        emulator = start()
        connection = http.client.HTTPConnection(emulator.url.removeprefix("http://"))
        connection.request("GET", "/v5/iot/p/batchtasks")
        connection.getresponse().read()
        begun = time.monotonic()
        emulator.stop()
        took.append(time.monotonic() - begun)
        assert connection.sock.recv(1) == b""
        connection.close()
    assert min(took) < 0.1


def test_calls_of_nobody_use_up_no_fault(emulator: Emulator, call: Call) -> None:
    emulator.add_fault("status", status=503, count=1)
    emulator.add_fault("rate_limit", per_second=0.01, burst=1)
    url = f"{emulator.url}/v5/iot/emulator-project/batchtasks"
    stranger = "SDK-HMAC-SHA256 Access=stranger, SignedHeaders=host, Signature=0"
    for headers in ({}, {"Authorization": stranger}, {"X-Auth-Token": "stranger"}):
        assert requests.get(url, headers=headers, timeout=60).status_code == 401

    assert call(emulator, *LIST).status_code == 503
