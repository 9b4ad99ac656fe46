"""DAG files run by the installed Airflow, through ``dag.test()``, with a database of their own."""

from __future__ import annotations

import fcntl
import functools
import importlib.metadata
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from jsonschema.validators import validator_for

CACHE = Path(__file__).resolve().parents[2] / ".cache"

# A machine that is busy with something else imports as slowly as it likes. Airflow's limit would
# also take the place of pytest's, which uses the same signal, and nothing would end a test that
# hangs.
os.environ["AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT"] = "0"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Real Airflow takes its time where many tests run at once."""
    for item in items:
        is_here = Path(__file__).parent in item.path.parents
        if is_here and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(1200))


def migrated_template() -> Path:
    """An empty database with Airflow's tables, made once for each version of Airflow and Python."""
    airflow = importlib.metadata.version("apache-airflow")
    python = "{}.{}".format(*sys.version_info)
    folder = CACHE / "airflow-db"
    folder.mkdir(parents=True, exist_ok=True)
    template = folder / f"airflow-{airflow}-python-{python}.sqlite"
    with template.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another pytest may be about to make the same
        if not template.exists():
            with tempfile.TemporaryDirectory(dir=folder) as home:
                database = Path(home) / "airflow.db"
                environment = os.environ | {
                    "AIRFLOW_HOME": home,
                    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{database}",
                }
                command = [sys.executable, "-m", "airflow", "db", "migrate"]
                answer = subprocess.run(
                    command, env=environment, capture_output=True, text=True, check=False
                )
                if answer.returncode:
                    pytest.fail(f"airflow db migrate failed:\n{answer.stdout}\n{answer.stderr}")
                database.rename(template)
    return template


@pytest.fixture(scope="session")
def airflow_database() -> Path:
    """This process's own copy of the migrated database."""
    home = Path(os.environ["AIRFLOW_HOME"])
    database = home / "airflow.db"
    shutil.copyfile(migrated_template(), database)

    from airflow import settings
    from sqlalchemy import event

    # Connections that were opened on the empty database before.
    settings.engine.dispose()
    event.listen(settings.engine, "connect", _do_not_wait_for_the_disk)
    return database


def _do_not_wait_for_the_disk(connection: Any, record: Any) -> None:
    """No test reads this database after a crash of the machine."""
    connection.execute("PRAGMA synchronous = OFF")


@pytest.fixture(scope="session", autouse=True)
def _schemas_are_checked_once() -> Iterator[None]:
    """A ``Param`` checks its schema whenever its value is read: a fifth of a release's time."""
    kind: Any = validator_for({})
    check, valid = kind.check_schema, set()

    def check_once(schema: Any, *args: Any, **kwargs: Any) -> None:
        text = repr(schema)
        if text not in valid:
            check(schema, *args, **kwargs)
            valid.add(text)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "check_schema", check_once)
        yield


@dataclass(frozen=True)
class FinishedRun:
    """One finished DAG run, as its user sees it.

    :param run_id: the run's id
    :param state: ``success`` or ``failed``
    :param states: the final state of each task by its id, of mapped ones by ``id[map_index]``
    :param xcoms: the pushed values by (task id, key, map index)
    :param log: everything that was logged or printed while it ran
    """

    dag_id: str
    run_id: str
    state: str
    states: Mapping[str, str | None]
    xcoms: Mapping[tuple[str, str, int], Any]
    log: str = field(repr=False)

    def xcom(self, task_id: str, key: str = "return_value", *, map_index: int = -1) -> Any:
        """The pushed value, or None where nothing was pushed."""
        return self.xcoms.get((task_id, key, map_index))


RunDag = Callable[..., FinishedRun]
_HOME_OF_DAG_TEST = ("airflow.sdk.definitions.dag", "airflow.models.dag")


