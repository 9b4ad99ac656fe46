"""The emulated platform in a process of its own, which may be away and comes back as it was."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import requests
from tests.system.restarts.ports import free_port

from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.procedures.batch_tasks import REHEARSAL


class EmulatorProcess:
    """``iotda-emulator --state``.

    :param folder: where it keeps what outlives it; an empty one
    :param scenario: what it emulates
    :param speed: virtual seconds a second; 0: its time stands still but for :meth:`advance`
    """

    def __init__(self, folder: Path, scenario: dict[str, Any], *, speed: float = 0) -> None:
        self.folder = folder
        self.speed = speed
        self.url = f"http://127.0.0.1:{free_port()}"
        self.airflow_connection = {
            "conn_type": "iotda",
            "host": self.url,
            "login": "emulator-ak",
            "password": "emulator-sk",
            "extra": {"region": "cn-north-4", "project_id": "emulator-project"},
        }
        self._key = secrets.token_urlsafe()
        self._worlds = 0
        self._emulate(scenario)
        self._process: subprocess.Popen[str] | None = None

    def _emulate(self, scenario: dict[str, Any]) -> None:
        self._worlds += 1
        self._state = self.folder / f"state-{self._worlds}.db"
        self._scenario = self.folder / f"scenario-{self._worlds}.json"
        self._scenario.write_text(json.dumps(scenario))

    def begin_anew(self, scenario: dict[str, Any]) -> None:
        """Start another platform at the same address, which knows nothing of this one."""
        self.kill()
        self._emulate(scenario)
        self.start()

    def start(self) -> None:
        """Start it, at the same address each time; returns when it answers."""
        command = [sys.executable, "-m", "iotda_provider.emulator"]
        command += ["--speed", str(self.speed)]
        # A key may begin with a dash.
        command += ["--port", self.url.rpartition(":")[2], f"--control-key={self._key}"]
        command += ["--scenario", str(self._scenario), "--state", str(self._state)]
        with (self.folder / "emulator.log").open("a") as log:
            self._process = subprocess.Popen(
                command,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        ready = self._process.stdout.readline()
        assert ready == f"iotda-emulator ready on {self.url}\n", self.log()

    def kill(self) -> None:
        """Kill -9."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def log(self) -> str:
        return (self.folder / "emulator.log").read_text()

    def new_upgrade(self, name: str, devices: int, *, first: int = 0, **more: Any) -> str:
        """Create a batch task for so many devices, and let it begin; its id.

        :param first: the first device's number
        :param more: what else ``create_batch_task`` takes
        """
        with IoTDAHook() as hook:
            made = hook.create_batch_task(
                task_name=name,
                task_type="firmwareUpgrade",
                targets=[f"device-{first + number:05}" for number in range(devices)],
                document={"package_ids": ["32822e5744a45ede319d2c50"]},
                **more,
            )
        self.advance(10)
        return made.task_id

    # --- control calls ----------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let virtual time pass."""
        self._control("POST", "clock/advance", {"seconds": seconds})

    def journal(self, call: str = "*") -> list[dict[str, Any]]:
        """The requests of calls that match a pattern, those of earlier lives too."""
        entries: list[dict[str, Any]] = self._control("GET", f"journal?call={call}")["entries"]
        return entries

    def refuse(self, seconds: float) -> None:
        """Refuse connections for so many real seconds, and reset those that are open."""
        with contextlib.suppress(requests.ConnectionError):  # this one's as well
            self._control("POST", "refuse", {"seconds": seconds})

    def answers(self) -> bool:
        """Whether it takes connections."""
        try:
            self._control("GET", "clock")
        except requests.ConnectionError:
            return False
        return True

    def add_fault(self, kind: str, **rule: Any) -> str:
        """Put a fault's rule in force; answers its id."""
        return str(self._control("POST", "faults", {"kind": kind, **rule})["id"])

    def fired(self, fault_id: str) -> bool:
        """Whether a rule has hit a request."""
        return any(
            fault["fired"]
            for fault in self._control("GET", "faults")["faults"]
            if fault["id"] == fault_id
        )

    def remove_fault(self, fault_id: str) -> None:
        """Take one rule back."""
        self._control("DELETE", f"faults/{fault_id}")

    def _control(self, method: str, path: str, body: Any = None) -> Any:
        answer = requests.request(
            method,
            f"{self.url}/_emulator/{path}",
            headers={"X-Emulator-Key": self._key},
            json=body,
            timeout=60,
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None

    # --- what it keeps ----------------------------------------------------------------------------

    def commands(self, name: str) -> list[dict[str, Any]]:
        """What it has acted upon by that name, answered or not; read while it is dead."""
        assert self._process is None
        with contextlib.closing(sqlite3.connect(self._state)) as state:
            rows = state.execute(
                "select arguments from commands where name = ? order by n", (name,)
            ).fetchall()
        return [json.loads(arguments) for (arguments,) in rows]

    def stops_in_effect(self, task_id: str) -> int:
        """How many stops of a task it has acted upon, but rehearsals; read while it is dead."""
        stops = [command for command in self.commands("stop") if command["task_id"] == task_id]
        return sum(REHEARSAL not in str(command) for command in stops)
