"""Twenty first tasks at once, each a process of its own, agree on what their Airflow is called."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from iotda_provider.airflow_support.installation import VARIABLE, installation_id

pytestmark = pytest.mark.slow  # twenty processes on one database
TASKS = 20


def _use(ready: Any, used: Any) -> None:
    from airflow import settings

    # A connection of the process that this one was forked from is not ours.
    settings.engine.dispose(close=False)
    ready.wait(60)
    used.put(installation_id())


def test_twenty_first_tasks_at_once_use_one_id(
    airflow_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.models.variable import Variable

    monkeypatch.delenv("AIRFLOW__IOTDA__INSTALLATION_ID")
    # As a worker's, but without a supervisor in between.
    monkeypatch.setattr("iotda_provider.airflow_support.task_notes._variables", lambda: Variable)
    forking = multiprocessing.get_context("fork")
    ready, used = forking.Barrier(TASKS), forking.Queue()
    tasks = [forking.Process(target=_use, args=(ready, used)) for _ in range(TASKS)]
    try:
        for task in tasks:
            task.start()
        ids = {used.get(timeout=240) for _ in tasks}
    finally:
        for task in tasks:
            task.join(30)
            task.kill()

    assert ids == {Variable.get(VARIABLE)}
    Variable.delete(VARIABLE)
