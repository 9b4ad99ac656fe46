"""However long an import takes, fifty triggers that begin at once hold up no event loop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from iotda_provider.emulator import Emulator
from iotda_provider.guards import EnoughSuccess, SequentialFailureTest, rules_to_json

TASK = "5c8fb9d0e2f14a5b9c0d1e2f"
DELAY = 0.8
OWNER = {"dag_id": "dag", "run_id": "run", "task_id": "task", "map_index": -1}
GUARD = {"batch_task_ids": [TASK], "rules": rules_to_json([SequentialFailureTest(0.02)])}
FILES = {
    "batch_task_id": TASK,
    "digest": "",
    "cumulative": [1],
    "manifest_path": None,
    "dag_id": "dag",
    "run_id": "run",
    "plan_task_id": "plan",
}


def test_no_import_holds_up_the_event_loop(
    iotda_emulator_factory: Callable[..., Emulator],
) -> None:
    task = {"task_id": TASK, "targets": "all"}
    emulator = iotda_emulator_factory({"devices": 100, "batch_tasks": [task]}, speed=0)
    end = time.time() + 600
    wave = {"batch_task_id": TASK, "wave": 1, "members": 1}
    gate = rules_to_json([EnoughSuccess(0.1)])
    rest = {"grace": 1, "poll_interval": 1, "max_outage": 60, "deadline": end}
    confirm = {**wave, "before": 0, "late": False, "deadline": end, "timeout": 600}
    watch = {**wave, "is_last": True, "gate": gate, "bake": end, "end": end}
    guard = {"guard": GUARD, "files": FILES, "owner": OWNER, "began": end}
    ours = "iotda_provider.triggers."
    cases = {
        "airflow.providers.standard.triggers.temporal.TimeDeltaTrigger": {},
        ours + "batch_task.BatchTaskTrigger": {"batch_task_id": TASK},
        ours + "rollout_guard.RolloutGuardTrigger": {"plan": GUARD, "owner": OWNER},
        ours + "release.AtRestTrigger": {"job": {"batch_task_id": TASK, **rest}, "began": end},
        ours + "release.ConfirmWaveTrigger": {"job": confirm, **guard},
        ours + "release.WatchWaveTrigger": {"job": watch, **guard},
    }
    if sys.modules.get("airflow.sdk"):
        cases[ours + "rollout_breach.RolloutBreachTrigger"] = {"rules": json.dumps(GUARD["rules"])}
    program = [sys.executable, str(Path(__file__).with_name("event_loop.py"))]
    connection = json.dumps(emulator.airflow_connection)

    answer = subprocess.run(
        [*program, str(DELAY), json.dumps(cases)],
        env={**os.environ, "AIRFLOW_CONN_IOTDA_DEFAULT": connection},
        capture_output=True,
        text=True,
        check=False,
    )

    assert answer.returncode == 0, answer.stderr
    gaps = json.loads(answer.stdout.splitlines()[-1])
    assert gaps.keys() == cases.keys()
    assert {path: gap for path, gap in gaps.items() if gap > 0.7 * DELAY} == {}
