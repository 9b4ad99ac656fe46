"""Whoever starts a copy of Airflow's database sets ``[iotda] installation_id`` in it first."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from tests.system.conftest import _finished, load_dag

from iotda_provider.airflow_support import shared_text
from iotda_provider.airflow_support.installation import VARIABLE
from iotda_provider.hooks.iotda import IoTDAHook

SETTING = "AIRFLOW__IOTDA__INSTALLATION_ID"
IS_2 = version("apache-airflow").startswith("2.")
DATE = datetime(2026, 1, 1, tzinfo=timezone.utc)
DAG_FILE = """
from airflow.providers.common.compat.sdk import DAG

from iotda_provider.operators.batch_task import CreateBatchTaskOperator

with DAG("copied", schedule=None):
    for name in ("create", "create_later"):
        CreateBatchTaskOperator(
            task_id=name,
            task_name="rollout",
            task_type="firmwareUpgrade",
            targets=["device-00000", "device-00001"],
            document={"package_ids": ["32822e5744a45ede319d2c50"]},
        )
"""


class Databases:
    """Several databases, of which one is in use."""

    def __init__(self, path: Path, folder: Path) -> None:
        self._path = path
        self._folder = folder
        self._used = "original"

    def copy(self, name: str) -> None:
        """Copy the one in use."""
        self._let_go()
        shutil.copyfile(self._path, self._folder / name)

    def use(self, name: str) -> None:
        """Put away the one in use, and take another."""
        self._let_go()
        shutil.move(self._path, self._folder / self._used)
        shutil.move(self._folder / name, self._path)
        self._used = name

    @staticmethod
    def _let_go() -> None:
        from airflow import settings

        settings.Session.remove()
        settings.engine.dispose()


@pytest.fixture
def databases(airflow_database: Path, tmp_path: Path) -> Any:
    made = Databases(airflow_database, tmp_path)
    yield made
    if made._used != "original":
        made.use("original")


@pytest.fixture
def run_once_more(
    one_request_at_a_time: None,
    iotda_connection: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[], dict[str, dict[str, Any]]]:
    """Runs the one DAG run, which is cleared if it is there; the results of its tasks."""
    file = tmp_path / "copied.py"
    file.write_text(DAG_FILE)
    home = importlib.import_module("airflow.models.dag" if IS_2 else "airflow.models.dagrun")
    name = "_get_or_create_dagrun" if IS_2 else "get_or_create_dagrun"
    really_make = getattr(home, name)

    def make(**arguments: Any) -> Any:
        from airflow.models.dagrun import DagRun

        session = arguments["session"]
        found = session.query(DagRun).filter_by(dag_id="copied").one_or_none()
        if found is None:
            return really_make(**arguments)
        found.dag = arguments["dag"]
        found.state = "running"
        session.commit()
        return found

    monkeypatch.setattr(home, name, make)

    def run() -> dict[str, dict[str, Any]]:
        dag = load_dag(file, "copied")
        finished = _finished(
            dag.test(**{"execution_date" if IS_2 else "logical_date": DATE}), log=""
        )
        assert finished.state == "success"
        return {name: finished.xcom(name) for name in ("create", "create_later")}

    return run


@pytest.mark.iotda_emulator(scenario={"devices": 5, "batch_tasks": []}, speed=0)
def test_a_copy_neither_takes_nor_stops_what_the_original_has_created(
    databases: Databases,
    run_once_more: Any,
    iotda_emulator: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from airflow.models.variable import Variable

    monkeypatch.delenv(SETTING, raising=False)
    monkeypatch.setattr(shared_text, "_SECONDS_TO_SETTLE", 0.1)
    first = run_once_more()
    assert all(one["created"] for one in first.values())
    installation = Variable.get(VARIABLE)
    for name in ("copy", "forgotten"):
        databases.copy(name)

    def ids(results: Any) -> set[str]:
        return {one["batch_task_id"] for one in results.values()}

    # With the setting the copy creates its own, the task instances that have notes, too.
    databases.use("copy")
    assert Variable.get(VARIABLE) == installation
    monkeypatch.setenv(SETTING, "staging")
    copied = run_once_more()
    assert all(one["created"] for one in copied.values())
    assert ids(copied).isdisjoint(ids(first))
    assert ids(run_once_more()) == ids(copied)

    # Without it, it takes those of the original for its own.
    databases.use("forgotten")
    monkeypatch.delenv(SETTING)
    forgotten = run_once_more()
    assert not any(one["created"] for one in forgotten.values())
    assert ids(forgotten) == ids(first)

    # The original finds its own, and neither has stopped any of the other's.
    databases.use("original")
    again = run_once_more()
    assert not any(one["created"] for one in again.values())
    assert ids(again) == ids(first)
    assert iotda_emulator.journal("stop_batch_task") == []
    with IoTDAHook() as hook:
        found = {task.task_id for task in hook.list_batch_tasks(task_type="firmwareUpgrade")}
    assert found == ids(first) | ids(copied)
    Variable.delete(VARIABLE)
