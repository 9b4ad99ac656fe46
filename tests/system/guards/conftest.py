"""Guard DAGs of a few lines, run by real Airflow against the emulator."""

from __future__ import annotations

import itertools
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from tests.system.virtual_time import pass_with_looks

HEAD = """
import logging

from airflow.providers.common.compat.sdk import DAG, task
from airflow.providers.standard.operators.empty import EmptyOperator

from iotda_provider.guards import MaxFailures, SequentialFailureTest
from iotda_provider.operators.batch_task import CollectFailedSubtasksOperator
from iotda_provider.operators.branch import BranchOnVerdictOperator
from iotda_provider.operators.guard_runs import FindUnguardedRolloutsOperator
from iotda_provider.sensors.batch_task import RolloutGuardSensor

TASK = "0123456789abcdef01234567"

"""
_numbers = itertools.count(1)


SECONDS_A_LOOK = 10.0
"""How much of the fleet's time passes after each look at it."""


@pytest.fixture
def time_passes(iotda_emulator: Any) -> None:
    """Lets a fleet that stands still (``speed=0``) move on after each look at it."""
    pass_with_looks(iotda_emulator, SECONDS_A_LOOK)


@pytest.fixture
def run_tasks(
    time_passes: None, iotda_connection: dict[str, Any], run_dag: Any, tmp_path: Path
) -> Any:
    """Runs a DAG of these tasks, against the emulator of the test's mark."""

    def run(tasks: str, **conf: Any) -> Any:
        name = f"guards_{next(_numbers)}"
        body = "".join(f"    {line}\n" for line in dedent(tasks).strip().splitlines())
        file = tmp_path / f"{name}.py"
        file.write_text(f"{HEAD}with DAG({name!r}, schedule=None):\n{body}")
        return run_dag(file, name, conf or None)

    return run
