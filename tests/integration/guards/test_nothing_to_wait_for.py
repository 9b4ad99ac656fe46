"""Between a breach and its stop a guard in a triggerer waits for nothing but the platform."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from iotda_provider.guards import MaxFailures
from iotda_provider.hooks import iotda_async
from iotda_provider.triggers.guard_steps import OwnState

BAD = {"devices": 200, "failure_rate": 0.5, "failure_after": 60, "success_after": 600}


@pytest.fixture
def airflow_hangs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing that a trigger asks Airflow for is ever answered."""
    answered = threading.Event()
    monkeypatch.setattr("iotda_provider.triggers.guard_steps._WRITE_SECONDS", 0.1)
    monkeypatch.setattr("iotda_provider.triggers.guard_steps._PATIENT_SECONDS", 0.5)
    monkeypatch.setattr(OwnState, "_get_memories", lambda state: answered.wait())
    monkeypatch.setattr(OwnState, "_set_memory", lambda state, memory: answered.wait())
    yield
    answered.set()


@pytest.mark.parametrize("deferrable", ["triggerer"], indirect=True)
def test_a_stop_goes_out_where_airflow_hangs(fleet: Any, ti: Any, airflow_hangs: None) -> None:
    bad = fleet(BAD)

    result = bad.run(ti, stop_on_breach=True)["return_value"]

    assert (result["verdict"], result["stop"]["outcome"]) == ("breached", "stopped")
    assert len(bad.calls("stop_batch_task")) == 1


@pytest.mark.parametrize("deferrable", ["triggerer"], indirect=True)
def test_no_connection_is_looked_up_after_the_first_look(
    fleet: Any, ti: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = fleet(BAD)
    lookup, seen_before = iotda_async.get_async_connection, []

    async def counted(*args: Any, **kwargs: Any) -> Any:
        seen_before.append(len(bad.calls("show_batch_task")))
        return await lookup(*args, **kwargs)

    monkeypatch.setattr(iotda_async, "get_async_connection", counted)
    looks = len(bad.calls("show_batch_task"))

    result = bad.run(ti, stop_on_breach=True, rules=MaxFailures(40))

    assert result["return_value"]["stop"]["outcome"] == "stopped"
    assert len(seen_before) == 1
    assert seen_before[0] <= looks + 1  # the worker's own look, and none of the trigger's
