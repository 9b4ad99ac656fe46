"""The harness itself: a DAG file runs in the installed Airflow, and its outcome can be read."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

DAG_FILE = """
import logging

from airflow.providers.standard.operators.python import BranchPythonOperator, PythonOperator
from airflow.providers.common.compat.sdk import DAG, Param

with DAG("harness", schedule=None, params={"count": Param(1, type="integer")}) as dag:
    produce = PythonOperator(
        task_id="produce", python_callable=lambda params: list(range(params["count"]))
    )
    double = PythonOperator.partial(
        task_id="double", python_callable=lambda number: {"doubled": number * 2}
    ).expand(op_args=produce.output.map(lambda number: [number]))
    branch = BranchPythonOperator(
        task_id="branch", trigger_rule="all_done", python_callable=lambda: "taken"
    )
    taken = PythonOperator(
        task_id="taken",
        python_callable=lambda ti: ti.xcom_push(key="said", value={"a": [1, None, "x"]}),
    )
    left = PythonOperator(task_id="left", python_callable=lambda: None)
    double >> branch >> [taken, left]


def say():
    print("a line for stdout")
    logging.getLogger("iotda_provider.said").info("a line for the log")

with DAG("talkative", schedule=None):
    PythonOperator(task_id="say", python_callable=say)

with DAG("broken", schedule=None):
    PythonOperator(task_id="fails", python_callable=lambda: 1 / 0)
"""


@pytest.fixture
def dag_file(tmp_path: Path) -> Path:
    file = tmp_path / "harness_dags.py"
    file.write_text(DAG_FILE)
    return file


def test_run_tells_states_mapped_tasks_and_xcoms(run_dag, dag_file):
    run = run_dag(dag_file, "harness", conf={"count": 2})

    assert run.state == "success"
    assert run.states == {
        "produce": "success",
        "double[0]": "success",
        "double[1]": "success",
        "branch": "success",
        "taken": "success",
        "left": "skipped",
    }
    assert run.xcom("produce") == [0, 1]
    assert run.xcom("double", map_index=1) == {"doubled": 2}
    assert run.xcom("taken", "said") == {"a": [1, None, "x"]}
    assert run.xcom("left") is None


def test_second_run_of_a_dag_is_a_run_of_its_own(run_dag, dag_file):
    first = run_dag(dag_file, "harness")
    second = run_dag(dag_file, "harness", conf={"count": 3})

    assert first.run_id != second.run_id
    assert first.xcom("produce") == [0]
    assert second.xcom("produce") == [0, 1, 2]


def test_failure_is_an_outcome_not_an_error(run_dag, dag_file):
    run = run_dag(dag_file, "broken")

    assert (run.state, run.states) == ("failed", {"fails": "failed"})


def test_run_keeps_what_was_printed_and_logged(run_dag, dag_file):
    log = run_dag(dag_file, "talkative").log

    assert "a line for stdout" in log
    assert "a line for the log" in log
    assert "a line for" not in run_dag(dag_file, "harness").log


def test_unknown_dag_is_named_with_those_there_are(run_dag, dag_file):
    with pytest.raises(
        pytest.fail.Exception, match=r"has the DAGs \['broken', 'harness', 'talkative'\]"
    ):
        run_dag(dag_file, "absent")


def test_other_machines_are_out_of_reach():
    with pytest.raises(RuntimeError, match=r"A test tried to reach '192\.0\.2\.1'"):
        socket.create_connection(("192.0.2.1", 80))
    with pytest.raises(RuntimeError, match="use the emulator"):
        socket.getaddrinfo("iotda.cn-north-4.myhuaweicloud.com", 443)
