"""Fixtures for tests of one part alone; what all tests share is in tests/conftest.py."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests_mock
from tests.airflow_values import as_xcom
from tests.variables import variables

__all__ = ["variables"]

#: The secrets of the connection below: no log line, XCom, repr or error may hold one.
SECRETS = ("canary-secret-key", "canary-security-token")
ENDPOINT = "https://iotda.cn-north-4.myhuaweicloud.com"
TASK_ID = "5c8f9e2d7a6b4c3d1e0f9a8b"


class ScriptedPlatform:
    """IoTDA with prepared answers; remembers what it was sent.

    An answer is the JSON of a 200, or arguments of ``requests_mock`` such as ``{"status_code": 500,
    "text": "..."}`` or ``{"exc": ...}``. The last one is given again and again.
    """

    task_id = TASK_ID

    def __init__(self, mocker: requests_mock.Mocker) -> None:
        self._mocker = mocker
        self._tasks = f"{ENDPOINT}/v5/iot/canary-project/batchtasks"

    def task(self, status: str = "Processing", **fields: Any) -> dict[str, Any]:
        """A task's description; what is no field of a task is one of its counts."""
        task = {"task_id": TASK_ID, "task_name": "canary", "task_type": "firmwareUpgrade"}
        task |= {name: fields.pop(name) for name in list(fields) if name.startswith("task_")}
        return {**task, "status": status, "task_progress": fields}

    def shows(self, *tasks: Any, of: str = TASK_ID) -> None:
        """Prepare the answers to reading the task, in turn."""
        answers = [{"batchtask": task} if "status" in task else task for task in tasks]
        self.answers("GET", f"/{of}", *answers)

    def stops(self, *answers: Any, of: str = TASK_ID) -> None:
        """Prepare the answers to stopping the task, in turn."""
        self.answers("POST", f"/{of}/stop", *answers)

    def answers(self, method: str, path: str, *answers: Any) -> None:
        """Prepare the answers to any other call below ``batchtasks``, in turn."""
        ours = {"status_code", "text", "exc", "headers", "json", "content", "body"}
        responses = [a if a and set(a) <= ours else {"json": a} for a in answers]
        self._mocker.register_uri(method, self._tasks + path, responses)

    @property
    def requests(self) -> list[Any]:
        """The requests it got."""
        return self._mocker.request_history

    @property
    def sent(self) -> list[str]:
        """The requests it got in short: ``GET <task>``, ``POST <task>/stop {"targets": ["a"]}``."""
        return [
            f"{request.method} {request.path.rsplit('/batchtasks', 1)[-1].lstrip('/')}"
            + (f" {json.dumps(request.json())}" if request.body else "")
            for request in self.requests
        ]


@pytest.fixture
def iotda(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The connection ``iotda_default``, and the platform behind it."""
    connection = {
        "conn_type": "iotda",
        "login": "canary-access-key",
        "password": SECRETS[0],
        "extra": {
            "region": "cn-north-4",
            "project_id": "canary-project",
            "security_token": SECRETS[1],
            "max_attempts": 1,
        },
    }
    monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(connection))
    with requests_mock.Mocker() as mocker:
        yield ScriptedPlatform(mocker)


@pytest.fixture
def logged(capsys: pytest.CaptureFixture[str]) -> Any:
    """What has been logged so far, as Airflow prints it."""
    seen: list[str] = []

    def log() -> str:
        seen.extend(capsys.readouterr())
        return "".join(seen)

    return log


class TaskInstance:
    """A running task instance as far as operators look at it."""

    def __init__(self) -> None:
        self.dag_id, self.run_id, self.task_id, self.map_index = "dag", "run", "task", -1
        self.id = "00000000-0000-0000-0000-000000000000"
        self.xcoms: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        """Keep what is pushed, as JSON as Airflow does."""
        self.xcoms[key] = as_xcom(value)


@pytest.fixture
def ti() -> TaskInstance:
    """The running task instance."""
    return TaskInstance()


@pytest.fixture
def run(ti: TaskInstance) -> Any:
    """Executes an operator as Airflow does; returns its XComs, with its result among them."""

    def execute(operator: Any) -> dict[str, Any]:
        value = operator.execute({"ti": ti})
        if value is not None:
            ti.xcom_push("return_value", value)
        return ti.xcoms

    return execute
