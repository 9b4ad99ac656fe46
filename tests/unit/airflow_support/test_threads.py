"""Blocking calls from an event loop: one that hangs holds up nobody else."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from iotda_provider.airflow_support import threads
from iotda_provider.airflow_support.threads import in_thread, one_at_a_time
from iotda_provider.rollout_guard.memory_store import TriggererMemoryStore
from iotda_provider.triggers.shared_reads import SharedReads

OWNER = {"dag_id": "dag", "run_id": "run", "task_id": "guard", "map_index": -1}
whose = contextvars.ContextVar("whose", default="nobody's")


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """What hanging calls wait for."""
    event = threading.Event()
    yield event
    event.set()


async def test_what_hangs_holds_one_thread_however_often_it_is_asked(
    released: threading.Event,
) -> None:
    before = set(threading.enumerate())

    for _ in range(20):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(one_at_a_time("a path", released.wait), 0.02)

    assert len(set(threading.enumerate()) - before) == 1
    assert await one_at_a_time("another path", lambda: "read") == "read"


@pytest.mark.parametrize("is_loaded", [False, True])
async def test_a_cancelled_call_runs_to_its_end_even_as_the_first_one_of_a_process(
    is_loaded: bool, released: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading, ended = threading.Event(), threading.Event()

    def load(name: str) -> None:
        loading.set()
        released.wait()

    def work() -> None:
        loading.set()
        released.wait()
        ended.set()

    monkeypatch.setattr(threads, "_asgiref_is_loaded", is_loaded)
    monkeypatch.setattr(threads, "import_module", load)
    call = asyncio.ensure_future(in_thread(work))
    assert await asyncio.to_thread(loading.wait, 60)

    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    released.set()

    assert await asyncio.to_thread(ended.wait, 60)


async def test_a_hundred_paths_that_hang_keep_nobody_from_a_thread(
    released: threading.Event,
) -> None:
    hanging = [asyncio.ensure_future(one_at_a_time(number, released.wait)) for number in range(100)]

    assert await asyncio.wait_for(in_thread(lambda: "kept"), 60) == "kept"
    assert await asyncio.wait_for(asyncio.to_thread(lambda: "looked up"), 60) == "looked up"
    released.set()
    assert all(await asyncio.gather(*hanging))


async def test_a_memory_that_can_not_be_kept_holds_up_a_stop_for_two_seconds_at_most(
    released: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Any] = []
    begun = threading.Event()

    def hang(state: TriggererMemoryStore, memory: Any) -> None:
        begun.set()
        released.wait()
        written.append(memory)

    monkeypatch.setattr(TriggererMemoryStore, "_set_memory", hang)
    monkeypatch.setattr("iotda_provider.rollout_guard.memory_store.SECONDS_BEFORE_STOP", 0.05)
    state = TriggererMemoryStore(OWNER, logging.getLogger("test"))
    assert await state.remember({"looks": 1}, routine=True)
    assert await in_thread(begun.wait, 60)

    assert not await state.remember({"looks": 2})
    assert not await state.remember({"looks": 3, "intent": {}})
    released.set()
    assert state._writer is not None
    assert await state._writer

    # The older is not written over the newer, and the one between is not written at all.
    assert written == [{"looks": 1}, {"looks": 3, "intent": {}}]


async def test_a_reading_for_all_guards_is_in_nobodys_context() -> None:
    seen: list[str] = []

    class Hook:
        async def get_batch_task(self, batch_task_id: str) -> Any:
            seen.append(whose.get())
            return type("Task", (), {"task_id": batch_task_id, "task_type": None, "status": None})()

        async def close(self) -> None: ...

    hook: Any = Hook()
    reads = SharedReads(hook)
    whose.set("the first guard's")

    await reads.read("a")

    assert seen == ["nobody's"]
    await reads.close()
