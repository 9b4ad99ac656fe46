"""One platform and one distributed Airflow for all tests here."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.distributed.cluster import ROOT, Cluster
from tests.distributed.keeper import Keeper
from tests.distributed.rollouts import Rollouts
from tests.system.restarts.emulator_process import EmulatorProcess


@pytest.fixture(scope="session")
def keeper() -> Iterator[Keeper]:
    """Ends all processes of the harness, even where this one is killed."""
    with Keeper() as keeper:
        yield keeper


@pytest.fixture(scope="session")
def rollouts(keeper: Keeper, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rollouts]:
    """The platform, which is in force as ``iotda_default`` in the tests too."""
    folder = tmp_path_factory.mktemp("platform")
    emulator = EmulatorProcess(folder, Rollouts.SCENARIO, speed=1)
    connection = emulator.airflow_connection
    connection["extra"]["timeout"] = 10
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(connection))
        try:
            emulator.start()
            made = Rollouts(emulator)
            yield made
            made.close()
        finally:
            emulator.kill()


@pytest.fixture(scope="session")
def cluster(rollouts: Rollouts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """All parts of Airflow with the DAGs that guard rollouts, as they are shipped."""
    cluster = Cluster(
        tmp_path_factory.mktemp("cluster") / "airflow",
        rollouts.emulator.airflow_connection,
        [ROOT / "dags" / "rollout_guard.py"],
    )
    try:
        cluster.start()
        yield cluster
    finally:
        left = cluster.close()
    assert not left, "processes are left"
