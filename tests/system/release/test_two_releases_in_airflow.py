"""Two DAG runs release to overlapping groups at a time: the later one stands back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.system.conftest import load_dag
from tests.system.pipeline import PACKAGE

GROUPS = {"north": "0000000a-0000", "south": "0000000b-0000"}
DEVICES = [f"device-{number:05}" for number in range(200)]
MEMBERS = {"north": DEVICES[:120], "south": DEVICES[80:]}
SHARED = set(DEVICES[80:120])
FILE = """
import pendulum
from airflow.providers.common.compat.sdk import DAG

from iotda_provider.guards import SequentialFailureTest
from iotda_provider.operators.release import staged_rollout

for dag_id, approval, group_id, devices in {releases!r}:
    with DAG(dag_id, start_date=pendulum.datetime(2026, 1, 1, tz="UTC"), schedule=None) as dag:
        staged_rollout(
            "rollout",
            devices=devices,
            group_ids=[group_id],
            task_type="firmwareUpgrade",
            document={{"package_ids": [{package!r}]}},
            rules=SequentialFailureTest(0.02),
            waves=["50%", "100%"],
            gate=0.2,
            seed=dag_id,
            max_waves=2,
            poll_interval=0.02,
            approval=approval,
        )
    globals()[dag_id] = dag
"""


def can_wait() -> bool:
    """Whether a question in ``dag.test()`` holds no trigger, as since Airflow 3.3."""
    from airflow.utils.state import TaskInstanceState

    return hasattr(TaskInstanceState, "AWAITING_INPUT")


@pytest.mark.skipif(not can_wait(), reason="before Airflow 3.3 a trigger waits for the answer")
def test_nobody_is_exposed_by_two_releases_at_a_time(
    run_dag: Any, fleet: Any, answer: Any, tmp_path: Path
) -> None:
    groups = [
        {"name": name, "group_id": group_id, "devices": MEMBERS[name]}
        for name, group_id in GROUPS.items()
    ]
    platform = fleet(devices=200, groups=groups)
    file = tmp_path / "two.py"
    asks = {"north": "before every wave", "south": "never"}
    releases = [(name, asks[name], GROUPS[name], MEMBERS[name]) for name in GROUPS]
    file.write_text(FILE.format(releases=releases, package=PACKAGE))
    by_south: list[str] = []
    runs: list[Any] = []

    def while_asked() -> None:
        """The south releases to both of its waves, while a person is asked about the north's."""
        if runs:
            return
        before = len(platform.confirmed)
        # A process for each, and deaths: tests/system/restarts/test_two_releases_asked.py.
        runs.append(load_dag(file, "south").test())
        by_south.extend(platform.confirmed[before:])

    answer("rollout.wave_1_ask", "Go on", dag_id="north", before=while_asked)
    run = run_dag(file, "north")
    (of_south,) = runs
    assert of_south.state == run.state == "success", run.log[-6000:]

    # Those of the north's second wave were in no batch task when the south began.
    assert "The release of version 2.0.0 by north, run " in run.log
    assert "of these devices in its groups" in run.log
    assert sorted(by_south) == sorted(set(MEMBERS["south"]) - SHARED)
    north = [device for device in platform.confirmed if device not in by_south]
    assert sorted(north) == MEMBERS["north"]
    assert run.xcom("rollout.outcome")["exposed"] == 120
    assert run.xcom("rollout.wave_2_create")["left_out"] == {}
    assert len(platform.confirmed) == len(set(platform.confirmed)) == 200
