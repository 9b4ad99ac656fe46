"""Rollouts on the emulated platform, good ones and bad ones, and what became of them."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any

import requests
from tests.distributed.cluster import Cluster
from tests.system.restarts.emulator_process import EmulatorProcess

from iotda_provider.airflow_support.guard_runs import VARIABLE, guard_run_id
from iotda_provider.hooks.iotda import IoTDAHook

#: The bad devices of a stage fail so many seconds, times the stage's number, after they began.
_STAGE = 5000.0
#: Devices of a rollout that go on running, and those of a bad one that fail besides.
_HEALTHY, _BAD = 5, 15
_STAGES = 4
_MOST_BAD = 8  # of a stage
_GUARD = "guard_one_rollout"


class Rollouts:
    """Batch tasks whose devices run for as long as a test wants, or fail when it says so.

    :param emulator: the platform, at speed 1
    """

    SCENARIO: dict[str, Any] = {
        "devices": 1200 * _HEALTHY + _STAGES * _MOST_BAD * _BAD,
        "success_after": 1e9,
        "segments": [
            {
                "name": f"bad-{stage}",
                "count": _MOST_BAD * _BAD,
                "failure_rate": 1.0,
                "failure_after": stage * _STAGE,
            }
            for stage in range(1, _STAGES + 1)
        ],
        "switches": {"stop_after": 2},
    }

    def __init__(self, emulator: EmulatorProcess) -> None:
        self.emulator = emulator
        self.healthy: list[str] = []
        self.bad: dict[int, list[str]] = {}
        self.failed: list[str] = []
        self.created: dict[str, float] = {}  # by batch task, in seconds since the epoch
        self._advanced = 0.0
        self._zero = time.monotonic()
        self._begun: dict[int, float] = {}  # by stage, in virtual time
        self._numbers = itertools.count()
        self._stops: dict[int, dict[str, Any]] = {}  # the platform forgets old calls
        self._closing = threading.Event()
        self._notes = threading.Thread(target=self._note_stops, name="stops", daemon=True)
        self._notes.start()

    def close(self) -> None:
        """End noting stops."""
        self._closing.set()
        self._notes.join()

    def _note_stops(self) -> None:
        while not self._closing.wait(5.0):
            with contextlib.suppress(requests.ConnectionError):
                self._read_stops()

    def _read_stops(self) -> list[dict[str, Any]]:
        """Every stop that was ever asked for."""
        for entry in self.emulator.journal("stop_batch_task"):
            self._stops[entry["n"]] = entry
        return list(self._stops.values())

    def begin(self, healthy: int, *, bad: int = 0, stage: int = 1) -> None:
        """Let so many more rollouts run.

        :param bad: how many of them fail on most devices once ``fail(stage)`` is called
        """
        ids = self.bad.setdefault(stage, [])
        with IoTDAHook() as hook:
            for _ in range(healthy):
                self.healthy.append(self._create(hook))
            for _ in range(bad):
                first = ((stage - 1) * _MOST_BAD + len(ids)) * _BAD
                ids.append(self._create(hook, range(first, first + _BAD)))
        if bad:
            self._begun[stage] = self._now()

    def _create(self, hook: IoTDAHook, bad: Iterable[int] = ()) -> str:
        number = next(self._numbers)
        first = _STAGES * _MOST_BAD * _BAD + number * _HEALTHY
        devices = [*bad, *range(first, first + _HEALTHY)]
        now = time.time()
        task_id = hook.create_batch_task(
            task_name=f"rollout_{number}",
            task_type="firmwareUpgrade",
            targets=[f"device-{device:05}" for device in devices],
            document={"package_ids": ["32822e5744a45ede319d2c50"]},
        ).task_id
        self.created[task_id] = now
        return task_id

    @property
    def all(self) -> list[str]:
        return [*self.healthy, *itertools.chain(*self.bad.values())]

    def fail(self, stage: int) -> list[str]:
        """The bad devices of a stage fail now; the ids of its bad rollouts."""
        to_go = self._begun[stage] + stage * _STAGE + 5.0 - self._now()
        self.emulator.advance(to_go)
        self._advanced += to_go
        self.failed += self.bad[stage]
        return self.bad[stage]

    def _now(self) -> float:
        return self._advanced + time.monotonic() - self._zero

    def stops(self, batch_task_id: str) -> list[float]:
        """When each stop of the whole rollout that the platform has taken was asked for.

        Seconds since the epoch, whole ones; of stops after the last :meth:`fail`.
        """
        return [
            _seconds(entry["time"]) - self._advanced
            for entry in self._read_stops()
            if f"/{batch_task_id}" in entry["path"]
            and entry["body"] in ({}, None)
            and (entry["status"] or 500) < 300
        ]

    # --- in Airflow -------------------------------------------------------------------------------

    @staticmethod
    def start_guards(cluster: Cluster, batch_task_ids: list[str]) -> None:
        """Start a guard run for each of these rollouts, by the id that its own run has."""
        # Airflow's API shows no such thing.
        secret = cluster.command("variables", "get", VARIABLE).splitlines()[-1].strip()
        for batch_task_id in batch_task_ids:
            body = {
                "dag_run_id": guard_run_id(secret, batch_task_id),
                "logical_date": None,
                "conf": {"batch_task_id": batch_task_id},
            }
            cluster.call("POST", f"dags/{_GUARD}/dagRuns", body)

    def defer_guards(self, cluster: Cluster, batch_task_ids: list[str]) -> None:
        """Start such a guard run for each, and let its guard wait at once: no worker begins it.

        One guard at least must be deferred already.
        """
        cluster.call("PATCH", f"dags/{_GUARD}", {"is_paused": True})
        self.start_guards(cluster, batch_task_ids)
        subprocess.run(
            [sys.executable, "-m", "tests.distributed.defer_guards"],
            env=cluster.environment,
            check=True,
        )
        cluster.unpause(_GUARD)

    @staticmethod
    def guarded(cluster: Cluster) -> dict[str, int | None]:
        """The batch tasks that a deferred guard watches, and which triggerer has it."""
        return dict(
            cluster.query(
                "select r.conf ->> 'batch_task_id', t.triggerer_id from dag_run r "
                "join task_instance i on i.dag_id = r.dag_id and i.run_id = r.run_id "
                "join trigger t on t.id = i.trigger_id "
                "where r.dag_id = %s and i.task_id = 'guard' and i.state = 'deferred'",
                _GUARD,
            )
        )

    @staticmethod
    def guarded_since(cluster: Cluster, batch_task_id: str) -> float:
        """When this rollout's guard was deferred, in seconds since the epoch."""
        ((moment,),) = cluster.query(
            "select extract(epoch from t.created_date) from dag_run r "
            "join task_instance i on i.dag_id = r.dag_id and i.run_id = r.run_id "
            "join trigger t on t.id = i.trigger_id "
            "where r.dag_id = %s and r.conf ->> 'batch_task_id' = %s and i.task_id = 'guard'",
            *(_GUARD, batch_task_id),
        )
        return float(moment)

    @staticmethod
    def runs(cluster: Cluster, batch_task_ids: list[str]) -> dict[str, str]:
        """The state of the guard run of each of these rollouts."""
        rows = cluster.query(
            "select conf ->> 'batch_task_id', state from dag_run where dag_id = %s", _GUARD
        )
        states = dict(rows)
        assert len(states) == len(rows), "a rollout has got a second guard run"
        return {key: states.get(key, "none") for key in batch_task_ids}

    @staticmethod
    def tasks(cluster: Cluster, batch_task_id: str) -> dict[str, str]:
        """The state of each task of a rollout's guard run."""
        return dict(
            cluster.query(
                "select i.task_id, coalesce(i.state, 'none') from task_instance i "
                "join dag_run r on r.dag_id = i.dag_id and r.run_id = i.run_id "
                "where r.dag_id = %s and r.conf ->> 'batch_task_id' = %s",
                *(_GUARD, batch_task_id),
            )
        )

    @staticmethod
    def xcom(cluster: Cluster, batch_task_id: str, task_id: str, key: str = "return_value") -> Any:
        """What a task of a rollout's guard run has pushed; None: nothing."""
        found = cluster.query(
            "select x.value from xcom x "
            "join dag_run r on r.dag_id = x.dag_id and r.run_id = x.run_id "
            "where r.dag_id = %s and r.conf ->> 'batch_task_id' = %s "
            "and x.task_id = %s and x.key = %s",
            *(_GUARD, batch_task_id, task_id, key),
        )
        # Airflow has put JSON into JSON.
        value = found[0][0] if found else None
        return json.loads(value) if isinstance(value, str) else value

    def saw_the_breach(self, cluster: Cluster, batch_task_id: str) -> float:
        """When the look was that saw a rule broken, by the guard's own account."""
        trail = self.xcom(cluster, batch_task_id, "guard", "audit")
        breach = next(record for record in trail if record.get("decision") == "breach")
        return datetime.fromisoformat(breach["time"].replace("Z", "+00:00")).timestamp()


def _seconds(text: str) -> float:
    moment = datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
    return moment.timestamp()
