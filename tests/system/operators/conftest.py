"""DAGs of a few lines, run by real Airflow against the emulator."""

from __future__ import annotations

import itertools
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

HEAD = """
from airflow.providers.common.compat.sdk import DAG, TaskGroup, task, task_group
from airflow.providers.standard.operators.empty import EmptyOperator

from iotda_provider.operators.batch_task import StopBatchTaskOperator
from iotda_provider.operators.branch import BranchOnTargetFailuresOperator
from iotda_provider.sensors.batch_task import BatchTaskSensor

TASK, OTHER = "0123456789abcdef01234567", "0123456789abcdef01234568"

"""
_numbers = itertools.count(1)


@pytest.fixture
def run_tasks(iotda_connection: dict[str, Any], run_dag: Any, tmp_path: Path) -> Any:
    """Runs a DAG of these tasks, with more options, against the emulator of the test's mark."""

    def run(tasks: str, options: str = "") -> Any:
        name = f"dag_{next(_numbers)}"
        body = "".join(f"    {line}\n" for line in dedent(tasks).strip().splitlines())
        file = tmp_path / f"{name}.py"
        file.write_text(f"{HEAD}with DAG({name!r}, schedule=None{options}):\n{body}")
        return run_dag(file, name)

    return run
