"""The guard goes on while a person is asked, over a restart of the triggerer, and closes it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="asking a person needs Airflow 3.1"),
]

DAG_ID = "asked_while_guarded"
DAG = """
import datetime

from airflow.providers.common.compat.sdk import DAG

from iotda_provider.guards import SequentialFailureTest
from iotda_provider.operators.release import staged_rollout

with DAG({dag_id!r}, schedule=None):
    staged_rollout(
        rehearse_stop=False,
        devices={devices!r},
        task_type="firmwareUpgrade",
        document={{"package_ids": ["32822e5744a45ede319d2c50"]}},
        rules=SequentialFailureTest(0.02),
        waves=["20%", "50%", "100%"],
        gate=0.1,
        max_waves=3,
        wave_timeout=1,
        poll_interval=0.5,
        approval="when unproven",
        deferrable=True,
        retries=5,
        retry_delay=datetime.timedelta(seconds=1),
    )
"""


@pytest.fixture(scope="module")
def scenario() -> dict[str, Any]:
    """No time passes by itself, so no wave is proven; most devices fail after a day."""
    return {
        "devices": 100,
        "failure_rate": 0.6,
        "failure_after": 86_400,
        "success_after": 200_000,
        "switches": {"initializing": 0, "stop_after": 0},
    }


def test_a_yes_opens_the_next_wave_and_a_breach_closes_the_next_question(
    airflow: Any, emulator: Any
) -> None:
    devices = [f"device-{number:05}" for number in range(100)]
    (airflow.dags / "asked.py").write_text(DAG.format(dag_id=DAG_ID, devices=devices))
    airflow.run(DAG_ID)
    first, second = "rollout.wave_1_ask", "rollout.wave_2_ask"

    airflow.wait_for_states(DAG_ID, **{first: "deferred"})
    airflow.answer(DAG_ID, first, "Go on")
    airflow.wait_for_states(DAG_ID, **{first: "success", second: "deferred"})
    assert airflow.xcom(DAG_ID, first, "answer")["option"] == "Go on"

    # While the second one is open, the triggerer is restarted, and then devices fail.
    airflow.kill("triggerer")
    airflow.start("triggerer")
    airflow.wait_for("no worker", lambda: not airflow.workers())
    assert not emulator.journal("stop_batch_task")
    emulator.advance(86_401)
    over = "select state from dag_run where dag_id = ? and state in ('success', 'failed')"
    airflow.wait_for("the end", lambda: airflow.query(over, DAG_ID))

    answer = airflow.xcom(DAG_ID, second, "answer")
    assert (answer["verdict"], answer["by"]) == ("breached", "the guard")
    # What Airflow's page shows of the question: the answer, by nobody, and why.
    ((chosen, by, given),) = airflow.query(
        "select h.chosen_options, h.responded_by, h.params_input from hitl_detail h "
        "join task_instance i on i.id = h.ti_id where i.dag_id = ? and i.task_id = ?",
        *(DAG_ID, second),
    )
    assert json.loads(chosen) == ["Stop the release"]
    assert by in (None, "null")
    assert "SequentialFailureTest" in json.loads(given)["guard"]
    outcome = airflow.xcom(DAG_ID, "rollout.outcome")
    assert (outcome["verdict"], outcome["exposed"]) == ("breached", 50)
    assert outcome["approved_by_person"] == [1]
    waves = [airflow.xcom(DAG_ID, "rollout.plan", f"wave_{wave}") for wave in (1, 2)]
    bodies = [entry["body"] for entry in emulator.journal("confirm_batch_task")]
    confirmed = [device for body in bodies for device in body["targets"]]
    assert sorted(confirmed) == sorted(waves[0] + waves[1])
    assert len(emulator.journal("create_batch_task")) == 2
