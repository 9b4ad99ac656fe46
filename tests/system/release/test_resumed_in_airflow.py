"""Tasks that die in the middle of every wave, and whose next tries go on, in real Airflow."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.system.virtual_time import pass_with_looks

from iotda_provider.emulator import Emulator
from iotda_provider.hooks.iotda import IoTDAHook

DAG_FILE = Path(__file__).parent / "dags" / "small_rollout.py"
SECONDS_A_LOOK = 20.0


DEVICES = 400


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    scenario = {
        "devices": DEVICES,
        "success_after": 60,
    }
    with Emulator(scenario, speed=0) as emulator:
        emulator.advance(5)
        pass_with_looks(emulator, SECONDS_A_LOOK)
        monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(emulator.airflow_connection))
        yield emulator


@pytest.fixture(params=["worker", "triggerer"])
def dag_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The DAG file, for either way of waiting, with 30 devices in a call."""
    text = DAG_FILE.read_text()
    assert text.count("deferrable=False") == text.count("chunk=30") == 1
    file = tmp_path / DAG_FILE.name
    file.write_text(text.replace("deferrable=False", f"deferrable={request.param == 'triggerer'}"))
    return file


def test_a_worker_that_dies_in_every_wave_changes_nothing_in_the_end(
    run_dag: Any,
    emulator: Emulator,
    dag_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = IoTDAHook.confirm_batch_task
    sizes: Counter[int] = Counter()
    deaths = 0

    def confirm(self: IoTDAHook, task_id: str, targets: Any = None) -> Any:
        """Dies at the second call of each wave: in turn before and after it is sent."""
        nonlocal deaths
        begun = len(confirmed(emulator))
        wave = sum(begun >= DEVICES * share // 100 for share in (10, 25, 50))
        sizes[wave] += 1
        dies = sizes[wave] == 2
        deaths += dies
        if dies and wave % 2:
            raise RuntimeError("the worker dies")
        result = real(self, task_id, targets)
        if dies:
            raise RuntimeError("the worker dies")
        return result

    monkeypatch.setattr(IoTDAHook, "confirm_batch_task", confirm)
    run = run_dag(dag_file, conf={"devices": [f"device-{n:05}" for n in range(DEVICES)]})
    assert run.state == "success", run.log[-4000:]
    assert deaths == 4
    outcome = run.xcom("rollout.outcome")
    assert (outcome["verdict"], outcome["exposed"], outcome["wave"]) == ("released", DEVICES, 4)
    assert sorted(confirmed(emulator)) == [f"device-{n:05}" for n in range(DEVICES)]
    assert not emulator.journal("stop_batch_task")


def confirmed(emulator: Emulator) -> list[str]:
    """Every device that was confirmed, as often as it was."""
    bodies = [entry["body"] for entry in emulator.journal("confirm_batch_task")]
    return [device for body in bodies for device in body["targets"]]
