"""One platform and one Airflow for all tests of a file, each out of processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.system.restarts.emulator_process import EmulatorProcess
from tests.system.restarts.parts import PARTS, Airflow


@pytest.fixture(scope="module")
def scenario() -> dict[str, Any]:
    """Stops are accepted, and are over when a test says so."""
    return {
        "devices": 5,
        "success_after": 1e9,
        "switches": {"stop_after": 1000, "stopping_timeout": 1e9},
    }


@pytest.fixture(scope="module")
def emulator(
    scenario: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EmulatorProcess]:
    """The platform, which is in force as ``iotda_default`` in the tests too."""
    emulator = EmulatorProcess(tmp_path_factory.mktemp("emulator"), scenario)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(emulator.airflow_connection))
        try:
            emulator.start()
            yield emulator
        finally:
            emulator.kill()


@pytest.fixture(scope="module")
def airflow(
    emulator: EmulatorProcess, airflow_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Airflow]:
    """All parts of Airflow, running."""
    airflow = Airflow(
        tmp_path_factory.mktemp("airflow"), airflow_database, emulator.airflow_connection
    )
    try:
        for name in PARTS:
            airflow.start(name)
        yield airflow
    finally:
        airflow.close()
