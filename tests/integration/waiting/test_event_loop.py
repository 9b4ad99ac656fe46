"""Fifty triggers that begin at once keep the event loop no longer than those of Airflow do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from iotda_provider.emulator import Emulator
from iotda_provider.guards import EnoughSuccess, SequentialFailureTest, rules_to_json
from iotda_provider.release.at_rest import RestJob
from iotda_provider.release.confirm_job import ConfirmJob
from iotda_provider.release.create_job import CreateJob
from iotda_provider.release.manifest import Part
from iotda_provider.release.open_question import QuestionJob
from iotda_provider.release.storage import ReleaseFiles
from iotda_provider.release.watch_wave import WatchJob

TASK = "5c8fb9d0e2f14a5b9c0d1e2f"
OURS = "iotda_provider.triggers."
TIME = "airflow.providers.standard.triggers.temporal.TimeDeltaTrigger"
#: How often it is measured until one of ours counts as too slow: a busy machine proves nothing.
MOST_TRIES = 4
OWNER = {"dag_id": "dag", "run_id": "run", "task_id": "task", "map_index": -1}
RULES = rules_to_json([SequentialFailureTest(0.2)])
GUARD = {"batch_task_ids": [TASK], "rules": RULES}


class Measuring:
    """The process that measures, and the platform that the triggers talk to."""

    def __init__(self, process: subprocess.Popen[str], emulator: Emulator) -> None:
        self._process = process
        self._emulator = emulator
        self._of_airflow = 0.0

    def gap_of_airflow(self, *, anew: bool) -> float:
        """That of fifty of Airflow's own triggers, which is measured once, unless ``anew``."""
        if anew or not self._of_airflow:
            self._of_airflow = self.gap(TIME, {"seconds": 60})
        return self._of_airflow

    def gap(self, path: str, arguments: dict[str, Any], requests: int = 0) -> float:
        """The largest gap until so many requests were made."""
        return float(self.measure("gap", path, arguments, requests))

    def measure(self, wanted: str, path: str, arguments: dict[str, Any], requests: int) -> Any:
        """What is wanted (``gap`` or ``blocking``) until so many requests were made."""
        assert self._process.stdout is not None
        before = len(self._emulator.journal())
        self._write(json.dumps({"path": path, "arguments": arguments, "wanted": wanted}))
        ends = time.monotonic() + 120
        while len(self._emulator.journal()) < before + requests:
            assert time.monotonic() < ends, f"{path} does not look at the platform"
            time.sleep(0.01)
        self._write("enough")
        return json.loads(self._process.stdout.readline())

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


@pytest.fixture(scope="module")
def measuring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Measuring]:
    # Without tables: with those of a test before, Airflow 2 knows that no wave was planned.
    file = tmp_path_factory.mktemp("airflow") / "airflow.db"
    database = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{file}"}
    scenario = {
        "devices": 200,
        "failure_rate": 0.05,
        "failure_after": 5,
        "success_after": 10_000,
        "batch_tasks": [{"task_id": TASK, "targets": "all"}],
    }
    program = str(Path(__file__).with_name("event_loop.py"))
    with Emulator(scenario, speed=0) as emulator:
        emulator.advance(60)
        connection = json.dumps(emulator.airflow_connection)
        process = subprocess.Popen(
            [sys.executable, program],
            env={**os.environ, "AIRFLOW_CONN_IOTDA_DEFAULT": connection, **database},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield Measuring(process, emulator)
        finally:
            process.kill()
            process.communicate()


def arguments_of(path: str) -> dict[str, Any]:
    end = time.time() + 3600
    guard = {"guard": GUARD, "owner": OWNER, "began": end}
    files = ReleaseFiles("dag", "run", "plan").to_json()
    rest = RestJob((TASK,), 3600, 1, 60, end).to_json()
    part = Part(1, 1, "release", 1, TASK)
    confirm = ConfirmJob(1, (part,), False, end, 600).to_json()
    watch = WatchJob(1, (TASK,), 1, True, EnoughSuccess(0.1), end, end).to_json()
    identity = {"installation": "tests", "dag_id": "dag", "run_id": "run", "task_id": "create"}
    create = CreateJob(2, 2, 2, (part,), "release", {}, identity, None, end, 600).to_json()
    question = QuestionJob(1, (TASK,), "0190f0d5-0000-7000-8000-000000000000").to_json()
    made: dict[str, dict[str, Any]] = {
        "batch_task.BatchTaskTrigger": {"batch_task_id": TASK},
        "rollout_guard.RolloutGuardTrigger": {"plan": GUARD, "owner": OWNER},
        "release.AtRestTrigger": {"job": rest, "began": end},
        "release.CreateWaveTrigger": {"job": create, "files": files, **guard},
        "open_question.OpenQuestionTrigger": {"job": question, "files": files, **guard},
        "release.ConfirmWaveTrigger": {"job": confirm, "files": files, **guard},
        "release.WatchWaveTrigger": {"job": watch, "files": files, **guard},
    }
    return made[path]


of_each_class = pytest.mark.parametrize(
    ("path", "requests"),
    [
        ("batch_task.BatchTaskTrigger", 50),
        ("rollout_guard.RolloutGuardTrigger", 1),  # all guards of a connection share a reading
        ("release.AtRestTrigger", 50),
        ("release.ConfirmWaveTrigger", 50),
        ("release.WatchWaveTrigger", 50),
        ("release.CreateWaveTrigger", 50),
        pytest.param(
            "open_question.OpenQuestionTrigger",
            50,
            marks=pytest.mark.skipif(
                not AIRFLOW_V_3_1_PLUS, reason="asking a person needs Airflow 3.1"
            ),
        ),
    ],
)


@of_each_class
def test_fifty_that_begin_at_once_leave_the_event_loop_free(
    path: str, requests: int, measuring: Measuring
) -> None:
    measured = []

    for number in range(MOST_TRIES):
        ours = measuring.gap(OURS + path, arguments_of(path), requests)
        of_airflow = measuring.gap_of_airflow(anew=number > 0)
        measured.append((ours, of_airflow))
        if ours <= 3 * of_airflow:
            return

    pytest.fail(f"seconds of ours, and of Airflow's: {measured}")


@of_each_class
def test_they_import_nothing_and_touch_no_file_and_wait_for_no_lock_on_it(
    path: str, requests: int, measuring: Measuring
) -> None:
    seen = measuring.measure("blocking", OURS + path, arguments_of(path), requests)

    assert seen == []


def test_what_may_block_is_seen(measuring: Measuring) -> None:
    """Airflow's own trigger for files looks at them on the event loop's thread."""
    path = "airflow.providers.standard.triggers.file.FileTrigger"

    seen = measuring.measure("blocking", path, {"filepath": "/nowhere"}, 0)

    assert seen
