"""One task of a release in a process of its own, for ``bench_release_scale.py``.

What Airflow hands from task to task (XComs, notes, deferrals) is in one SQLite file, and ids are in
files; nothing is in memory. Time passes faster than it does, here as on the emulator.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import resource
import sqlite3
import sys
import time
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

DAG_ID, RUN_ID = "release_at_scale", "run_1"
PACKAGE, PRODUCT = "a1b2c3d4e5f60718293a4b5c", "64f0c1d2e3a4b5c6d7e8f900"
RULES = (
    '[{"rule": "SequentialFailureTest", "tolerated_rate": 0.02, "false_alarm": 0.005}, '
    '{"rule": "Overdue", "after_seconds": 14400, "tolerated_rate": 0.02, "false_alarm": 0.005}]'
)
#: The modules in which a release waits, or asks what time it is.
_ROOMS = ("operators.release", "release", "rollout_guard", "triggers", "waiting", "sensors")


class Kept:
    """What outlives a task: rows by table, task and key, as JSON."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, timeout=60, check_same_thread=False)
        self._db.execute("pragma synchronous = off")
        self._db.execute(
            "create table if not exists kept (kind text, task_id text, key text, value text, "
            "primary key (kind, task_id, key))"
        )

    def put(self, kind: str, task_id: str, key: str, value: Any) -> None:
        """Keep a value."""
        row = (kind, task_id, key, json.dumps(value))
        self._db.execute("insert or replace into kept values (?, ?, ?, ?)", row)

    def get(self, kind: str, task_id: str, key: str) -> Any:
        """A value; None: there is none."""
        row = self._db.execute(
            "select value from kept where kind = ? and task_id = ? and key = ?",
            (kind, task_id, key),
        ).fetchone()
        return None if row is None else json.loads(row[0])

    def delete(self, kind: str, task_id: str, key: str) -> None:
        """Forget a value."""
        self._db.execute(
            "delete from kept where kind = ? and task_id = ? and key = ?", (kind, task_id, key)
        )

    def sizes(self, kind: str) -> list[tuple[str, int]]:
        """How many bytes each value of a kind has, the largest first."""
        return self._db.execute(
            "select task_id || '.' || key, length(value) from kept where kind = ? order by 2 desc",
            (kind,),
        ).fetchall()

    # --- in the place of Airflow's XCom -----------------------------------------------------------

    def set(self, key: str, value: Any, *, task_id: str, **_: Any) -> None:
        """Keep any task's XCom."""
        self.put("xcom", task_id, key, value)

    def get_one(self, *, key: str, task_id: str, **_: Any) -> Any:
        """Any task's XCom."""
        return self.get("xcom", task_id, key)


class TaskInstance:
    """A running task instance as far as the operators look at it."""

    dag_id, run_id, map_index, try_number = DAG_ID, RUN_ID, -1, 1
    task: Any = None

    def __init__(self, kept: Kept, task_id: str) -> None:
        self._kept = kept
        self.task_id = task_id

    def xcom_push(self, key: str, value: Any) -> None:
        """Keep an XCom of its own."""
        self._kept.put("xcom", self.task_id, key, value)

    def xcom_pull(self, task_ids: Any, key: str = "return_value", **_: Any) -> Any:
        """An XCom that a task has left."""
        return self._kept.get("xcom", task_ids, key)


class Notes:
    """Airflow's task state store of one task."""

    def __init__(self, kept: Kept, task_id: str) -> None:
        self._kept, self._task_id = kept, task_id

    def get(self, key: str, default: Any = None) -> Any:
        """A note."""
        found = self._kept.get("note", self._task_id, key)
        return default if found is None else found

    def set(self, key: str, value: Any) -> None:
        """Keep a note."""
        self._kept.put("note", self._task_id, key, value)

    def delete(self, key: str) -> None:
        """Forget a note."""
        self._kept.delete("note", self._task_id, key)


