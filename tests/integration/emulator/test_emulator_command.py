"""The command ``iotda-emulator`` as a process of its own: its lines, its exit, its state file."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer

from iotda_provider.emulator.__main__ import main

TASK = "0123456789abcdef01234567"


class Process:
    """A running emulator process."""

    def __init__(self, *options: str, **environment: str) -> None:
        command = [sys.executable, "-m", "iotda_provider.emulator", "--port", "0", *options]
        self.popen = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=os.environ | environment
        )
        assert self.popen.stdout is not None
        self.ready = self.popen.stdout.readline().rstrip("\n")
        assert self.ready, f"it ended with {self.popen.wait(60)}; see its error output"
        self.url = self.ready.rpartition(" ")[2]

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()
        assert self.popen.stdout is not None
        self.popen.stdout.close()

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Signal it; answers its exit code and what else it printed."""
        self.popen.send_signal(number)
        out, _ = self.popen.communicate(timeout=60)
        return self.popen.returncode, out

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        ak: str = "emulator-ak",
        sk: str = "emulator-sk",
    ) -> requests.Response:
        """One signed call."""
        path = f"/v5/iot/emulator-project{path}"
        request = SdkRequest(
            method=method,
            schema="http",
            host=self.url.removeprefix("http://"),
            resource_path=path,
            query_params=[],
            header_params={"Content-Type": "application/json"},
            body="" if body is None else json.dumps(body),
        )
        Signer(BasicCredentials(ak, sk, "emulator-project")).sign(request)
        return requests.request(
            method, self.url + path, data=request.body, headers=request.header_params, timeout=60
        )


@pytest.fixture
def run() -> Iterator[Callable[..., Process]]:
    with ExitStack() as stack:
        yield lambda *options, **environment: stack.enter_context(
            Process(*map(str, options), **environment)
        )


Refused = Callable[..., str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """The one line with which the command, given these options, ends at once."""

    def end(*options: object) -> str:
        assert main([str(option) for option in options]) == 2
        out, error = capsys.readouterr()
        assert (out, error.count("\n")) == ("", 1)
        return error

    return end


@pytest.fixture
def scenario(tmp_path: Path) -> Callable[..., Path]:
    def write(**fields: Any) -> Path:
        path = tmp_path / "scenario.json"
        path.write_text(json.dumps(fields))
        return path

    return write


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_ready_line_no_control_calls_and_a_quick_clean_end(
    run: Callable[..., Process], number: int
) -> None:
    took = []
    while not took or (min(took) >= 5 and len(took) < 5):  # as on a machine that is busy
        process = run()
        assert process.ready.startswith("iotda-emulator ready on http://127.0.0.1:")
        assert process.call("GET", "/devices").status_code == 200
        answer = requests.get(f"{process.url}/_emulator/clock", timeout=60)
        assert (answer.status_code, answer.json()["error_code"]) == (404, "APIGW.0101")
        begun = time.monotonic()
        assert process.end(number) == (0, "")
        took.append(time.monotonic() - begun)
    assert min(took) < 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0 is not loopback; --allow-remote permits it"),
        (["--speed", "-1"], "--speed must be from 0 to 1000000, not -1"),
        (["--speed", "nan"], "--speed must be from 0 to 1000000, not nan"),
        (["--port", "65536"], "--port must be from 0 to 65535, not 65536"),
        (["--scenario", "missing.json"], "No such file"),
        (["--scenario", "/dev/zero"], "/dev/zero has more than"),
        (["--project-id", "a/b"], "--project-id must be"),
        (["--ak", "clé"], "--ak or IOTDA_EMULATOR_AK must be"),
        (["--sk", ""], "--sk or IOTDA_EMULATOR_SK is empty"),
        (["--control-key", " "], "--control-key or IOTDA_EMULATOR_CONTROL_KEY is empty"),
    ],
)
def test_a_wrong_option_is_one_line(refused: Refused, options: list[str], message: str) -> None:
    assert message in refused(*options)


