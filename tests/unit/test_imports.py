"""What a DAG's file imports stays light: Airflow parses it again and again."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys

import pytest

PARSED = {
    "iotda_provider.operators.batch_task": ["StopBatchTaskOperator", "CreateBatchTaskOperator"],
    "iotda_provider.operators.branch": ["BranchOnTargetFailuresOperator"],
    "iotda_provider.sensors.batch_task": ["BatchTaskSensor", "RolloutGuardSensor"],
    "iotda_provider.guards": ["MaxFailureRate", "SequentialFailureTest"],
    "iotda_provider.models": ["TaskStatus"],
    "iotda_provider.exceptions": ["IoTDAError"],
}
# What works, and is loaded when there is work to do.
HEAVY = (
    "aiohttp",
    "huaweicloudsdkcore",
    "iotda_provider.hooks",
    "numpy",
    "requests",
    "scipy",
    "sqlalchemy",
    "tenacity",
)
PROGRAM = """
import json, sys
try:
    from airflow.sdk import DAG, BaseOperator
except ImportError:  # Airflow 2
    from airflow import DAG
    from airflow.models.baseoperator import BaseOperator
before = set(sys.modules)
{imports}
print("\\n" + json.dumps(sorted(set(sys.modules) - before)))
"""


def loaded_by(imports: str) -> set[str]:
    """The modules that a fresh process loads besides Airflow's own."""
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM.format(imports=imports)],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return set(json.loads(answer.stdout.splitlines()[-1]))


def test_parsing_a_dag_loads_nothing_heavy():
    lines = [f"from {module} import {', '.join(names)}" for module, names in PARSED.items()]

    loaded = loaded_by("\n".join(lines))

    roots = {name for name in loaded for heavy in HEAVY if f"{name}.".startswith(f"{heavy}.")}
    assert roots == set()


def test_the_operators_module_loads_no_operator_before_it_is_asked_for():
    loaded = loaded_by("import iotda_provider.operators.batch_task")

    assert {name for name in loaded if name.startswith("iotda_provider.operators.")} == {
        "iotda_provider.operators.batch_task"
    }


@pytest.mark.parametrize(
    "module",
    [
        "iotda_provider.operators.batch_task",
        "iotda_provider.sensors.batch_task",
        "iotda_provider.guards",
        "iotda_provider.models",
    ],
)
def test_every_name_that_a_module_offers_is_there(module):
    offered = importlib.import_module(module)

    for name in offered.__all__:
        assert getattr(offered, name).__name__ == name
    with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'Nothing'"):
        _ = offered.Nothing


def test_a_star_import_brings_every_name():
    names: dict[str, object] = {}
    exec("from iotda_provider.operators.batch_task import *", names)

    assert set(importlib.import_module("iotda_provider.operators.batch_task").__all__) <= set(names)
