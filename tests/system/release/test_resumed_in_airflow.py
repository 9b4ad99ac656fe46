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


@pytest.fixture(params=[("worker", 400), ("triggerer", 400), ("triggerer", 10_000)], ids=str)
def case(request: pytest.FixtureRequest) -> tuple[str, int]:
    """Where the waves wait, and how many devices there are."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def emulator(case: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    scenario = {
        "devices": case[1],
        "success_after": 60,
    }
    with Emulator(scenario, speed=0) as emulator:
        emulator.advance(5)
        pass_with_looks(emulator, SECONDS_A_LOOK)
        monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(emulator.airflow_connection))
        yield emulator


@pytest.fixture
def dag_file(case: tuple[str, int], tmp_path: Path) -> Path:
    """The DAG file, for a way of waiting and for a size."""
    text = DAG_FILE.read_text()
    way, devices = case
    assert text.count("deferrable=False") == text.count("chunk=15") == 1
    text = text.replace("deferrable=False", f"deferrable={way == 'triggerer'}")
    file = tmp_path / DAG_FILE.name
    file.write_text(text.replace("chunk=15", f"chunk={min(100, devices // 26)}"))
    return file


def test_a_worker_that_dies_in_every_wave_changes_nothing_in_the_end(
    run_dag: Any,
    emulator: Emulator,
    case: tuple[str, int],
    dag_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    devices = case[1]
    real = IoTDAHook.confirm_batch_task
    sizes: Counter[int] = Counter()
    deaths = 0

    def confirm(self: IoTDAHook, task_id: str, targets: Any = None) -> Any:
        """Dies at the second call of each wave: in turn before and after it is sent."""
        nonlocal deaths
        begun = len(confirmed(emulator))
        wave = sum(begun >= devices * share // 100 for share in (10, 25, 50))
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
    run = run_dag(dag_file, conf={"devices": [f"device-{n:05}" for n in range(devices)]})
    assert run.state == "success", run.log[-4000:]
    assert deaths == 4
    outcome = run.xcom("rollout.outcome")
    assert (outcome["verdict"], outcome["exposed"], outcome["wave"]) == ("released", devices, 4)
    assert sorted(confirmed(emulator)) == [f"device-{n:05}" for n in range(devices)]
    assert not emulator.journal("stop_batch_task")


def confirmed(emulator: Emulator) -> list[str]:
    """Every device that was confirmed, as often as it was."""
    bodies = [entry["body"] for entry in emulator.journal("confirm_batch_task")]
    return [device for body in bodies for device in body["targets"]]
