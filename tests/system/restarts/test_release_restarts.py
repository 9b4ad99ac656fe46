"""A deferred release goes on whatever dies: nobody is confirmed twice, and no worker is held."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from tests.system.restarts.parts import VERSION

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

DEVICES = [f"device-{number:05}" for number in range(100)]
DAG_ID = "release_in_processes"
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
        waves=["50%", "100%"],
        gate=0.1,
        max_waves=2,
        chunk=10,
        max_in_flight=20,
        bake_time=45,
        wave_timeout=1200,
        poll_interval=1,
        deferrable=True,
        retries=5,
        retry_delay=datetime.timedelta(seconds=1),
    )
"""


@pytest.fixture(scope="module")
def scenario() -> dict[str, Any]:
    return {"devices": 100, "success_after": 60, "switches": {"initializing": 0}}


def confirmed(emulator: Any) -> list[str]:
    """Every device that was confirmed, as often as it was."""
    bodies = [entry["body"] for entry in emulator.journal("confirm_batch_task")]
    return [device for body in bodies for device in body["targets"]]


def test_a_release_outlives_its_triggerers_and_holds_no_worker(airflow: Any, emulator: Any) -> None:
    (airflow.dags / "release.py").write_text(DAG.format(dag_id=DAG_ID, devices=DEVICES))
    airflow.run(DAG_ID)

    def let_go_on(count: int) -> None:
        """Let devices finish, so that there are places for the next, up to so many."""

        def have_begun() -> bool:
            if len(set(confirmed(emulator))) >= count:
                return True
            emulator.advance(30)
            return False

        airflow.wait_for(f"{count} confirmations", have_begun)

    # As many as may be are under way, confirmed by the worker; and then no worker waits.
    airflow.wait_for_states(DAG_ID, **{"rollout.wave_1_confirm": "deferred"})
    assert len(confirmed(emulator)) == 20
    airflow.wait_for("no worker", lambda: not airflow.workers())

    # The triggerer dies between two calls of the trigger; another one goes on.
    let_go_on(30)
    airflow.kill("triggerer")
    airflow.start("triggerer")
    let_go_on(50)
    airflow.wait_for_states(DAG_ID, **{"rollout.wave_1_watch": "deferred"})
    airflow.wait_for("no worker", lambda: not airflow.workers())
    emulator.advance(120)

    # While the wave bakes, another triggerer takes over, and the first one wakes up again.
    airflow.wait_for_states(DAG_ID, **{"rollout.wave_2_confirm": "deferred"})
    assert 50 < len(confirmed(emulator)) <= 70
    assert len(confirmed(emulator)) == len(set(confirmed(emulator)))
    airflow.pause("triggerer")
    airflow.start("triggerer 2")
    let_go_on(80)
    airflow.send("triggerer", signal.SIGCONT)
    let_go_on(100)
    airflow.wait_for_states(DAG_ID, **{"rollout.wave_2_watch": "deferred"})
    emulator.advance(120)

    airflow.wait_for_states(DAG_ID, **{"rollout.outcome": "success"})
    outcome = airflow.xcom(DAG_ID, "rollout.outcome")
    assert (outcome["verdict"], outcome["exposed"]) == ("released", 100)
    assert set(confirmed(emulator)) == set(DEVICES)
    # The one that was paused may have been about to make a call.
    assert len(confirmed(emulator)) <= 100 + 10
    assert not emulator.journal("stop_batch_task")
    names = {name.split(".")[1] for (name,) in airflow.query("select key from variable")}
    # Below 3.3 the plan's note of the installation is left over, as docs/reliability.md says.
    left = {"installation_id"} if VERSION >= (3, 3) else {"installation_id", "installation"}
    assert names <= left
