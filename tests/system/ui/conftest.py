"""The page's app behind Airflow's login, over the database in which real DAG runs left XComs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS
from tests.system.virtual_time import pass_with_looks

collect_ignore = [] if AIRFLOW_V_3_1_PLUS else ["test_routes.py", "test_as_fast_as_airflow.py"]

HEAD = """
from airflow.providers.common.compat.sdk import DAG

from iotda_provider.guards import MaxFailures, SequentialFailureTest
from iotda_provider.operators.batch_task import CollectFailedSubtasksOperator, StopBatchTaskOperator
from iotda_provider.sensors.batch_task import RolloutGuardSensor

"""
_numbers = itertools.count(1)


@pytest.fixture
def run_tasks(
    iotda_emulator: Any, iotda_connection: dict[str, Any], run_dag: Any, tmp_path: Path
) -> Any:
    """Runs a DAG of these tasks, against the emulator of the test's mark."""
    pass_with_looks(iotda_emulator, 10.0)

    def run(tasks: str, name: str | None = None) -> Any:
        name = name or f"page_{next(_numbers)}"
        body = "".join(f"    {line}\n" for line in dedent(tasks).strip().splitlines())
        file = tmp_path / f"{name}.py"
        file.write_text(f"{HEAD}with DAG({name!r}, schedule=None):\n{body}")
        return run_dag(file, name)

    return run


@pytest.fixture
def server(airflow_database: Path) -> Any:
    """An API server with the page's app, as Airflow mounts it."""
    from airflow.api_fastapi.app import init_auth_manager
    from fastapi import FastAPI

    from iotda_provider.ui.plugin import RolloutsPlugin

    app = FastAPI()
    for mounted in RolloutsPlugin().fastapi_apps:
        app.mount(mounted["url_prefix"], mounted["app"])
    init_auth_manager(app)
    return app


@pytest.fixture
def login(server: Any) -> Callable[..., Any]:
    """Logs in: ``login("viewer")`` is a client of that role; ``login(None)`` of nobody.

    ``cookie=True``: as Airflow 3.1.1 and later do it.
    """
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from fastapi.testclient import TestClient

    def client(role: str | None, *, cookie: bool = False) -> Any:
        found = TestClient(server)
        if role is not None:
            user = SimpleAuthManagerUser(username=role, role=role)
            token = get_auth_manager().generate_jwt(user)
            if cookie:
                found.cookies.set("_token", token)
            else:
                found.headers["Authorization"] = f"Bearer {token}"
        return found

    return client


@contextmanager
def queries() -> Iterator[list[str]]:
    """The SQL statements that are sent to Airflow's database meanwhile."""
    from airflow import settings
    from sqlalchemy import event

    sent: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        sent.append(statement)

    event.listen(settings.engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(settings.engine, "before_cursor_execute", note)