class Variables:
    """In the place of Airflow's ``Variable``."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept

    def get(self, name: str, default: Any = None) -> Any:
        """A Variable's text."""
        found = self._kept.get("variable", "", name)
        return default if found is None else found

    def set(self, name: str, text: str, **_: Any) -> None:
        """Keep a Variable."""
        self._kept.put("variable", "", name, text)

    def delete(self, name: str) -> None:
        """Forget a Variable."""
        self._kept.delete("variable", "", name)


class FastTime:
    """In the place of ``time``: it passes ``speed`` times as fast.

    :param real: a moment in seconds since 1970
    :param virtual: which moment that is on the emulator
    """

    def __init__(self, real: float, virtual: float, speed: float) -> None:
        self._real, self._virtual, self._speed = real, virtual, speed

    def __getattr__(self, name: str) -> Any:
        """Everything else of it."""
        return getattr(time, name)

    def time(self) -> float:
        """The moment on the emulator."""
        return self._virtual + (time.time() - self._real) * self._speed

    monotonic = time

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        time.sleep(max(0.0, seconds) / self._speed)


class FastAsync:
    """In the place of ``asyncio``, for those that sleep."""

    def __init__(self, speed: float) -> None:
        self._speed = speed

    def __getattr__(self, name: str) -> Any:
        """Everything else of it."""
        return getattr(asyncio, name)

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        await asyncio.sleep(max(0.0, seconds) / self._speed)


def let_time_fly(fast: FastTime, speed: float) -> None:
    """Put fast time into every module of a release."""
    import iotda_provider

    folder = Path(iotda_provider.__file__).parent
    for room in _ROOMS:
        for file in sorted((folder / room.replace(".", "/")).glob("*.py")):
            if file.stem == "approval":
                continue
            module: Any = importlib.import_module(f"iotda_provider.{room}.{file.stem}")
            if getattr(module, "time", None) is time:
                module.time = fast
            if getattr(module, "asyncio", None) is asyncio:
                module.asyncio = FastAsync(speed)


def release_dag(run: dict[str, Any]) -> Any:
    """The release as a user writes it."""
    from airflow.providers.common.compat.sdk import DAG

    from iotda_provider.operators.release import staged_rollout
    from iotda_provider.operators.release.at_rest import WaitUntilAtRestOperator
    from iotda_provider.operators.release.check import CheckReleaseOperator
    from iotda_provider.operators.release.reconcile import ReconcileReleaseOperator

    common: dict[str, Any] = {"manifest_path": run["manifest_path"]}
    with DAG(DAG_ID, schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)) as dag:
        check = CheckReleaseOperator(
            task_id="check",
            package_id=PACKAGE,
            group_ids=run["group_ids"],
            online_within=run["online_within"],
            waves=run["waves"],
            rules=RULES,
            gate=0.05,
            **common,
        )
        rollout = staged_rollout(
            "rollout",
            devices="{{ ti.xcom_pull('check', key='targets') }}",
            late="{{ ti.xcom_pull('check', key='late') }}",
            versions="{{ ti.xcom_pull('check', key='versions') | tojson }}",
            task_type="firmwareUpgrade",
            document={"package_ids": [PACKAGE]},
            group_ids=run["group_ids"],
            rules=RULES,
            waves=run["waves"],
            gate=0.05,
            bake_time=300,
            wave_timeout=12 * 3600 * 10,
            poll_interval=10,
            deferrable=run["deferrable"],
            **common,
        )
        at_rest = WaitUntilAtRestOperator(
            task_id="at_rest",
            batch_task_id="{{ ti.xcom_pull('rollout.outcome')['batch_task_ids'] }}",
            grace=14400,
            exposed="{{ ti.xcom_pull('rollout.outcome')['exposed'] }}",
            deferrable=run["deferrable"],
        )
        reconcile = ReconcileReleaseOperator(
            task_id="reconcile",
            version="2.0.0",
            product_id=PRODUCT,
            outcome="{{ ti.xcom_pull('rollout.outcome') | tojson }}",
            plan_task_id="rollout.plan",
            gate=0.05,
            report_path=run["manifest_path"] and f"{run['manifest_path']}.report",
        )
        check >> rollout.group >> at_rest >> reconcile
    return dag


