"""What a DAG's file imports stays light: Airflow parses it again and again."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator

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
#: Has loaded what Airflow loads for any of our modules, and runs each program in a fork of itself.
AIRFLOW = """
import json, os, sys, traceback
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
from airflow.providers.common.compat.sdk import AirflowException
print(json.dumps("ready"), file=answers, flush=True)
while line := sys.stdin.readline():
    if os.fork() == 0:
        names = {"before": set(sys.modules)}
        try:
            exec(json.loads(line), names)
            answer = sorted(set(sys.modules) - names["before"])
        except BaseException:
            answer = traceback.format_exc()
        print(json.dumps(answer), file=answers, flush=True)
        os._exit(0)
    os.wait()
"""
BASES_OF_DAGS = """
import sys
try:
    from airflow.sdk import DAG, BaseOperator
except ImportError:  # Airflow 2
    from airflow import DAG
    from airflow.models.baseoperator import BaseOperator
before = set(sys.modules)
"""
MASKER = """
import sys
import iotda_provider.masking.airflow_masker
before = set(sys.modules)
"""
SETTINGS = """
from iotda_provider.auth.authenticator import authenticator_for
from iotda_provider.connection.settings import ConnectionSettings

def settings(**more):
    return ConnectionSettings(
        conn_id="c", base_url="https://iotda.cn-north-4.myhuaweicloud.com", region="cn-north-4",
        project_id="p", login="AK", password="SK", **more,
    )
"""
PREPARED_LATER = """
for auth_type in ("aksk", "token", "agency", "federation"):
    assert not authenticator_for(settings(auth_type=auth_type)).is_ready()
"""
SIGNED = """
from iotda_provider.api import Outgoing

ours = settings()
headers = authenticator_for(ours).authenticate(Outgoing("GET", ours.host, "/v5/iot/p/x"))
assert headers["Authorization"].startswith("SDK-HMAC-SHA256 Access=AK")
"""


@pytest.fixture(scope="module")
def loaded_by() -> Iterator[Callable[[str], set[str]]]:
    """The modules that a program loads: since it has set ``before``, or besides Airflow's own."""
    command = [sys.executable, "-W", "ignore", "-c", AIRFLOW]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        requests, answers = process.stdin, process.stdout
        assert answers.readline() == '"ready"\n'

        def load(program: str) -> set[str]:
            requests.write(json.dumps(program) + "\n")
            requests.flush()
            answer = json.loads(answers.readline())
            assert isinstance(answer, list), answer
            return set(answer)

        yield load
        process.kill()


def heavy(loaded: set[str]) -> set[str]:
    return {name for name in loaded if f"{name}.".startswith(tuple(f"{one}." for one in HEAVY))}


def test_parsing_a_dag_loads_nothing_heavy(loaded_by):
    lines = [f"from {module} import {', '.join(names)}" for module, names in PARSED.items()]

    assert heavy(loaded_by(BASES_OF_DAGS + "\n".join(lines))) == set()


def test_nor_does_parsing_one_with_a_release(loaded_by):
    modules = ["operators.release", "operators.release.reconcile", "operators.release.check"]
    lines = [f"import iotda_provider.{module}" for module in modules]
    lines += ["from iotda_provider.operators.release import staged_rollout"]

    loaded = loaded_by(BASES_OF_DAGS + "\n".join(lines))

    assert not {"requests", "scipy", "huaweicloudsdkcore", "iotda_provider.hooks.iotda"} & loaded


@pytest.mark.parametrize("rules", ["gate", "maintenance_window", "confirm_chunks"])
def test_the_rules_of_a_release_need_no_airflow(rules):
    module = f"iotda_provider.release.{rules}"
    program = f"import sys; import {module}; sys.exit('airflow' in sys.modules)"

    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_operators_module_loads_no_operator_before_it_is_asked_for(loaded_by):
    loaded = loaded_by(BASES_OF_DAGS + "import iotda_provider.operators.batch_task")

    assert {name for name in loaded if name.startswith("iotda_provider.operators.")} == {
        "iotda_provider.operators.batch_task"
    }


def test_credentials_load_nothing_slow_before_prepare_which_runs_in_a_thread(loaded_by):
    loaded = loaded_by(MASKER + SETTINGS + PREPARED_LATER)

    assert not {"requests", "huaweicloudsdkcore"} & loaded


def test_key_of_the_connection_needs_neither_http_nor_the_sdks_credentials(loaded_by, tmp_path):
    at_home = f"import os; os.environ['HOME'] = {str(tmp_path)!r}\n"

    loaded = loaded_by(at_home + MASKER + SETTINGS + SIGNED)

    assert not {"requests", "huaweicloudsdkcore.auth.credentials", "simplejson"} & loaded
    assert not (tmp_path / ".huaweicloud").exists(), "nothing is left in the user's home"


def test_the_plugin_is_loaded_without_the_app_and_on_every_airflow(loaded_by):
    program = "from iotda_provider.ui.plugin import RolloutsPlugin as P; P(); P.validate()"

    assert "iotda_provider.ui.app" not in loaded_by(program)


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
