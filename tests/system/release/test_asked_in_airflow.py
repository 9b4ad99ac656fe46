"""A person's yes, in real Airflow: to a wave, and to the last one, behind which others are left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from iotda_provider.emulator import Emulator

DAG_FILE = Path(__file__).parent / "dags" / "asking_rollout.py"
TASK_ID = "5c8fb9d0e2f14a5b9c0d1e2f"

pytestmark = pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="asking a person needs Airflow 3.1")


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """Every fifth device never reports."""
    scenario = {
        "devices": 100,
        "success_after": 60,
        "hang_rate": 0.2,
        "batch_tasks": [{"task_id": TASK_ID, "need_confirm": True}],
    }
    with Emulator(scenario, speed=300) as emulator:
        emulator.advance(5)
        monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(emulator.airflow_connection))
        yield emulator


def test_a_persons_yes_opens_what_the_numbers_do_not(
    run_dag: Any, emulator: Emulator, impatient: None, answer: Any
) -> None:
    for wave in (1, 2):
        answer(f"rollout.wave_{wave}_ask", "Go on", dag_id="asking_rollout")
    run = run_dag(DAG_FILE)
    assert run.state == "success", run.log[-4000:]
    assert run.xcom("rollout.wave_1_watch")["verdict"] == "unproven"
    outcome = run.xcom("rollout.outcome")
    assert (outcome["verdict"], outcome["approved_by_person"]) == ("released", [1, 2])
    assert outcome["exposed"] == 100
    # The third wave, which this release does not have, is passed through.
    assert run.xcom("rollout.wave_3_confirm")["verdict"] == "surplus"
    assert run.states["rollout.stop"] == "skipped"
    assert not emulator.journal("stop_batch_task")
