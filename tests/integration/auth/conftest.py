"""An emulated IoTDA with its IAM, a connection to it of every kind, and both hooks to use it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from iotda_provider.emulator import Emulator
from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.hooks.iotda_async import IoTDAAsyncHook

TASK = "0123456789abcdef01234567"


@pytest.fixture
def start() -> Iterator[Callable[..., Emulator]]:
    """Starts an emulator: ``start(iam={...}, switches={...}, security_token=...)``."""
    with ExitStack() as stack:

        def begin(*, iam: dict | None = None, switches: dict | None = None, **options) -> Emulator:
            scenario = {
                "devices": 5,
                "batch_tasks": [{"task_id": TASK}],
                "iam": iam or {},
                "switches": switches or {},
            }
            return stack.enter_context(Emulator(scenario, seed=1, speed=0, **options))

        yield begin


@pytest.fixture
def connect(monkeypatch, tmp_path: Path) -> Callable[..., None]:
    """Makes the default connection lead to an emulator: ``connect(emulator, "token", ...)``.

    More keywords change the connection's fields, or its Extra's where it has no such field.
    """

    def make(emulator: Emulator, auth_type: str, **changes: Any) -> None:
        connection = connection_to(emulator, auth_type, tmp_path)
        for name, value in changes.items():
            into = connection if name in ("host", "login", "password") else connection["extra"]
            into[name] = value
        monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(connection))

    return make


def connection_to(emulator: Emulator, auth_type: str, folder: Path) -> dict[str, Any]:
    """What a user writes down, for the emulator in place of Huawei Cloud."""
    connection = emulator.airflow_connection
    extra = connection["extra"] = {**connection["extra"], "auth_type": auth_type}
    extra["max_attempts"] = 1
    iam = emulator.instance.iam.settings
    if auth_type == "aksk":
        return connection
    del connection["login"], connection["password"]
    if auth_type == "token":
        connection |= {"login": iam.user, "password": iam.password}
        extra |= {"domain_name": iam.domain, "iam_endpoint": emulator.url}
    if auth_type == "agency":
        extra["metadata_endpoint"] = emulator.url
    if auth_type == "federation":
        file = folder / "id_token"
        file.write_text(iam.id_token)
        extra |= {
            "idp_id": iam.idp_id,
            "id_token_file": str(file),
            "iam_endpoint": emulator.url,
        }
    return connection


class Hooks:
    """Each method through a new hook of one kind, as every task and trigger makes its own."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def call(self, method: str, *arguments: Any) -> Any:
        if self.kind == "blocking":
            with IoTDAHook() as hook:
                return getattr(hook, method)(*arguments)

        async def ask() -> Any:
            async with IoTDAAsyncHook() as hook:
                return await getattr(hook, method)(*arguments)

        return asyncio.run(ask())

    def read(self) -> str:
        """The id of the task that there is, by one call."""
        return self.call("get_batch_task", TASK).task_id


@pytest.fixture(params=["blocking", "asynchronous"])
def hooks(request: pytest.FixtureRequest) -> Hooks:
    return Hooks(request.param)
