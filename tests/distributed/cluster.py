"""A distributed Airflow on this machine: CeleryExecutor, Postgres, Redis, each part a process.

A supervisor starts again what ends by itself, as systemd or Kubernetes does where teams run it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped,unused-ignore]
import requests
from cryptography.fernet import Fernet
from tests.distributed.services import Broker, Postgres
from tests.system.restarts.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PARTS: dict[str, list[str]] = {
    "api-server": ["api-server"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer 1": ["triggerer", "--skip-serve-logs"],
    "triggerer 2": ["triggerer", "--skip-serve-logs"],
    "worker": ["celery", "worker", "--skip-serve-logs", "--without-mingle", "--without-gossip"],
}
PATIENCE = 600.0
#: Processes of the worker that run tasks at a time.
SLOTS = 2
_MARK = "IOTDA_CLUSTER"
_PART = "IOTDA_PART"

# Faults that the tests have to find, put into the harness's own copy: IOTDA_MUTATION=late-stop.
_POLICY = '''
"""Cluster policies: what Airflow does to each task when it reads a DAG file."""

import os

MUTATION = os.environ.get("IOTDA_MUTATION")


def task_policy(task):
    if MUTATION == "not-deferrable" and hasattr(task, "deferrable"):
        task.deferrable = False
    if MUTATION == "no-retries":
        task.retries = 0
'''


class Cluster:
    """All parts of an Airflow in a folder of its own.

    :param home: the folder; made where there is none
    :param connection: ``iotda_default``
    :param dags: DAG files to copy
    :param options: more of its environment
    """

    def __init__(
        self,
        home: Path,
        connection: Mapping[str, Any],
        dags: Sequence[Path],
        options: Mapping[str, str] | None = None,
    ) -> None:
        self.home = home
        (home / "dags").mkdir(parents=True)
        (home / "config").mkdir()
        (home / "config" / "airflow_local_settings.py").write_text(_POLICY)
        for dag in dags:
            shutil.copy(dag, home / "dags")
        self.mark = secrets.token_hex(8)
        self.ended_by_themselves: list[str] = []
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor")
        self._closing = threading.Event()
        self._lock = threading.RLock()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.broker = Broker(home)
        self.database = Postgres(home)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if "AIRFLOW" not in name},
            "HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join([str(ROOT / "provider"), str(ROOT)]),
            "PYTHONUNBUFFERED": "1",
            "SPT_NOENV": "1",  # a process that gives itself a title keeps what it is known by
            _MARK: self.mark,
            _PART: "command",
            "IOTDA_STACKS": str(home / "stacks.log"),
            "AIRFLOW_HOME": str(home),
            "AIRFLOW_CONN_IOTDA_DEFAULT": json.dumps(dict(connection)),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__SECRET_KEY": secrets.token_urlsafe(32),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
            "AIRFLOW__CELERY__BROKER_URL": self.broker.url,
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{self.database.url}",
            "AIRFLOW__CELERY__WORKER_CONCURRENCY": str(SLOTS),
            "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CORE__FERNET_KEY": Fernet.generate_key().decode(),
            "AIRFLOW__CORE__HOSTNAME_CALLABLE": "tests.distributed.part.part_name",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self.database.url,
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
            "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            **(options or {}),
        }

    # --- its parts --------------------------------------------------------------------------------

    def start(self) -> None:
        """Start everything; returns when all parts show life."""
        self.broker.start()
        self.database.start()
        self.command("db", "migrate")
        for name in PARTS:
            self.start_part(name)
        self._supervisor.start()
        self.wait_for("life in all parts", self.all_alive)

    def start_part(self, name: str) -> None:
        """Start a part, and keep it running from now on."""
        with self._lock, (self.home / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", "tests.distributed.part", *PARTS[name]],
                env=self.environment | {_PART: name},
                cwd=self.home,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        """Kill -9 a part with all that it has started; it stays away until it is started again."""
        with self._lock:
            process = self._processes.pop(name)
            self._end(name)
            process.wait()

    def processes(self, part: str | None = None) -> list[psutil.Process]:
        """What runs of a part, or of all of them, whosever children they are by now."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                environment = process.environ()
                if environment.get(_MARK) == self.mark and part in (None, environment.get(_PART)):
                    found.append(process)
        return found

    def _end(self, part: str | None) -> None:
        """Kill all processes of a part, and those that they start meanwhile."""
        while found := self.processes(part):
            for process in found:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(found, timeout=10)

    def _supervise(self) -> None:
        """Start again what has ended, after a second or so."""
        while not self._closing.wait(1.0):
            with self._lock:
                for name, process in list(self._processes.items()):
                    if process.poll() is not None and not self._closing.is_set():
                        self.ended_by_themselves.append(name)
                        self._end(name)
                        self.start_part(name)

    def part_of(self, job_id: int) -> str:
        """The name of the part that has this job."""
        ((host,),) = self.query("select hostname from job where id = %s", job_id)
        return str(host).replace("-", " ")

    def all_alive(self) -> bool:
        """Whether each part has shown life lately, by Airflow's own record."""
        kinds = {"SchedulerJob": 1, "DagProcessorJob": 1, "TriggererJob": 2}
        alive = self.query(
            "select job_type, count(*) from job where state = 'running' "
            "and latest_heartbeat > now() - interval '30 seconds' group by job_type"
        )
        with contextlib.suppress(requests.RequestException):
            answers = requests.get(f"{self.url}/api/v2/version", timeout=10).ok
            return answers and dict(alive) == kinds and self._worker_answers()
        return False

    def _worker_answers(self) -> bool:
        return "ready." in (self.home / "worker.log").read_text(errors="replace")

    def close(self) -> list[str]:
        """End everything; what was left of it then, which should be nothing."""
        self._closing.set()
        if self._supervisor.is_alive():
            self._supervisor.join()
        with self._lock:
            names, self._processes = dict(self._processes), {}
        self._end(None)
        for process in names.values():
            process.wait()
        self.broker.stop()
        self.database.stop()
        self.database.forget()
        return [repr(process) for process in self.processes()]

    # --- what it does -----------------------------------------------------------------------------

    def command(self, *words: str) -> str:
        """Run one of Airflow's own commands; what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "airflow", *words],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Call Airflow's own API."""
        token = requests.get(f"{self.url}/auth/token", timeout=60).json()["access_token"]
        answer = requests.request(
            method,
            f"{self.url}/api/v2/{path}",
            headers={"Authorization": f"Bearer {token}"},
            json=body,
            timeout=60,
        )
        assert answer.ok, answer.text
        return answer.json() if answer.content else None

    def unpause(self, dag_id: str) -> None:
        """Let a DAG run, once Airflow knows it."""
        known = "select 1 from serialized_dag where dag_id = %s"
        self.wait_for(f"DAG {dag_id}", lambda: self.query(known, dag_id))
        self.call("PATCH", f"dags/{dag_id}", {"is_paused": False})

    def query(self, text: str, *values: Any) -> list[tuple[Any, ...]]:
        """What the database says; nothing while it is away."""
        import psycopg2

        try:
            connection = self.database.connect()
        except psycopg2.OperationalError:
            return []
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute(text, values or None)
            return list(cursor.fetchall())

    def wait_for(
        self, what: str, happened: Callable[[], Any], *, patience: float = PATIENCE
    ) -> Any:
        """Look until it has happened, or for so long that it never will; what it was."""
        until = time.monotonic() + patience
        while not (found := happened()):
            if time.monotonic() > until:
                raise AssertionError(f"{what} did not happen in {patience:.0f} s\n{self.report()}")
            time.sleep(0.3)
        return found

    def report(self) -> str:
        """Where all processes are, what the tasks are at, and the end of each log."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGUSR1)
        time.sleep(2)  # they write
        tasks = self.query(
            "select dag_id, task_id, coalesce(state, 'none'), count(*) from task_instance "
            "group by 1, 2, 3 order by 1, 2, 3"
        )
        lines = [f"tasks: {task}" for task in tasks]
        lines += [f"ended by itself: {name}" for name in self.ended_by_themselves]
        for log in sorted(self.home.glob("*.log")):
            lines.append(f"--- {log.name}")
            most = 400 if log.name == "stacks.log" else 40
            lines += log.read_text(errors="replace").splitlines()[-most:]
        return "\n".join(lines)
