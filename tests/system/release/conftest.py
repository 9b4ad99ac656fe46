"""The release pipeline in real Airflow against an emulated fleet, with its waiting made short."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS
from tests.system.pipeline import ALL, PACKAGE, VERSION, hurried_release, hurried_way_back
from tests.system.virtual_time import pass_with_looks

from iotda_provider.emulator import Emulator
from iotda_provider.procedures.batch_tasks import REHEARSAL

SECONDS_A_LOOK = 20.0
"""How much of the fleet's time passes after each look at it."""
#: A task that waits for a person: since Airflow 3.3, and before.
_PARKED = ("awaiting_input", "deferred")


@pytest.fixture
def hurried(tmp_path: Path) -> Callable[..., Path]:
    """The DAG file with its seconds shortened, and, if given, with room for so many waves only.

    ``dag.test()`` takes as long for a wave that is skipped as for one that is released.
    """

    def copy(waves: int | None = None) -> Path:
        text = hurried_release(looks=0.02, grace=1, retries=0.1)
        if waves is not None:
            text, count = re.subn(r"(?m)^MOST_WAVES = 6$", f"MOST_WAVES = {waves}", text)
            assert count == 1
        file = tmp_path / "firmware_release.py"
        file.write_text(text)
        return file

    return copy


@pytest.fixture
def way_back_file(tmp_path: Path, airflow_database: Path) -> Path:
    """The DAG file of the way back with its seconds shortened."""
    file = tmp_path / "roll_back_release.py"
    file.write_text(hurried_way_back())
    if not AIRFLOW_V_3_1_PLUS:  # where a run of a DAG does not make it known
        from airflow.models.dagbag import DagBag

        DagBag(file, include_examples=False).sync_to_db()
    return file


@dataclass
class Platform:
    """An emulated fleet, and what was done to it."""

    emulator: Emulator

    def asked(self, verb: str) -> list[Any]:
        """The bodies of all calls whose path ends with a verb, but for rehearsed stops."""
        calls = [e["body"] for e in self.emulator.journal() if e["path"].endswith(f"/{verb}")]
        return [body for body in calls if REHEARSAL not in str(body)]

    @property
    def confirmed(self) -> list[str]:
        """Every device that was confirmed, as often as it was."""
        bodies = self.asked("confirm")
        assert all(body and 1 <= len(body["targets"]) <= 100 for body in bodies)
        return [device for body in bodies for device in body["targets"]]

    def rows(self, *batch_task_ids: str) -> dict[str, tuple[str, str]]:
        """Status and error code of every device of some batch tasks."""
        world = self.emulator.instance.present()
        tasks = [world.task(task_id) for task_id in batch_task_ids]
        shown = [world.describe_row(task, row) for task in tasks for row in range(len(task))]
        return {r["target"]: (r["status"], r.get("error", {}).get("error_code", "")) for r in shown}

    def group(self, name: str) -> set[str]:
        """The devices of a group, by its name."""
        world = self.emulator.instance.present()
        for device_group in world.groups.by_id.values():
            if device_group.name == name:
                return {world.fleet.id_of(device) for device in device_group.members.devices}
        return set()

    def versions(self) -> dict[str, str]:
        """The firmware that every device runs."""
        fleet = self.emulator.instance.present().fleet
        return {fleet.id_of(device): fleet.firmware(device) for device in fleet}


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Platform]]:
    """Starts an emulated fleet of 10,000 devices in one group, with a package.

    Its time passes with the looks at it.
    """
    running: list[Emulator] = []

    def start(devices: int = 10_000, **scenario: Any) -> Platform:
        whole = {
            "devices": devices,
            "success_after": 60,
            "failure_after": 30,
            "packages": [{"package_id": PACKAGE, "version": VERSION}],
            "groups": [{"name": "all", "group_id": ALL, "count": devices}],
            **scenario,
        }
        emulator = Emulator(whole, speed=0)
        emulator.start()
        running.append(emulator)
        pass_with_looks(emulator, SECONDS_A_LOOK)
        monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(emulator.airflow_connection))
        return Platform(emulator)

    yield start
    for emulator in running:
        emulator.close()


@pytest.fixture(scope="session")
def airflow_api(airflow_database: Path) -> Any:
    """A client of Airflow's API, which takes seconds to make."""
    from airflow.api_fastapi.app import create_app
    from fastapi.testclient import TestClient

    # A database that is locked for a moment is no reason to give up.
    return TestClient(create_app(apps="core"), raise_server_exceptions=False)


@pytest.fixture
def answer(
    airflow_api: Any, when_asked: list[Callable[[], object]]
) -> Iterator[Callable[..., None]]:
    """Answers a question of the pipeline once it is asked, through Airflow's own API.

    Airflow 3.3 parks the task, and ``dag.test()`` waits: the answer is given then. Before, it waits
    inside of a trigger, and the answer comes from beside it.
    """
    from airflow.utils.state import TaskInstanceState

    is_parked = hasattr(TaskInstanceState, "AWAITING_INPUT")
    threads: list[threading.Thread] = []
    over = threading.Event()

    def ask(method: str, path: str, **more: Any) -> dict[str, Any]:
        """The answer's body; empty where there was none."""
        found = airflow_api.request(method, path, **more)
        return found.json() if found.is_success else {}

    def give(task_id: str, option: str, dag_id: str, before: Callable[[], object]) -> bool:
        """Answer the question, if it is open; whether that was done."""
        base = f"/api/v2/dags/{dag_id}/dagRuns"
        token = ask("GET", "/auth/token").get("access_token")
        headers = {"Authorization": f"Bearer {token}"}
        newest = {"order_by": "-run_after", "limit": 1}
        for run in ask("GET", base, headers=headers, params=newest).get("dag_runs", ()):
            asking = f"{base}/{run['dag_run_id']}/taskInstances/{task_id}"
            # An answer that comes before the task is parked is never looked at.
            if ask("GET", asking, headers=headers).get("state") not in _PARKED:
                continue
            before()
            body = {"chosen_options": [option], "params_input": {}}
            if ask("PATCH", f"{asking}/-1/hitlDetails", json=body, headers=headers):
                return True
        return False

    def start(
        task_id: str,
        option: str,
        dag_id: str = "firmware_release",
        before: Callable[[], object] = lambda: None,
    ) -> None:
        """Answer this question, as soon as it is asked; ``before`` is called when it is open."""
        question = partial(give, task_id, option, dag_id, before)

        def when_parked() -> None:
            if question():
                when_asked.remove(when_parked)

        def beside() -> None:
            while not over.wait(0.2) and not question():
                pass

        if is_parked:
            when_asked.append(when_parked)
            return
        thread = threading.Thread(target=beside, daemon=True)
        threads.append(thread)
        thread.start()

    yield start
    over.set()
    for thread in threads:
        thread.join()


@pytest.fixture
def release(run_dag: Any, hurried: Callable[..., Path]) -> Callable[..., Any]:
    """Runs the pipeline; what is not said is short, and nobody is asked.

    Unless a file is given, it has no more waves than this release.
    """

    def run(file: Path | None = None, **params: Any) -> Any:
        conf = {
            "package_id": PACKAGE,
            "group_ids": [ALL],
            "waves": "1%, 5%, 25%, 100%",
            "gate_rate": 0.1,
            "bake_minutes": 0,
            "wave_hours": 1,
            "approval": "never",
            **params,
        }
        return run_dag(file or hurried(len(conf["waves"].split(","))), conf=conf)

    return run