def test_a_wrong_scenario_is_one_line_that_names_the_field(scenario: Callable[..., Path]) -> None:
    command = [sys.executable, "-m", "iotda_provider.emulator", "--scenario"]
    path = scenario(segments=[{"share": 0.1, "failure_rat": 1}])
    done = subprocess.run([*command, str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == (
        "iotda-emulator: error: segments[0].failure_rat is not a known field;"
        " did you mean failure_rate?\n"
    )


def test_a_taken_port_is_one_line(refused: Refused) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"127.0.0.1, port {port}: Address already in use" in refused("--port", port)


def test_an_address_of_another_machine_is_one_line_that_names_it(refused: Refused) -> None:
    line = refused("--allow-remote", "--host", "192.0.2.1", "--port", 8765)
    assert "can't listen at 192.0.2.1, port 8765: " in line


def test_control_calls_need_the_key_that_is_printed(
    run: Callable[..., Process], scenario: Callable[..., Path]
) -> None:
    path = scenario(devices=5, batch_tasks=[{"task_id": TASK}])
    process = run("--control", "--speed", 0, "--scenario", path)
    assert process.popen.stdout is not None
    name, _, key = process.popen.stdout.readline().rstrip("\n").rpartition(" ")
    assert name == "iotda-emulator control key"
    control = f"{process.url}/_emulator"
    assert requests.get(f"{control}/clock", timeout=60).status_code == 401
    with requests.Session() as session:
        session.headers["X-Emulator-Key"] = key
        moved = session.post(f"{control}/clock/advance", json={"seconds": 86_400}).json()
        assert moved["seconds"] == 86_400
        shown = process.call("GET", f"/batchtasks/{TASK}").json()
        assert shown["batchtask"]["status"] == "Success"
        entries = session.get(f"{control}/journal?call=show_*").json()["entries"]
        assert [entry["call"] for entry in entries] == ["show_batch_task"]
        assert session.delete(f"{control}/journal").status_code == 204
        fault = {"kind": "status", "call": "list_devices", "count": 1}
        made = session.post(f"{control}/faults", json=fault)
        assert made.status_code == 201
        assert process.call("GET", "/devices").status_code == 503
        assert session.get(f"{control}/faults").json()["faults"][0]["fired"] == 1
        assert session.delete(f"{control}/faults/{made.json()['id']}").status_code == 204
        assert session.delete(f"{control}/faults").status_code == 204
        wrong = session.post(f"{control}/faults", json={"kind": "nonsense"})
        assert wrong.status_code == 400
        assert "fault.kind must be one of" in wrong.json()["error_msg"]
        wrong = session.post(f"{control}/clock/advance", json={"seconds": -1})
        assert "advance.seconds must be from 0" in wrong.json()["error_msg"]


@pytest.mark.parametrize("by_option", [False, True])
def test_a_control_key_that_was_given_is_not_printed(
    run: Callable[..., Process], by_option: bool
) -> None:
    key = "given-by-somebody"
    environment = {"IOTDA_EMULATOR_CONTROL_KEY": "other" if by_option else key}
    process = run(*(["--control-key", key] if by_option else []), "--control", **environment)
    url = f"{process.url}/_emulator/clock"
    assert requests.get(url, headers={"X-Emulator-Key": key}, timeout=60).status_code == 200
    assert process.end() == (0, "")


def test_keys_come_by_the_environment_and_options_win(run: Callable[..., Process]) -> None:
    other = {"IOTDA_EMULATOR_AK": "other-ak", "IOTDA_EMULATOR_SK": "other-sk"}
    by_environment = run(**other)
    assert by_environment.call("GET", "/devices").status_code == 401
    assert by_environment.call("GET", "/devices", ak="other-ak", sk="other-sk").status_code == 200
    options = ["--ak", "emulator-ak", "--sk", "emulator-sk"]
    assert run(*options, **other).call("GET", "/devices").status_code == 200
    token = {"IOTDA_EMULATOR_SECURITY_TOKEN": "token"}
    assert run(**token).call("GET", "/devices").status_code == 401


def test_what_was_answered_outlives_a_kill(
    run: Callable[..., Process], scenario: Callable[..., Path], tmp_path: Path
) -> None:
    path = scenario(
        devices=50,
        failure_rate=0.3,
        success_after={"distribution": "uniform", "min": 100, "max": 10_000},
    )
    options = ["--state", tmp_path / "state.db", "--seed", 7, "--speed", 0.001]
    first = run(*options, "--scenario", path)
    body = {
        "task_name": "canary",
        "task_type": "firmwareUpgrade",
        "targets": [f"device-{n:05d}" for n in range(50)],
        "document": {"package_ids": ["abc"]},
    }
    task_id = first.call("POST", "/batchtasks", body).json()["task_id"]
    stopped = {"targets": ["device-00003"]}
    assert first.call("POST", f"/batchtasks/{task_id}/stop", stopped).status_code == 200
    before = first.call("GET", f"/batchtasks/{task_id}").json()
    first.popen.kill()
    first.popen.wait()
    second = run(*options)
    after = second.call("GET", f"/batchtasks/{task_id}").json()
    assert after == before


def test_virtual_time_goes_on_while_the_emulator_is_down(
    run: Callable[..., Process], tmp_path: Path, scenario: Callable[..., Path]
) -> None:
    path = scenario(devices=5, batch_tasks=[{"task_id": TASK}])
    options = ["--state", tmp_path / "state.db", "--speed", 1000]
    run(*options, "--scenario", path).popen.kill()
    second = run(*options)
    shown = second.call("GET", f"/batchtasks/{TASK}").json()
    assert shown["batchtask"]["status"] == "Success"


def test_a_state_file_is_of_one_scenario_and_one_emulator(
    run: Callable[..., Process],
    refused: Refused,
    scenario: Callable[..., Path],
    tmp_path: Path,
) -> None:
    state = tmp_path / "state.db"
    first = run("--state", state, "--scenario", scenario(devices=5))
    assert "can't be used as a state file" in refused("--port", 0, "--state", state)
    first.end()
    other = ["--scenario", scenario(devices=6)]
    error = refused("--port", 0, "--state", state, *other)
    assert error.endswith("was made with another scenario\n")
    (tmp_path / "text").write_text("not a database, but long enough to be looked at as one" * 50)
    refused("--port", 0, "--state", tmp_path / "text")
