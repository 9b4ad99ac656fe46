"""No secret in any log of any part of a real Airflow at DEBUG, nor in its database.

Unlike ``dag.test()`` this goes through a task's own process, what supervises it, a triggerer, and
Airflow 3's API server. It takes three minutes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from tests.system.restarts.parts import PARTS, VERSION, Airflow

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

DAG = '''
import asyncio
import logging

from airflow.providers.common.compat.sdk import DAG, BaseHook
from airflow.providers.standard.operators.python import PythonOperator

from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.hooks.iotda_async import IoTDAAsyncHook
from iotda_provider.operators.batch_task import CreateBatchTaskOperator, StopBatchTaskOperator
from iotda_provider.sensors.batch_task import BatchTaskSensor

log = logging.getLogger(__name__)


def show(conn_id):
    """All that a careless task can print."""
    with IoTDAHook(conn_id) as hook:
        headers = {}
        try:
            answer = hook.run("batchtasks", params={"task_type": "firmwareUpgrade"})
            headers = dict(answer.request.headers)
        except Exception:
            log.exception("The call has failed.")
        connection = BaseHook.get_connection(conn_id)
        print("the hook:", repr(hook), vars(hook))
        print("the connection:", connection.password, connection.extra, connection.extra_dejson)
        print("the headers:", headers)
        log.debug("the headers again: %s", headers)
        asyncio.run(show_the_other(conn_id))
        raise ValueError(f"failed with {headers}")


async def show_the_other(conn_id):
    async with IoTDAAsyncHook(conn_id) as hook:
        print("the other hook:", repr(hook), vars(hook))
        try:
            answer = await hook.run("batchtasks", params={"task_type": "firmwareUpgrade"})
        except Exception:
            log.exception("The call has failed.")
        else:
            print("its headers:", dict(answer.request_info.headers))


with DAG("careless", schedule=None):
    for name in ("aksk", "token", "wrong", "wrong_token", "echoing"):
        PythonOperator(task_id=name, python_callable=show, op_args=[name])

with DAG("careful", schedule=None):
    for name in ("wrong", "wrong_token", "echoing"):
        StopBatchTaskOperator(
            task_id=f"stop_{name}", batch_task_id=24 * "0", iotda_conn_id=name
        )
    for name in ("aksk", "token"):
        create = CreateBatchTaskOperator(
            task_id=f"create_{name}",
            task_name="canary",
            task_type="firmwareUpgrade",
            targets=["device-00001"],
            document={"package_ids": ["32822e5744a45ede319d2c50"]},
            need_confirm=True,
            iotda_conn_id=name,
        )
        create >> BatchTaskSensor(
            task_id=f"wait_{name}",
            batch_task_id="{{ ti.xcom_pull('create_%s', key='batch_task_id') }}" % name,
            poke_interval=0.5,
            timeout=5,
            deferrable=True,
            iotda_conn_id=name,
        )
'''
#: Bad connections for a trigger that no worker has tried before; since 3.3.
THERE = """
    for name in ("wrong", "wrong_token", "echoing"):
        BatchTaskSensor(
            task_id=f"there_{name}",
            batch_task_id=24 * "0",
            poke_interval=0.5,
            timeout=5,
            start_from_trigger=True,
            iotda_conn_id=name,
        )
"""


@pytest.fixture
def stored(secrets: Any) -> dict[str, dict[str, Any]]:
    """Connections as Airflow's database is to have them, with marked secrets."""
    names = ("aksk", "token", "wrong", "echoing")
    stored = {name: json.loads(os.environ[f"AIRFLOW_CONN_{name.upper()}"]) for name in names}
    stored["wrong_token"] = stored["token"] | {"password": secrets.wrong_key}
    return stored


@pytest.fixture
def airflow(
    secrets: Any, stored: dict[str, Any], airflow_database: Path, tmp_path: Path
) -> Iterator[Airflow]:
    """All parts, at DEBUG, with the connections in an encrypted database."""
    options = {
        "AIRFLOW__CORE__FERNET_KEY": Fernet.generate_key().decode(),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
        "PYTHONUNBUFFERED": "1",
    }
    airflow = Airflow(tmp_path / "airflow", airflow_database, {"conn_type": "iotda"}, options)
    given = tmp_path / "connections.json"
    given.write_text(json.dumps(stored))
    airflow.command("connections", "import", str(given))
    try:
        for name in PARTS:
            airflow.start(name)
        yield airflow
    finally:
        airflow.close()


Check = Callable[[dict[str, bytes]], None]


def run(airflow: Airflow, dag_id: str) -> None:
    """Run one of the DAGs to its end, which is a failure."""
    airflow.run(dag_id)
    ended = "select 1 from dag_run where dag_id = ? and state = 'failed'"
    airflow.wait_for(f"the end of {dag_id}", lambda: airflow.query(ended, dag_id))


def kept(airflow: Airflow) -> dict[str, bytes]:
    """All logs of all parts, and the database."""
    return {str(file): file.read_bytes() for file in airflow.home.rglob("*") if file.is_file()}


def test_no_part_keeps_a_secret(airflow: Airflow, secrets: Any, assert_absent: Check) -> None:
    text = DAG if VERSION < (3, 3) else DAG + THERE
    (airflow.dags / "secrets_dag.py").write_text(text)

    run(airflow, "careful")
    files = kept(airflow)

    created = {"create_aksk", "create_token"}
    states = airflow.states("careful")
    assert {task for task, state in states.items() if state == "success"} == created
    assert {state for task, state in states.items() if task not in created} == {"failed"}
    everything = b"".join(files.values())
    assert b"refused: " in everything, "there were answers that echo what they were sent"
    assert len(secrets.signatures) >= 10, "what is looked for did exist"
    assert secrets.emulator.instance.iam.given_secrets()
    assert_absent(files)

    run(airflow, "careless")
    for name in list(airflow.processes):
        airflow.stop(name)
    files = kept(airflow)
    if VERSION >= (3, 0):
        # LocalExecutor repeats what a task prints, and masks nothing there, not even what Airflow
        # itself knows to be a connection's password.
        del files[str(airflow.home / "scheduler.log")]

    everything = b"".join(files.values())
    for said in (b"the hook:", b"the connection: ***", b"the headers:", b"the other hook:"):
        assert everything.count(said) >= 5, said
    assert everything.count(b"the headers again:") >= 5, "DEBUG is on"
    assert_absent(files)
