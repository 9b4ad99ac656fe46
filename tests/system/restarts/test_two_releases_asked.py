"""Two releases to overlapping groups, each with a question open while its guard goes on.

The later one stands back for the earlier one's waves to come. The triggerer is restarted while both
questions are open, and closes them when devices fail.
"""

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

PACKAGE = "32822e5744a45ede319d2c50"
DEVICES = [f"device-{number:05}" for number in range(100)]
GROUPS = {"north": "0000000a-0000", "south": "0000000b-0000"}
MEMBERS = {"north": DEVICES[:60], "south": DEVICES[40:]}
SHARED = set(DEVICES[40:60])
DAGS = """
import datetime

from airflow.providers.common.compat.sdk import DAG

from iotda_provider.guards import SequentialFailureTest
from iotda_provider.operators.release import staged_rollout

for dag_id, group_id, devices in {releases!r}:
    with DAG(dag_id, schedule=None) as dag:
        staged_rollout(
            "rollout",
            rehearse_stop=False,
            devices=devices,
            group_ids=[group_id],
            task_type="firmwareUpgrade",
            document={{"package_ids": [{package!r}]}},
            rules=SequentialFailureTest(0.02),
            waves=["50%", "100%"],
            gate=0.1,
            max_waves=2,
            wave_timeout=1,
            poll_interval=0.5,
            approval="when unproven",
            deferrable=True,
            retries=5,
            retry_delay=datetime.timedelta(seconds=1),
        )
    globals()[dag_id] = dag
"""
FIRST, SECOND = "rollout.wave_1_ask", "rollout.wave_2_ask"


@pytest.fixture(scope="module")
def scenario() -> dict[str, Any]:
    """No time passes by itself, so no wave is proven; most devices fail after a day."""
    return {
        "devices": 100,
        "failure_rate": 0.6,
        "failure_after": 86_400,
        "success_after": 200_000,
        "packages": [{"package_id": PACKAGE, "version": "2.0.0"}],
        "groups": [
            {"name": name, "group_id": group_id, "devices": MEMBERS[name]}
            for name, group_id in GROUPS.items()
        ],
        "switches": {"initializing": 0, "stop_after": 0},
    }


def question_is_open(airflow: Any, dag_id: str, task_id: str) -> None:
    """Wait until a triggerer has the question, and the scheduler knows that its worker has gone."""
    airflow.wait_for(f"{dag_id} {task_id}", lambda: airflow.triggerer_of(dag_id, task_id))
    airflow.wait_for_heartbeats("scheduler", 2)


def confirmed(airflow: Any, emulator: Any, dag_id: str) -> list[str]:
    """Every device that a release has confirmed, as often as it has."""
    own = set(airflow.xcom(dag_id, "rollout.outcome")["batch_task_ids"])
    return [
        device
        for entry in emulator.journal("confirm_batch_task")
        if entry["path"].split("/")[-2] in own
        for device in entry["body"]["targets"]
    ]


def test_the_later_one_stands_back_and_the_guard_closes_both_questions(
    airflow: Any, emulator: Any
) -> None:
    releases = [(name, GROUPS[name], MEMBERS[name]) for name in GROUPS]
    (airflow.dags / "two.py").write_text(DAGS.format(releases=releases, package=PACKAGE))
    airflow.run("north")
    question_is_open(airflow, "north", FIRST)
    # Half of the north is in no batch task yet.
    airflow.run("south")
    question_is_open(airflow, "south", FIRST)
    planned = {name: airflow.xcom(name, "rollout.plan", "wave_1") for name in GROUPS}
    created = airflow.xcom("south", "rollout.wave_1_create")
    assert created["left_out"] == {"held_elsewhere": len(SHARED & set(planned["south"]))}
    assert airflow.has_logged("south", "The release of version 2.0.0 by north, run ")

    # A person's answer goes through, and the earlier one reaches all of its devices.
    airflow.answer("north", FIRST, "Go on")
    airflow.wait_for_states("north", **{FIRST: "success"})
    question_is_open(airflow, "north", SECOND)
    assert airflow.xcom("north", FIRST, "answer")["option"] == "Go on"

    # While both questions are open, the triggerer is restarted, and then devices fail.
    airflow.kill("triggerer")
    airflow.start("triggerer")
    airflow.wait_for("no worker", lambda: not airflow.workers())
    assert not emulator.journal("stop_batch_task")
    emulator.advance(86_401)
    over = "select dag_id from dag_run where state in ('success', 'failed')"
    airflow.wait_for("the end of both", lambda: len(airflow.query(over)) == len(GROUPS))

    for name, asked, wave in (("north", SECOND, 2), ("south", FIRST, 1)):
        answer = airflow.xcom(name, asked, "answer")
        assert (answer["verdict"], answer["by"]) == ("breached", "the guard")
        # What Airflow's page shows of the question: the answer, by nobody, and why.
        ((chosen, by, given),) = airflow.query(
            "select h.chosen_options, h.responded_by, h.params_input from hitl_detail h "
            "join task_instance i on i.id = h.ti_id where i.dag_id = ? and i.task_id = ?",
            *(name, asked),
        )
        assert json.loads(chosen) == ["Stop the release"]
        assert by in (None, "null")
        assert "SequentialFailureTest" in json.loads(given)["guard"]
        outcome = airflow.xcom(name, "rollout.outcome")
        assert (outcome["verdict"], outcome["wave"]) == ("breached", wave)

    assert sorted(confirmed(airflow, emulator, "north")) == MEMBERS["north"]
    reached = sorted(set(planned["south"]) - SHARED)
    assert sorted(confirmed(airflow, emulator, "south")) == reached
    assert len(emulator.journal("create_batch_task")) == 3
    stopped = {entry["path"].split("/")[-2] for entry in emulator.journal("stop_batch_task")}
    assert len(stopped) == 3
