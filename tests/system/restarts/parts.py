"""A real Airflow out of its parts, each a process that can be killed, paused and started again."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import re
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil  # type: ignore[import-untyped,unused-ignore]
import requests
from tests.system.restarts.ports import free_port

VERSION = tuple(map(int, importlib.metadata.version("apache-airflow").split(".")[:2]))
IS_AIRFLOW_2 = VERSION < (3, 0)
PARTS = {
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
    **({} if IS_AIRFLOW_2 else {"api-server": ["api-server"], "dag-processor": ["dag-processor"]}),
}
#: Seconds for which no task instance changes, after which nothing more is expected.
PATIENCE = 240.0
# A process that runs a task, or supervises one: of Airflow 3, and of Airflow 2.
_AT_WORK = re.compile("airflow worker -- (?!.*<idle>)|task runner|task supervisor|tasks run")
# What Airflow 2's own user interface does when a user marks a task instance.
MARK = """
from airflow.models.dagbag import DagBag

dag = DagBag(read_dags_from_db=True).get_dag({dag_id!r})
dag.set_task_instance_state(task_id={task_id!r}, run_id={run_id!r}, state={state!r}, commit=True)
"""


class Airflow:
    """An Airflow installation in a folder of its own.

    :param home: the folder; made where there is none
    :param template: a migrated database to copy
    :param connection: ``iotda_default``
    :param options: more of its environment
    """

    def __init__(
        self,
        home: Path,
        template: Path,
        connection: dict[str, Any],
        options: Mapping[str, str] | None = None,
    ) -> None:
        self.home = home
        self.database = home / "airflow.db"
        self.dags = home / "dags"
        self.dags.mkdir(parents=True)
        shutil.copyfile(template, self.database)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if "AIRFLOW" not in name},
            "HOME": str(home),
            # The command airflow, which SequentialExecutor runs by its name.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(sys.path),
            "AIRFLOW_HOME": str(home),
            "AIRFLOW_CONN_IOTDA_DEFAULT": json.dumps(connection),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__EXECUTOR": "SequentialExecutor" if IS_AIRFLOW_2 else "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(32),
            "AIRFLOW__CORE__FERNET_KEY": "",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.database}",
            "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            # A busy machine takes long to import a file, whose DAGs would be gone meanwhile.
            "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "300",
            "AIRFLOW__CORE__DAG_FILE_PROCESSOR_TIMEOUT": "600",
            "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "600",
            # What is dead is found to be dead sooner than usual, and not before, on a busy machine.
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "15",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "2",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "40",
            "AIRFLOW__SCHEDULER__SCHEDULER_ZOMBIE_TASK_THRESHOLD": "40",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            "AIRFLOW__SCHEDULER__DAG_DIR_LIST_INTERVAL": "5",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "5",
            "AIRFLOW__SCHEDULER__MIN_FILE_PROCESS_INTERVAL": "5",
            **(options or {}),
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
        """Stop a part as a suspended machine does; not while it holds a lock of SQLite."""

        def paused() -> bool:
            self.send(name, signal.SIGSTOP)
            with contextlib.closing(sqlite3.connect(self.database, timeout=1)) as database:
                try:
                    database.execute("begin exclusive")
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

    def stop(self, name: str) -> None:
        """Let a part end by itself, as a service's restart does: SIGTERM to its first process."""
        below = self.tree(name)
        process = self.processes.pop(name)
        process.terminate()
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()
            for other in below:
                with contextlib.suppress(psutil.NoSuchProcess):
                    other.kill()

    def kill_all(self) -> None:
        """Kill -9 all parts at once, with everything below them: a power cut."""
        everything = [process for name in self.processes for process in self.tree(name)]
        for process in everything:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for name in list(self.processes):
            self.processes.pop(name).wait()

        def are_dead() -> bool:
            for process in everything:
                # Whose parent has died too may stay a zombie where nobody is there to reap it.
                with contextlib.suppress(psutil.NoSuchProcess):
                    if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                        return False
            return True

        self.wait_for("the end of all of Airflow", are_dead)

    def workers(self) -> list[psutil.Process]:
        """The processes that run a task, and those that supervise one."""
        found = []
        for process in self.tree("scheduler"):
            with contextlib.suppress(psutil.NoSuchProcess):
                line = " ".join(process.cmdline())
                if _AT_WORK.search(line):
                    found.append(process)
        return found

    def kill_worker(self) -> None:
        """Kill -9 what runs a task: the process of the task, and the one that supervises it."""
        workers = self.workers()
        assert workers, "nothing runs a task"
        for process in workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def kill_worker_of(self, dag_id: str, task_id: str) -> None:
        """Kill -9 the process that runs a task, by Airflow's own record, and what supervises it."""
        ((pid,),) = self.query(
            "select pid from task_instance where dag_id = ? and task_id = ? and state = 'running'",
            *(dag_id, task_id),
        )
        workers, process = self.workers(), psutil.Process(pid)
        assert process in workers, f"{task_id} runs as {process}, which is none of {workers}"
        for one in [process, *process.parents()]:
            if one in workers:
                one.kill()

    def close(self) -> None:
        for name in list(self.processes):
            self.send(name, signal.SIGCONT)
            self.kill(name)

    def wait_for(self, what: str, happened: Callable[[], Any]) -> None:
        """Look until it has happened, or nothing has for so long that it never will."""
        tasks = "select dag_id, run_id, task_id, map_index, state, try_number from task_instance"
        seen, until = None, 0.0
        while not happened():
            if time.monotonic() > until:
                now = self.query(tasks)
                if now == seen:
                    raise AssertionError(f"{what} did not happen\n{self.logs()}")
                seen, until = now, time.monotonic() + PATIENCE
            time.sleep(0.2)

    # --- what it does -----------------------------------------------------------------------------

    def query(self, text: str, *values: Any) -> list[tuple[Any, ...]]:
        with contextlib.closing(
            sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=30)
        ) as database:
            return database.execute(text, values).fetchall()

    def command(self, *words: str) -> None:
        """Run one of Airflow's own commands."""
        self._python("-m", "airflow", *words)

    def _python(self, *arguments: str) -> None:
        answer = subprocess.run(
            [sys.executable, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr

    def run(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> None:
        """Begin a run of a DAG, once Airflow knows it and workers can reach its API server."""
        if "api-server" in self.processes:
            self.wait_for("an answer of the API server", self._answers)
        self.wait_for(
            f"DAG {dag_id}",
            lambda: self.query("select 1 from serialized_dag where dag_id = ?", dag_id),
        )
        self.command("dags", "trigger", dag_id, "--conf", json.dumps(conf or {}))

    def mark(self, dag_id: str, task_id: str, state: str) -> None:
        """What a user does by the buttons "Mark as failed" and "Mark as success"."""
        run_id = self.run_id(dag_id)
        if IS_AIRFLOW_2:
            facts = {"dag_id": dag_id, "task_id": task_id, "run_id": run_id, "state": state}
            self._python("-c", MARK.format(**facts))
            return
        path = f"dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances/{task_id}"
        self._call("PATCH", path, {"new_state": state})

    def clear(self, dag_id: str, task_id: str) -> None:
        """What a user does by the button "Clear"."""
        if IS_AIRFLOW_2:
            self.command("tasks", "clear", "--yes", "--task-regex", f"^{task_id}$", dag_id)
            return
        wanted = {"dag_run_id": self.run_id(dag_id), "task_ids": [task_id]}
        wanted |= {"dry_run": False, "only_failed": False}
        self._call("POST", f"dags/{dag_id}/clearTaskInstances", wanted)

    def answer(self, dag_id: str, task_id: str, option: str) -> None:
        """What a person does who is asked; Airflow 3.1 and later."""
        run_id = quote(self.run_id(dag_id), safe="")
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/-1/hitlDetails"
        body = {"chosen_options": [option], "params_input": {}}

        def is_taken() -> bool:
            # Parts that have just been started may not listen yet.
            with contextlib.suppress(requests.ConnectionError):
                self._call("PATCH", path, body)
                return True
            return False

        self.wait_for(f"an answer to {task_id}", is_taken)

    def _answers(self) -> bool:
        """Whether the API server answers workers; on a busy machine its first answer takes long."""
        try:
            return requests.get(f"{self.url}/execution/health", timeout=PATIENCE).ok
        except requests.RequestException:
            return False

    def _call(self, method: str, path: str, body: Any) -> None:
        """Call Airflow 3's own API."""
        answer = requests.get(f"{self.url}/auth/token", timeout=60)
        token = answer.json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        answer = requests.request(
            method, f"{self.url}/api/v2/{path}", headers=headers, json=body, timeout=60
        )
        assert answer.ok, answer.text

    def run_id(self, dag_id: str) -> str:
        """The id of a DAG's only run."""
        ((run_id,),) = self.query("select run_id from dag_run where dag_id = ?", dag_id)
        return str(run_id)

    def xcom(self, dag_id: str, task_id: str, key: str = "return_value") -> Any:
        """What a task has pushed."""
        ((value,),) = self.query(
            "select value from xcom where dag_id = ? and task_id = ? and key = ?",
            *(dag_id, task_id, key),
        )
        found = json.loads(value)
        # Airflow 3 may have put JSON into JSON.
        with contextlib.suppress(TypeError, ValueError):
            return json.loads(found)
        return found

    def triggerer_of(self, dag_id: str, task_id: str) -> int | None:
        """The id of the triggerer that has a deferred task, by Airflow's own record."""
        found = self.query(
            "select t.triggerer_id from task_instance i join trigger t on t.id = i.trigger_id "
            "where i.dag_id = ? and i.task_id = ? and i.state = 'deferred'",
            *(dag_id, task_id),
        )
        return found[0][0] if found else None

    def heartbeats(self, part: str) -> set[Any]:
        """When each part of a kind, dead or alive, last showed life."""
        kind = f"{part.capitalize()}Job"
        return set(self.query("select id, latest_heartbeat from job where job_type = ?", kind))

    def wait_for_heartbeats(self, part: str, count: int) -> None:
        """Wait until all running parts of a kind have gone through their loop so many times."""
        running = sum(name.startswith(part) for name in self.processes)
        for _ in range(count):
            before = self.heartbeats(part)
            self.wait_for(
                f"heartbeats of {part}",
                lambda before=before: len(self.heartbeats(part) - before) >= running,
            )

    def states(self, dag_id: str) -> dict[str, str | None]:
        return dict(self.query("select task_id, state from task_instance where dag_id = ?", dag_id))

    def wait_for_states(self, dag_id: str, **wanted: str) -> None:
        self.wait_for(f"{dag_id} {wanted}", lambda: wanted.items() <= self.states(dag_id).items())

    def has_logged(self, dag_id: str, words: str) -> bool:
        """Whether some task of a DAG has these words in a log of its own."""
        files = (self.home / "logs" / f"dag_id={dag_id}").rglob("*.log*")
        return any(words in file.read_text(errors="replace") for file in files)

    def logs(self) -> str:
        """The end of what each part has said."""
        return "\n".join(
            f"== {file.name}\n{file.read_text(errors='replace')[-2000:]}"
            for file in sorted(self.home.glob("*.log"))
        )
