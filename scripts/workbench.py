"""What the demo and the web UI share: an emulator and an Airflow of this checkout, as processes.

Everything lives in a folder of its own inside the checkout, and every process is ended by its
handle.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PROJECT_ID = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"


class WorkbenchError(Exception):
    """A part did not start; the message says which, and where to look."""


@dataclass(frozen=True)
class Workbench:
    """One folder with an Airflow in it, and the emulator that its connection leads to.

    :param folder: holds Airflow's database, logs and the emulator's log
    :param emulator_url: where the emulator listens
    :param environment: what the processes of this Airflow need
    """

    folder: Path
    emulator_url: str
    environment: dict[str, str]

    def airflow(self, *arguments: str, log: Path) -> subprocess.Popen[bytes]:
        """Start an airflow command, its output in a file."""
        with log.open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "airflow", *arguments],
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
            )


def connect(bench: Workbench) -> Any:
    """Our own hook, to look on from outside, with the same connection as the DAGs."""
    os.environ.update(
        {name: value for name, value in bench.environment.items() if name.startswith("AIRFLOW")}
    )
    from iotda_provider.hooks.iotda import IoTDAHook

    return IoTDAHook()


def migrate(folder: Path) -> None:
    """Make Airflow's tables; an empty database of this version is kept for the next time."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    kept = (
        ROOT
        / ".cache"
        / "airflow-db"
        / f"airflow-{version('apache-airflow')}-python-{python}.sqlite"
    )
    database = folder / "airflow.db"
    if kept.exists():
        shutil.copyfile(kept, database)
        return
    log = folder / "migrate.log"
    with log.open("wb") as output:
        done = subprocess.run(
            [sys.executable, "-m", "airflow", "db", "migrate"],
            env=_environment(folder, {}),
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    if done.returncode != 0:
        raise WorkbenchError(f"airflow db migrate failed; see {log}")
    kept.parent.mkdir(parents=True, exist_ok=True)
    part = kept.with_suffix(f".{os.getpid()}")
    shutil.copyfile(database, part)
    part.replace(kept)


@contextmanager
def workbench(name: str, *, scenario: Path, speed: float, seed: int = 7) -> Iterator[Workbench]:
    """Prepare an Airflow, then start the emulator; end the emulator when done.

    :param name: the folder's name below ``.demo``
    :param scenario: what the emulator plays
    :param speed: how much faster than real time
    """
    folder = ROOT / ".demo" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    migrate(folder)
    access_key, secret_key = "DEMOACCESSKEY", secrets.token_hex(20)
    log = folder / "emulator.log"
    command = [
        sys.executable,
        "-m",
        "iotda_provider.emulator",
        *("--port", "0", "--ak", access_key, "--sk", secret_key, "--project-id", PROJECT_ID),
        *("--scenario", str(scenario), "--seed", str(seed), "--speed", str(speed)),
    ]
    with log.open("wb") as errors:
        emulator = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL, text=True
        )
    try:
        assert emulator.stdout is not None
        ready = emulator.stdout.readline().strip()
        if not ready.startswith("iotda-emulator ready on "):
            raise WorkbenchError(f"The emulator did not start; see {log}")
        url = ready.rsplit(" ", 1)[1]
        connection = {
            "conn_type": "iotda",
            "host": url,
            "login": access_key,
            "password": secret_key,
            "extra": {"project_id": PROJECT_ID, "region": "cn-north-4"},
        }
        yield Workbench(folder, url, _environment(folder, connection))
    finally:
        end(emulator)


def _environment(folder: Path, connection: dict[str, object]) -> dict[str, str]:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")
    }
    return environment | {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW_CONN_IOTDA_DEFAULT": json.dumps(connection),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        # However busy this machine is.
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "300",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__PARALLELISM": "4",
        # Airflow's parts write to one file: on a busy machine they wait for each other.
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder / 'airflow.db'}?timeout=60",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(folder / "logs"),
        # `airflow standalone` starts its parts by the name of the command.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONUNBUFFERED": "1",
    }


def end(process: subprocess.Popen[str] | subprocess.Popen[bytes], patience: float = 10) -> None:
    """End one process and all that it has started."""
    import psutil

    try:
        started = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        started = []
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    for child in started:
        _signal(child, signal.SIGTERM)
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(started, timeout=patience)
    for child in alive:
        _signal(child, signal.SIGKILL)
    if process.stdout is not None:
        process.stdout.close()


def _signal(process: object, number: int) -> None:
    import psutil

    try:
        process.send_signal(number)  # type: ignore[attr-defined]
    except psutil.NoSuchProcess:
        return
