"""What `make ui` shows: a healthy rollout, a bad one, a release that asks, a guard that hangs."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path
from typing import Any

import requests
from workbench import ROOT, Workbench, WorkbenchError, connect

PATIENCE = 600.0
DAGS = ("guard_one_rollout", "stop_batch_task", "firmware_release", "guard_on_a_hung_worker")
PACKAGES = {
    "lamps": "0f7b1c2d3e4f5a6b7c8d9e01",
    "thermostats": "0f7b1c2d3e4f5a6b7c8d9e02",
    "meters": "0f7b1c2d3e4f5a6b7c8d9e03",
    "cameras": "0f7b1c2d3e4f5a6b7c8d9e04",
}
GROUPS = {name: f"1a000000-000{number}" for number, name in enumerate(PACKAGES, start=1)}


def copy_dags(folder: Path) -> Path:
    """The example DAGs and the demo's own, where a wave bakes for seconds instead of minutes."""
    copies = folder / "dags"
    copies.mkdir()
    for file in (*(ROOT / "dags").glob("*.py"), *(ROOT / "scripts" / "dags").glob("*.py")):
        shutil.copy(file, copies)
    release = copies / "firmware_release.py"
    text, count = re.subn(
        r"(?m)^LEAST_BAKE_MINUTES = \d+$", "LEAST_BAKE_MINUTES = 0", release.read_text()
    )
    assert count == 1
    release.write_text(text)
    return copies


class AirflowApi:
    """Airflow's public API, as whoever opens the page uses it."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/api/v2"
        self._session = requests.Session()
        token = self._session.get(f"{url}/auth/token", timeout=PATIENCE).json()["access_token"]
        self._session.headers["Authorization"] = f"Bearer {token}"

    def call(self, method: str, path: str, **body: Any) -> None:
        """A change that may be asked for twice, as soon as Airflow has parsed the DAG for it."""
        began = time.monotonic()
        while True:
            try:
                answer = self._session.request(method, f"{self._url}/{path}", json=body, timeout=60)
                if answer.ok or answer.status_code == 409:
                    return
                said = f"HTTP {answer.status_code}: {answer.text[:300]}"
                passes = answer.status_code == 404 or answer.status_code >= 500
            except requests.RequestException as error:
                said, passes = str(error)[:300], True
            if not passes or time.monotonic() - began > PATIENCE:
                raise WorkbenchError(f"{method} {path}: {said}")
            time.sleep(1)

    def unpause(self, dag_id: str) -> None:
        self.call("PATCH", f"dags/{dag_id}", is_paused=False)

    def start(self, dag_id: str, run_id: str, **conf: Any) -> None:
        """Start a run; 409: the call before has started it, and its answer was lost."""
        path = f"dags/{dag_id}/dagRuns"
        self.call("POST", path, dag_run_id=run_id, logical_date=None, conf=conf)


def begin_rollouts(bench: Workbench, url: str) -> None:
    """Begin everything that the page shows. The bad rollout begins last."""
    airflow = AirflowApi(url)
    for dag_id in DAGS:
        airflow.unpause(dag_id)
    with connect(bench) as hook:

        def create(name: str) -> str:
            task = hook.create_batch_task(
                task_name=name,
                task_type="firmwareUpgrade",
                group_ids=[GROUPS[name]],
                document={"package_ids": [PACKAGES[name]]},
            )
            return str(task.task_id)

        airflow.start("guard_on_a_hung_worker", "cameras", batch_task_id=create("cameras"))
        airflow.start(
            "firmware_release",
            "meters",
            package_id=PACKAGES["meters"],
            group_ids=[GROUPS["meters"]],
            waves="10%, 40%, 100%",
            bake_minutes=0.05,
            approval="before every wave",
        )
        airflow.start("guard_one_rollout", "lamps", batch_task_id=create("lamps"))
        airflow.start("guard_one_rollout", "thermostats", batch_task_id=create("thermostats"))
