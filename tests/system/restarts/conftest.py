"""A real Airflow out of its parts, each a process that can be killed, paused and started again."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped,unused-ignore]
import pytest

IS_AIRFLOW_2 = importlib.metadata.version("apache-airflow").startswith("2.")
PARTS = {
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
    **({} if IS_AIRFLOW_2 else {"api-server": ["api-server"], "dag-processor": ["dag-processor"]}),
}
PATIENCE = 240.0


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Airflow:
    """An Airflow installation in a folder of its own."""

    def __init__(self, home: Path, template: Path, connection: dict[str, Any]) -> None:
        self.home = home
        self.database = home / "airflow.db"
        self.dags = home / "dags"
        self.dags.mkdir(parents=True)
        shutil.copyfile(template, self.database)
        port = free_port()
        self.environment = {
            **{name: value for name, value in os.environ.items() if "AIRFLOW" not in name},
            "HOME": str(home),
            "PYTHONPATH": os.pathsep.join(sys.path),
            "AIRFLOW_HOME": str(home),
            "AIRFLOW_CONN_IOTDA_DEFAULT": json.dumps(connection),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__EXECUTOR": "SequentialExecutor" if IS_AIRFLOW_2 else "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(32),
            "AIRFLOW__CORE__FERNET_KEY": "",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.database}",
            "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            # What is dead is found to be dead sooner than usual, and not before, on a busy machine.
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "15",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "2",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "40",
            "AIRFLOW__SCHEDULER__SCHEDULER_ZOMBIE_TASK_THRESHOLD": "40",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            "AIRFLOW__SCHEDULER__DAG_DIR_LIST_INTERVAL": "5",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "5",
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    # --- its parts --------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Start a part; another one of the same kind has a name such as ``triggerer 2``."""
        with (self.home / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "airflow", *PARTS[name.split()[0]]],
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def tree(self, name: str) -> list[psutil.Process]:
        """A part's process and all below it, whatever sessions they are in."""
        try:
            root = psutil.Process(self.processes[name].pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def send(self, name: str, what: signal.Signals) -> None:
        """Send a signal to a part and everything below it."""
        for process in self.tree(name):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(what)

    def pause(self, name: str) -> None:
        """Stop a part as a suspended machine does; not while it holds SQLite's only lock."""

        def paused() -> bool:
            self.send(name, signal.SIGSTOP)
            with contextlib.closing(sqlite3.connect(self.database, timeout=1)) as database:
                try:
                    database.execute("begin immediate")
                except sqlite3.OperationalError:
                    self.send(name, signal.SIGCONT)
                    return False
                database.rollback()
                return True

        self.wait_for(f"{name} without a lock", paused)

    def kill(self, name: str) -> None:
        """Kill -9, with everything below it."""
        self.send(name, signal.SIGKILL)
        self.processes.pop(name).wait()

    def kill_worker(self) -> None:
        """Kill -9 what runs a task: the process of the task, and the one that supervises it."""
        for process in self.tree("scheduler"):
            with contextlib.suppress(psutil.NoSuchProcess):
                line = " ".join(process.cmdline())
                if any(word in line for word in ("task runner", "task supervisor", "tasks run")):
                    process.kill()

    def close(self) -> None:
        for name in list(self.processes):
            self.send(name, signal.SIGCONT)
            self.kill(name)

    def wait_for(self, what: str, happened: Callable[[], Any]) -> None:
        """Look until it has happened, or for so long that it never will."""
        until = time.monotonic() + PATIENCE
        while not happened():
            if time.monotonic() > until:
                raise AssertionError(f"{what} did not happen\n{self.logs()}")
            time.sleep(0.2)

    # --- what it does -----------------------------------------------------------------------------

    def query(self, text: str, *values: Any) -> list[tuple[Any, ...]]:
        with contextlib.closing(
            sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=30)
        ) as database:
            return database.execute(text, values).fetchall()

    def command(self, *words: str) -> None:
        answer = subprocess.run(
            [sys.executable, "-m", "airflow", *words],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr

    def run(self, dag_id: str) -> None:
        """Begin a run of a DAG, once Airflow knows it."""
        self.wait_for(
            f"DAG {dag_id}",
            lambda: self.query("select 1 from serialized_dag where dag_id = ?", dag_id),
        )
        self.command("dags", "trigger", dag_id)

    def states(self, dag_id: str) -> dict[str, str | None]:
        return dict(self.query("select task_id, state from task_instance where dag_id = ?", dag_id))

    def wait_for_states(self, dag_id: str, **wanted: str) -> None:
        self.wait_for(f"{dag_id} {wanted}", lambda: wanted.items() <= self.states(dag_id).items())

    def logs(self) -> str:
        """The end of what each part has said."""
        return "\n".join(
            f"== {file.name}\n{file.read_text(errors='replace')[-2000:]}"
            for file in sorted(self.home.glob("*.log"))
        )


@pytest.fixture(scope="module")
def emulator() -> Iterator[Any]:
    """One platform for all: stops are accepted, and are over when a test says so."""
    from iotda_provider.emulator import Emulator

    scenario = {
        "devices": 5,
        "success_after": 1e9,
        "switches": {"stop_after": 1000, "stopping_timeout": 1e9},
    }
    with Emulator(scenario, speed=0) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def airflow(
    emulator: Any, airflow_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Airflow]:
    """All parts of Airflow, running."""
    airflow = Airflow(
        tmp_path_factory.mktemp("airflow"), airflow_database, emulator.airflow_connection
    )
    try:
        for name in PARTS:
            airflow.start(name)
        yield airflow
    finally:
        airflow.close()
