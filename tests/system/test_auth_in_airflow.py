"""Every auth_type end to end through Airflow, and every place that Airflow keeps connections in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from tests.system.virtual_time import pass_with_looks

from iotda_provider.emulator import Emulator

TASKS = [f"{number:024x}" for number in range(3)]
DAG_FILE = """
from airflow.providers.common.compat.sdk import DAG
from iotda_provider.operators.batch_task import StopBatchTaskOperator
from iotda_provider.sensors.batch_task import BatchTaskSensor

with DAG("auth", schedule=None):
    common = {{"iotda_conn_id": {conn_id!r}}}
    stop = StopBatchTaskOperator(
        task_id="stop", batch_task_id={tasks[0]!r}, poll_interval=0.1, **common
    )
    ask = StopBatchTaskOperator(
        task_id="ask", batch_task_id={tasks[1]!r}, wait_for_completion=False, **common
    )
    deferred = BatchTaskSensor(
        task_id="deferred",
        batch_task_id={tasks[1]!r},
        target_statuses=("Stopped",),
        poke_interval=0.1,
        deferrable={deferrable},
        **common,
    )
    stop >> ask >> deferred
"""


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    scenario = {
        "devices": 5,
        "success_after": 36_000,
        "batch_tasks": [{"task_id": task} for task in TASKS],
        "switches": {"initializing": 0, "stop_after": 90},
    }
    with Emulator(scenario, speed=0, seed=1) as emulator:
        pass_with_looks(emulator, 30)
        yield emulator


def connection_to(emulator: Emulator, auth_type: str, folder: Path) -> dict[str, Any]:
    """What a user writes down."""
    iam = emulator.instance.iam.settings
    own = emulator.airflow_connection
    extra = own["extra"] | {"auth_type": auth_type, "max_attempts": 1}
    host = {"conn_type": "iotda", "host": own["host"]}
    at_iam = {"iam_endpoint": emulator.url}
    if auth_type == "aksk":
        return own | {"extra": extra}
    if auth_type == "token":
        user = {"login": iam.user, "password": iam.password}
        return host | user | {"extra": extra | at_iam | {"domain_name": iam.domain}}
    if auth_type == "agency":
        return host | {"extra": extra | {"metadata_endpoint": emulator.url}}
    file = folder / "id_token"
    file.write_text(iam.id_token)
    identity = {"idp_id": iam.idp_id, "id_token_file": str(file)}
    return host | {"extra": extra | at_iam | identity}


def run_auth_dag(run_dag, folder: Path, conn_id: str, *, deferrable: bool = True):
    file = folder / "auth_dag.py"
    file.write_text(DAG_FILE.format(conn_id=conn_id, tasks=TASKS, deferrable=deferrable))
    return run_dag(file)


@pytest.mark.parametrize("auth_type", ["aksk", "token", "agency", "federation"])
def test_auth_type_carries_a_dag(emulator, run_dag, monkeypatch, tmp_path, auth_type):
    connection = connection_to(emulator, auth_type, tmp_path)
    monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(connection))
    run = run_auth_dag(run_dag, tmp_path, "iotda_default")

    assert run.states == {"stop": "success", "ask": "success", "deferred": "success"}
    assert run.xcom("stop")["outcome"] == "stopped"
    # The emulator's batch tasks name a package that is not registered.
    asked = [entry for entry in emulator.journal() if entry["call"] != "show_ota_package"]
    assert {entry["status"] for entry in asked} == {200}
    given = emulator.instance.iam.given
    assert sum(given.values()) == (0 if auth_type == "aksk" else 1), "one set for all tasks"


def test_credentials_that_expire_while_a_dag_runs_are_renewed(
    emulator, run_dag, monkeypatch, tmp_path
):
    connection = connection_to(emulator, "token", tmp_path)
    monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(connection))
    iam = emulator.instance.iam
    real, calls = iam.verify, []

    def verify(*request):
        calls.append(request)
        if len(calls) % 3 == 0:
            iam.expire_everything()
        return real(*request)

    iam.verify = verify
    run = run_auth_dag(run_dag, tmp_path, "iotda_default")

    assert set(run.states.values()) == {"success"}
    assert iam.given["token"] >= 2
    assert 401 in {entry["status"] for entry in emulator.journal()}


def test_wrong_secret_fails_the_task_with_what_to_check(emulator, run_dag, monkeypatch, tmp_path):
    connection = connection_to(emulator, "aksk", tmp_path) | {"password": "not-the-secret-key"}
    monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(connection))
    run = run_auth_dag(run_dag, tmp_path, "iotda_default")

    assert run.states["stop"] == "failed"
    assert "check the connection's access key, secret key" in run.log
    assert "not-the-secret-key" not in run.log


# --- where connections are kept -----------------------------------------------------------------


def test_connection_from_an_environment_uri(emulator, run_dag, monkeypatch, tmp_path):
    known = connection_to(emulator, "token", tmp_path)
    user = f"{quote(known['login'], safe='')}:{quote(known['password'], safe='')}"
    address = known["host"].removeprefix("http://")
    uri = f"iotda://{user}@{address}/http?{urlencode(known['extra'])}"
    monkeypatch.setenv("AIRFLOW_CONN_FROM_URI", uri)

    assert run_auth_dag(run_dag, tmp_path, "from_uri").state == "success"


def test_connection_from_the_metadata_database(emulator, run_dag, airflow_database, tmp_path):
    """As the UI and ``airflow connections add`` store it: encrypted, Extra as one text."""
    from airflow.models import Connection
    from airflow.utils.session import create_session

    known = connection_to(emulator, "token", tmp_path)
    known["extra"] = json.dumps(known["extra"])
    with create_session() as session:
        session.add(Connection(conn_id="from_database", **known))
    try:
        # The triggers of dag.test() reach no database; a triggerer's do.
        run = run_auth_dag(run_dag, tmp_path, "from_database", deferrable=False)
    finally:
        with create_session() as session:
            session.query(Connection).filter_by(conn_id="from_database").delete()

    assert run.state == "success"


BACKEND = """
from iotda_provider.hooks.iotda import IoTDAHook