@pytest.fixture
def when_asked(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """Called where ``dag.test()`` waits for a person's answer and does nothing else.

    It sleeps a second then, and for each rank of tasks that it only skips: not here.
    """
    really_sleep = time.sleep
    acts: list[Callable[[], object]] = []

    def sleep(seconds: float) -> None:
        caller = sys._getframe(1)
        if caller.f_globals.get("__name__") in _HOME_OF_DAG_TEST:
            seconds = min(seconds, 0.02)
            if caller.f_locals.get("awaiting_input_tis"):
                for act in list(acts):
                    act()
        really_sleep(seconds)

    monkeypatch.setattr(time, "sleep", sleep)
    return acts


@pytest.fixture
def one_request_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow 3: threads of a trigger that ``dag.test()`` runs do not get each other's answers.

    They share one supervisor there, which is hidden while it works for one of them, and a thread
    that is still at work when the trigger ends would put it in the place of the next task's, whose
    end is then never seen. Real tasks and triggers have a process, and a supervisor, each.
    """
    try:
        from airflow.sdk.execution_time import supervisor
    except ImportError:  # Airflow 2:
        return
    at_work = threading.RLock()
    really_send = supervisor.InProcessSupervisorComms.send
    really_set = supervisor.set_supervisor_comms

    def send(self: Any, msg: Any) -> Any:
        with at_work:
            return really_send(self, msg)

    @contextmanager
    def set_comms(comms: Any) -> Iterator[None]:
        present = really_set(comms)
        with at_work:
            present.__enter__()
        try:
            yield
        finally:
            with at_work:
                present.__exit__(None, None, None)

    monkeypatch.setattr(supervisor.InProcessSupervisorComms, "send", send)
    monkeypatch.setattr(supervisor, "set_supervisor_comms", set_comms)
    made = functools.partial(_made_once, supervisor.in_process_api_server)
    monkeypatch.setattr(supervisor, "in_process_api_server", made)


@pytest.fixture
def quick_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow 3: its API answers the hundreds of requests of a ``dag.test()`` in half the time.

    It replaces some dependencies of its own there. FastAPI then finds out anew, for each request,
    what each dependency depends on: here once. And functions that are not asynchronous run where
    they are called, as nobody else waits: FastAPI would take three threads, one after the other.
    Of its versions only the newest is made, which is asked: the others take seconds.
    """
    try:
        import anyio.to_thread
        from cadwyn import VersionBundle
        from cadwyn.route_generation import _EndpointTransformer
        from fastapi.dependencies import utils
    except ImportError:  # Airflow 2:
        return
    find, found = utils.get_dependant, {}

    def find_once(**what: Any) -> Any:
        if "use_cache" in what:  # a part of another one
            return find(**what)
        key = tuple(tuple(v) if isinstance(v, list) else v for v in what.values())
        if key not in found:
            found[key] = find(**what)
        return found[key]

    async def run_here(function: Callable[..., Any], *args: Any, **how: Any) -> Any:
        return function(*args)

    really_begin = _EndpointTransformer.__init__

    def begin(self: Any, *given: Any) -> None:
        really_begin(self, *given)
        self.routes_that_never_existed = []  # those of older versions only

    monkeypatch.setattr(_EndpointTransformer, "__init__", begin)
    monkeypatch.setattr(VersionBundle, "__iter__", lambda self: iter(self.versions[:1]))
    monkeypatch.setattr(utils, "get_dependant", find_once)
    monkeypatch.setattr(anyio.to_thread, "run_sync", run_here)


@functools.cache
def _made_once(make: Callable[[], Any]) -> Any:
    """Airflow 3.1 and 3.2 would make their API anew for each task: four seconds of work."""
    return make()


@pytest.fixture
def texts_settle_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other task of a ``dag.test()`` makes the text of a Variable at the same time."""
    monkeypatch.setattr("iotda_provider.airflow_support.shared_text._SECONDS_TO_SETTLE", 0.1)


@pytest.fixture
def run_dag(
    airflow_database: Path,
    texts_settle_at_once: None,
    one_request_at_a_time: None,
    quick_api: None,
    when_asked: list[Callable[[], object]],
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> RunDag:
    """Runs one DAG of one file: ``run_dag(dag_file, dag_id=None, conf=None)``.

    The file is copied into the otherwise empty DAGs folder, from where Airflow reads it itself.
    ``dag_id`` may be left out where the file has one DAG.
    """

    def run(
        dag_file: Path | str, dag_id: str | None = None, conf: dict[str, Any] | None = None
    ) -> FinishedRun:
        dag = load_dag(Path(dag_file), dag_id)
        capfd.readouterr()
        caplog.clear()
        with caplog.at_level(logging.INFO):
            dag_run = dag.test(run_conf=conf)
        _forget_stdout()
        printed = "".join(capfd.readouterr())
        sys.stdout.write(printed)  # for pytest, which shows it where the test fails
        return _finished(dag_run, log=f"{printed}\n{caplog.text}")

    return run


def load_dag(dag_file: Path, dag_id: str | None) -> Any:
    """A DAG as Airflow reads it, from a folder in which there is no other file."""
    folder = Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    shutil.rmtree(folder)
    folder.mkdir()
    copy = folder / dag_file.name
    shutil.copyfile(dag_file, copy)

    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # Airflow 2:
        from airflow.models.dagbag import DagBag

    bag = DagBag(dag_folder=str(copy))
    if bag.import_errors:
        pytest.fail("\n".join(bag.import_errors.values()))
    if dag_id is None and len(bag.dags) == 1:
        (dag_id,) = bag.dags
    if dag_id not in bag.dags:
        pytest.fail(f"{dag_file.name} has the DAGs {sorted(bag.dags)}, not {dag_id!r}.")
    return bag.dags[dag_id]


def _forget_stdout() -> None:
    """Airflow 2: dag.test() leaves a handler behind that writes to this one test's stdout."""
    log = logging.getLogger("airflow.task")
    for handler in [handler for handler in log.handlers if type(handler) is logging.StreamHandler]:
        log.removeHandler(handler)


def _finished(dag_run: Any, *, log: str) -> FinishedRun:
    from airflow.utils.session import create_session

    try:
        from airflow.models.xcom import XComModel
    except ImportError:  # Airflow 2:
        from airflow.models.xcom import BaseXCom as XComModel

    with create_session() as session:
        dag_run = session.merge(dag_run)
        states = {
            ti.task_id if ti.map_index < 0 else f"{ti.task_id}[{ti.map_index}]": _word(ti.state)
            for ti in dag_run.get_task_instances(session=session)
        }
        # Columns, as an XCom object of Airflow 2 has decoded its value itself.
        rows = session.query(
            XComModel.task_id, XComModel.key, XComModel.map_index, XComModel.value
        ).filter_by(dag_id=dag_run.dag_id, run_id=dag_run.run_id)
        xcoms = {
            (row.task_id, row.key, row.map_index): XComModel.deserialize_value(row) for row in rows
        }
        return FinishedRun(
            dag_id=dag_run.dag_id,
            run_id=dag_run.run_id,
            state=_word(dag_run.state),
            states=states,
            xcoms=xcoms,
            log=log,
        )


def _word(state: Any) -> Any:
    """A state as a plain word, whether Airflow gives a word, an enum or nothing."""
    return getattr(state, "value", state)
