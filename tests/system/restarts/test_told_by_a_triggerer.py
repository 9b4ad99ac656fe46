"""A deferred guard in a real triggerer: its metrics reach StatsD, and its messages people."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.system.restarts.emulator_process import EmulatorProcess
from tests.system.restarts.parts import IS_AIRFLOW_2, PARTS, Airflow

pytest.importorskip("statsd", reason="Airflow's client for StatsD is an extra of Airflow")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

DAG = """
from airflow.providers.common.compat.sdk import DAG

from iotda_provider.guards import SequentialFailureTest
from iotda_provider.sensors.batch_task import RolloutGuardSensor
from our_chat import Chat

with DAG("measured", schedule=None):
    RolloutGuardSensor(
        task_id="guard",
        batch_task_id="{{{{ dag_run.conf['id'] }}}}",
        rules=SequentialFailureTest(0.02),
        poke_interval=1,
        deferrable=True,
        notifiers=[Chat({file!r}, "{{{{ run_id }}}}|{{{{ ti.task_id }}}}|{{{{ message }}}}")],
    )
"""
#: In Airflow's folder of plugins, where triggerers find it, too.
CHAT = """
import os

from airflow.providers.common.compat.notifier import BaseNotifier


class Chat(BaseNotifier):
    template_fields = ("text",)

    def __init__(self, file, text):
        super().__init__()
        self.file, self.text = file, text

    def notify(self, context):
        with open(self.file, "a") as file:
            print(os.getpid(), context["try_number"], self.text, sep="|", file=file)
"""


class Listener:
    """Keeps the lines of StatsD that come to a port of this machine."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.lines: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                data = self._socket.recv(65_536)
            except OSError:
                return
            self.lines += data.decode().splitlines()

    def close(self) -> None:
        self._socket.close()

    def values(self, name: str) -> list[float]:
        """The values of a metric with the tags of the guard."""
        tags = "(?=.*,dag_id=measured)(?=.*,iotda_conn_id=iotda_default)"
        pattern = re.compile(rf"{tags}airflow\.{re.escape(name)},[^:]*:([0-9.]+)\|")
        return [float(match[1]) for line in list(self.lines) if (match := pattern.match(line))]


@pytest.fixture(scope="module")
def scenario() -> dict[str, Any]:
    """A fleet whose upgrade goes on until a test lets time pass; then all of it fails."""
    return {"devices": 20, "failure_rate": 1.0, "failure_after": 100, "dispatch_rate": 10.0}


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()


@pytest.fixture(scope="module")
def airflow(
    emulator: EmulatorProcess,
    listener: Listener,
    airflow_database: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Airflow]:
    """All parts of an Airflow that sends its metrics to the listener."""
    options = {
        "AIRFLOW__METRICS__STATSD_ON": "True",
        "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
        "AIRFLOW__METRICS__STATSD_PORT": str(listener.port),
        "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
    }
    home = tmp_path_factory.mktemp("airflow")
    airflow = Airflow(home, airflow_database, emulator.airflow_connection, options)
    try:
        for name in PARTS:
            airflow.start(name)
        yield airflow
    finally:
        airflow.close()


def test_metrics_and_messages_of_a_deferred_guard_arrive(
    airflow: Airflow, emulator: Any, listener: Listener
) -> None:
    said = airflow.home / "said"
    (airflow.home / "plugins").mkdir()
    (airflow.home / "plugins" / "our_chat.py").write_text(CHAT)
    (airflow.dags / "measured.py").write_text(DAG.format(file=str(said)))
    task_id = emulator.new_upgrade("rollout", 20)
    airflow.run("measured", {"id": task_id})

    # The worker takes the first look, so further ones are the triggerer's.
    airflow.wait_for_states("measured", guard="deferred")
    airflow.wait_for("looks of the trigger", lambda: sum(listener.values("iotda.guards.looks")) > 4)
    emulator.advance(30)  # all have started
    airflow.wait_for("all devices", lambda: sum(listener.values("iotda.devices.started")) == 20)
    assert listener.values("iotda.guards.running_seconds")
    assert listener.values("iotda.guards.evidence")
    emulator.advance(1000)
    airflow.wait_for_states("measured", guard="success")

    assert sum(listener.values("iotda.devices.started")) == 20
    assert sum(listener.values("iotda.devices.failed")) == 20
    looks, calls = (sum(listener.values(f"iotda.{name}")) for name in ("guards.looks", "api.calls"))
    assert calls >= looks
    assert not any(task_id in line for line in listener.lines)

    (line,) = said.read_text().splitlines()
    pid, number, run_id, its_task, message = line.split("|", 4)
    assert int(pid) in {process.pid for process in airflow.tree("triggerer")}
    assert (number, run_id, its_task) == ("1", airflow.run_id("measured"), "guard")
    assert message.startswith("BREACHED: ")
    if not IS_AIRFLOW_2:  # whose address is elsewhere in its configuration
        assert f"{airflow.url}/plugin/rollouts#/run/measured/" in message
