"""One try of a task in a process of its own, which may kill itself (SIGKILL) at one of its calls.

Run by ``runpy`` with ``SPEC`` set: ``operator`` (module and class), ``parameters``, ``connection``,
``try_number``, ``store`` (a file for what survives tries), ``has_store`` (whether that is a task
state store, as since Airflow 3.3, or Variables), ``out`` (a file for the outcome) and ``kill``:
``[number of the call, "before" | "during" | "after"]`` or None.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import requests

from iotda_provider.airflow_support import task_notes

#: What to do, handed in by whoever runs this file.
SPEC: dict[str, Any] = globals()["SPEC"]


class TaskInstance:
    dag_id, run_id, task_id, map_index = "dag", "run", "task", -1

    def __init__(self, try_number: int) -> None:
        self.try_number = try_number
        self.xcoms: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = json.loads(json.dumps(value))


class Store:
    """The task state store of Airflow 3.3, or Airflow's Variables, in a file."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def _read(self) -> dict[str, Any]:
        return dict(json.loads(self.path.read_text())) if self.path.exists() else {}

    def get(self, key: str, default: Any = None) -> Any:
        return self._read().get(key, default)

    def set(self, key: str, value: Any, description: str = "") -> None:
        self.path.write_text(json.dumps({**self._read(), key: value}))

    def delete(self, key: str) -> None:
        self.path.write_text(json.dumps({k: v for k, v in self._read().items() if k != key}))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(number: int, when: str) -> None:
    """Die at one of the calls to the platform."""
    send, calls = requests.Session.send, 0

    def sending(self: Any, request: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls != number:
            return send(self, request, **options)
        if when == "before":
            die()
        if when == "during":
            # The emulator has acted, and takes its time to answer.
            threading.Timer(0.2, die).start()
        answer = send(self, request, **options)
        _ = answer.content
        die()
        return answer

    requests.Session.send = sending  # type: ignore[method-assign]


def main() -> None:
    os.environ["AIRFLOW_CONN_IOTDA_DEFAULT"] = json.dumps(SPEC["connection"])
    if SPEC["kill"]:
        kill_at(*SPEC["kill"])
    module, name = SPEC["operator"]
    operator = getattr(importlib.import_module(module), name)(task_id="task", **SPEC["parameters"])
    ti = TaskInstance(SPEC["try_number"])
    context: dict[str, Any] = {"ti": ti}
    kept = Store(SPEC["store"])
    if SPEC["has_store"]:
        context["task_state_store"] = kept
    task_notes.variables = lambda: kept
    result = operator.execute(context)
    Path(SPEC["out"]).write_text(json.dumps({"result": result, "xcoms": ti.xcoms}))


main()