def execute(kept: Kept, run: dict[str, Any], task_id: str, fast: FastTime, *, resume: bool) -> str:
    """Run a task; ``done``, or ``deferred``."""
    from airflow.providers.common.compat.sdk import TaskDeferred

    operator = release_dag(run).get_task(task_id)
    now = datetime.fromtimestamp(fast.time(), timezone.utc)
    ti = TaskInstance(kept, task_id)
    ti.task = operator
    context: Any = {
        "ti": ti,
        "dag": operator.dag,
        "run_id": RUN_ID,
        "dag_run": SimpleNamespace(run_after=now - timedelta(hours=1), run_id=RUN_ID),
        "task_state_store": Notes(kept, task_id),
        "params": {},
    }
    operator.render_template_fields(context)
    try:
        if resume:
            left = kept.get("deferral", task_id, "deferral")
            event = kept.get("deferral", task_id, "event")
            kwargs = {**left["kwargs"], "event": event}
            result = operator.resume_execution(left["method"], kwargs, context)
        else:
            result = operator.execute(context)
    except TaskDeferred as deferral:
        classpath, arguments = deferral.trigger.serialize()
        kwargs = deferral.kwargs or {}
        kept.put(
            "deferral",
            task_id,
            "deferral",
            {
                "trigger": classpath,
                "arguments": arguments,
                "method": deferral.method_name,
                "kwargs": kwargs,
            },
        )
        return "deferred"
    except Exception as error:
        if "Skip" not in type(error).__name__:  # how a branch of Airflow 3 ends
            raise
        return "done"
    if result is not None:
        ti.xcom_push("return_value", result)
    return "done"


def fire(kept: Kept, task_id: str) -> str:
    """Run the trigger of a deferred task, as a triggerer does."""
    left = kept.get("deferral", task_id, "deferral")
    module, _, name = left["trigger"].rpartition(".")
    trigger = getattr(importlib.import_module(module), name)(**left["arguments"])

    async def first() -> Any:
        async for event in trigger.run():
            return event.payload
        raise RuntimeError("the trigger ended without an event")

    kept.put("deferral", task_id, "event", asyncio.run(first()))
    return "fired"


def main() -> int:
    """Run one task, and print what it took as the last line."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("home", type=Path)
    arguments.add_argument("task_id")
    arguments.add_argument("how", choices=("execute", "fire", "resume"))
    options = arguments.parse_args()
    run = json.loads((options.home / "run.json").read_text())
    os.environ["AIRFLOW_CONN_IOTDA_DEFAULT"] = json.dumps(run["connection"])
    kept = Kept(options.home / "airflow.db")
    fast = FastTime(run["real"], run["virtual"], run["speed"])
    let_time_fly(fast, run["speed"])
    from iotda_provider.airflow_support import task_notes
    from iotda_provider.release import storage, under_way
    from iotda_provider.rollout_guard.memory_store import TriggererMemoryStore

    made: Any = TriggererMemoryStore
    made._set_xcom = lambda state, key, value: kept.put("xcom", options.task_id, key, value)
    made._get_xcom = lambda state, key: kept.get("xcom", options.task_id, key)
    storage._xcom = lambda: kept
    task_notes.variables = lambda: Variables(kept)
    under_way.is_under_way = lambda dag_id, run_id: True
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.time()
    if options.how == "fire":
        ended = fire(kept, options.task_id)
    else:
        ended = execute(kept, run, options.task_id, fast, resume=options.how == "resume")
    with suppress(BrokenPipeError):
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(
            json.dumps(
                {
                    "ended": ended,
                    "peak": used.ru_maxrss * 1024,
                    "before": before * 1024,
                    "seconds": time.time() - began,
                    "cpu": used.ru_utime + used.ru_stime,
                }
            )
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