for conn_id in ("as_json", "as_uri"):
    print(IoTDAHook(conn_id).test_connection())
"""


def test_connection_from_a_secrets_backend(emulator, tmp_path):
    known = connection_to(emulator, "aksk", tmp_path)
    extra = urlencode(known["extra"])
    address = known["host"].removeprefix("http://")
    uri = f"iotda://{known['login']}:{known['password']}@{address}/http?{extra}"
    file = tmp_path / "connections.json"
    file.write_text(json.dumps({"as_json": known, "as_uri": uri}))
    answer = subprocess.run(
        [sys.executable, "-c", BACKEND],
        env=os.environ
        | {
            "AIRFLOW__SECRETS__BACKEND": "airflow.secrets.local_filesystem.LocalFilesystemBackend",
            "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps({"connections_file_path": str(file)}),
        },
        capture_output=True,
        text=True,
        check=True,
    )

    good = f"(True, 'Connected to {emulator.url}, project emulator-project, by aksk.')"
    assert [line for line in answer.stdout.splitlines() if line.startswith("(")] == [good, good]


@pytest.mark.parametrize("auth_type", ["aksk", "token", "agency", "federation"])
def test_connection_tests_itself(emulator, monkeypatch, tmp_path, auth_type):
    """As ``airflow connections test`` and the "Test" of Airflow 2's UI do."""
    from airflow.models import Connection

    known = connection_to(emulator, auth_type, tmp_path)
    monkeypatch.setenv("AIRFLOW_CONN_TESTED", json.dumps(known))

    assert Connection(conn_id="tested", conn_type="iotda").test_connection() == (
        True,
        f"Connected to {emulator.url}, project emulator-project, by {auth_type}.",
    )


# --- the UI -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ui(airflow_database) -> Any:
    """Airflow 3's own API, as its UI calls it, signed in."""
    pytest.importorskip("airflow.api_fastapi", reason="Airflow 2's UI is a form: see its own test")
    from airflow.api_fastapi.app import create_app
    from fastapi.testclient import TestClient

    with TestClient(create_app(apps="core"), base_url="http://localhost") as client:
        token = client.get("/auth/token").json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        yield client


def body_of(known: dict[str, Any], conn_id: str) -> dict[str, Any]:
    return {**known, "connection_id": conn_id, "extra": json.dumps(known["extra"])}


def test_ui_shows_the_form_from_the_provider_info(ui):
    from airflow.providers_manager import ProvidersManager

    # Airflow 3.1 shows no fields of hooks that were loaded before; an API server has loaded none.
    ProvidersManager()._cleanup()
    shown = {
        hook["connection_type"]: hook
        for hook in ui.get("/ui/connections/hook_meta").json()
        if hook["connection_type"] == "iotda"
    }["iotda"]

    fields = shown["extra_fields"]
    assert fields["security_token"]["schema"]["format"] == "password"
    assert fields["auth_type"]["schema"]["enum"] == ["aksk", "token", "agency", "federation"]
    assert shown["standard_fields"]["login"]["title"] == "Access key (or IAM user)"


@pytest.mark.parametrize("auth_type", ["aksk", "token", "agency", "federation"])
def test_ui_tests_a_connection(ui, emulator, tmp_path, auth_type):
    known = connection_to(emulator, auth_type, tmp_path)
    answer = ui.post("/api/v2/connections/test", json=body_of(known, "tested")).json()

    assert answer == {
        "status": True,
        "message": f"Connected to {emulator.url}, project emulator-project, by {auth_type}.",
    }


def test_ui_says_what_is_wrong_with_a_connection(ui, emulator, tmp_path):
    known = connection_to(emulator, "aksk", tmp_path) | {"password": "not-the-secret-key"}
    answer = ui.post("/api/v2/connections/test", json=body_of(known, "tested")).json()

    assert answer["status"] is False
    assert "check the connection's access key, secret key" in answer["message"]


def test_ui_never_shows_a_stored_secret(ui, emulator, tmp_path):
    known = connection_to(emulator, "aksk", tmp_path)
    known["extra"]["security_token"] = "the-security-token"
    made = ui.post("/api/v2/connections", json=body_of(known, "stored"))
    try:
        shown = ui.get("/api/v2/connections/stored")
        for text in (made.text, shown.text):
            assert "the-security-token" not in text
            assert known["password"] not in text
        assert shown.json()["host"] == emulator.url
    finally:
        ui.delete("/api/v2/connections/stored")
