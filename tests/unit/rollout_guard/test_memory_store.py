"""A trigger's requests to Airflow end, even if the trigger ends before them."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from iotda_provider.rollout_guard import memory_store
from iotda_provider.rollout_guard.memory_store import TriggererMemoryStore

OWNER = {"dag_id": "dag", "run_id": "run", "task_id": "guard", "map_index": -1}


class Supervisor:
    """Replaces Airflow 3's Variables: each call waits for its answer on the event loop."""

    def __init__(self) -> None:
        self.asked, self.may_answer = asyncio.Event(), asyncio.Event()
        self.answered = asyncio.Event()

    def set(self, *_: Any, **__: Any) -> None:
        async_to_sync(self.asend)()

    async def asend(self) -> None:
        self.asked.set()
        await self.may_answer.wait()
        self.answered.set()


@pytest.mark.parametrize("end", ["cancelled", "too slow"])
async def test_a_conversation_is_never_broken_off(
    end: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Before Airflow 3.3 its answer would be taken for the answer of the next request."""
    supervisor = Supervisor()
    monkeypatch.setattr("iotda_provider.airflow_support.task_notes.variables", lambda: supervisor)
    monkeypatch.setattr(memory_store, "SECONDS_BEFORE_STOP", 60 if end == "cancelled" else 0.5)
    state = TriggererMemoryStore(OWNER, logging.getLogger("test"))

    writing = asyncio.ensure_future(state.remember({"looks": 1}))
    await asyncio.wait_for(supervisor.asked.wait(), 60)
    if end == "cancelled":
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
    else:
        assert await writing is False
        assert "could not be written" in caplog.text
    supervisor.may_answer.set()

    await asyncio.wait_for(supervisor.answered.wait(), 60)
