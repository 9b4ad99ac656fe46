"""A person's yes, in real Airflow: to a wave, and to the last one, behind which others are left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS
from tests.system.virtual_time import pass_with_looks, share_time

from iotda_provider.emulator import Emulator

DAG_FILE = Path(__file__).parent / "dags" / "asking_rollout.py"
SECONDS_A_LOOK = 20.0

pytestmark = pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="asking a person needs Airflow 3.1")


SCENARIO: dict[str, Any] = {
    "devices": 100,
    "success_after": 60,
}


def started(monkeypatch: pytest.MonkeyPatch, **scenario: Any) -> Emulator:
    """A platform, with a connection to it; a release's time passes with its looks."""
    emulator = Emulator({**SCENARIO, **scenario}, speed=0)
    emulator.start()
    emulator.advance(5)
    pass_with_looks(emulator, SECONDS_A_LOOK)
    share_time(emulator, monkeypatch)
    monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(emulator.airflow_connection))
    return emulator


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """Every fifth device never reports."""
    emulator = started(monkeypatch, hang_rate=0.2)
    yield emulator
    emulator.close()


@pytest.fixture
def late_failures(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """More than half of the devices fail days after they were confirmed; others take longer."""
    days = 86400
    emulator = started(
        monkeypatch, failure_rate=0.6, failure_after=2 * days, success_after=9 * days
    )
    yield emulator
    emulator.close()


def test_a_persons_yes_opens_what_the_numbers_do_not(
    run_dag: Any, emulator: Emulator, answer: Any
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
    assert run.xcom("rollout.wave_3_create")["verdict"] == "surplus"
    assert {run.states[f"rollout.wave_{wave}_stop"] for wave in (1, 2, 3)} == {"skipped"}
    assert not emulator.journal("stop_batch_task")


def test_a_no_after_a_yes_stops_it(run_dag: Any, emulator: Emulator, answer: Any) -> None:
    answer("rollout.wave_1_ask", "Go on", dag_id="asking_rollout")
    answer("rollout.wave_2_ask", "Stop the release", dag_id="asking_rollout")
    run = run_dag(DAG_FILE)
    outcome = run.xcom("rollout.outcome")
    assert (outcome["verdict"], outcome["approved_by_person"]) == ("refused", [1])
    assert set(run.xcom("rollout.wave_2_stop")["outcomes"].values()) == {"stopped"}
    # Each wave has a batch task of its own.
    assert len(emulator.journal("stop_batch_task")) == 2


def test_what_breaks_while_the_question_is_open_stops_the_release_before_anybody_else_starts(
    run_dag: Any, late_failures: Emulator, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    from iotda_provider.operators.release.approval import WaveApprovalOperator

    resume = WaveApprovalOperator.execute_complete

    def after_days(self: Any, context: Any, event: Any) -> Any:
        """The answer comes in days after the question."""
        late_failures.advance(5 * 86400)
        return resume(self, context=context, event=event)

    monkeypatch.setattr(WaveApprovalOperator, "execute_complete", after_days)
    answer("rollout.wave_1_ask", "Go on", dag_id="asking_rollout")
    run = run_dag(DAG_FILE)
    assert run.xcom("rollout.wave_1_watch")["verdict"] == "unproven"
    assert run.xcom("rollout.wave_2_create")["verdict"] == "breached"
    first = set(run.xcom("rollout.plan", "wave_1"))
    bodies = [entry["body"] for entry in late_failures.journal("confirm_batch_task")]
    assert {device for body in bodies for device in body["targets"]} == first
    assert len(late_failures.journal("stop_batch_task")) == 1
    assert run.xcom("rollout.outcome")["verdict"] == "breached"
    assert run.xcom("rollout.outcome")["exposed"] == len(first) == 50
