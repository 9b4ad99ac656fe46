"""The right to stop is rehearsed when a guard begins, without stopping anything."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from iotda_provider.exceptions import (
    IoTDAAuthError,
    IoTDANotFoundError,
    IoTDAServerError,
    IoTDATransportError,
)
from iotda_provider.rollout_guard.memory_store import NoMemoryStore
from iotda_provider.rollout_guard.triggerer import TriggererGuardIO


def watched(platform: Any, guard: Any, status: str = "Processing", **plan: Any) -> Any:
    platform.show(platform.task(status, processing=100))
    return guard(**{"stop_on_breach": True, "rehearse_stop": True, **plan})


def test_it_is_rehearsed_once_after_the_first_look(platform: Any, guard: Any) -> None:
    begun = watched(platform, guard)

    begun.poll()
    begun.poll(10)

    assert platform.asked == ["read", f"rehearse {platform.task_id}", "read"]
    assert not platform.told


def test_a_guard_that_may_not_stop_tells_people_at_once_and_goes_on(
    platform: Any, guard: Any
) -> None:
    platform.rehearsal = IoTDAAuthError(403, "APIGW.0302", "not allowed")
    begun = watched(platform, guard)

    assert begun.poll() is None

    assert [told.kind for told in platform.told] == ["may_not_stop"]
    assert "can NOT be stopped" in platform.told[0].sentence
    platform.show(platform.task(fail=5, processing=95))
    begun.poll(10)
    assert f"stop {platform.task_id}" in platform.asked


@pytest.mark.parametrize(
    "answer",
    [
        IoTDANotFoundError(404, "APIGW.0101", "no such API"),
        IoTDAServerError(503, None, "later"),
        IoTDATransportError("unreachable"),
        IoTDAAuthError(401, "APIGW.0301", "bad signature"),
    ],
)
def test_after_any_other_answer_it_is_asked_again_ever_less_often(
    platform: Any, guard: Any, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    platform.rehearsal = answer
    begun = watched(platform, guard)
    rehearsal = f"rehearse {platform.task_id}"

    asked_at = []
    for minute in range(100):
        before = platform.asked.count(rehearsal)
        assert begun.poll(60 if minute else 0) is None
        asked_at += [minute] * (platform.asked.count(rehearsal) - before)
    assert asked_at == [0, 1, 3, 7, 15, 31, 61, 91]
    assert not platform.told
    assert caplog.text.count("can't find out") == 1

    platform.rehearsal = IoTDAAuthError(403, "APIGW.0302", "not allowed")
    for _ in range(60):
        begun.poll(60)
    assert platform.asked.count(rehearsal) == 9
    assert [told.kind for told in platform.told] == ["may_not_stop"]


def test_the_pause_begins_when_a_rehearsal_without_an_answer_ends(
    platform: Any, guard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, began_at = watched(platform, guard), []

    async def hang(batch_task_id: str) -> None:
        began_at.append(platform.now - platform.start)
        platform.now += 30
        raise IoTDATransportError("no answer")

    monkeypatch.setattr(platform, "rehearse_stop", hang)
    for after in [0, *[10] * 30]:
        begun.poll(after)

    assert began_at == [0, 90, 240]


async def test_in_a_triggerer_too_it_waits_for_its_turn_of_the_rate_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop, passed = asyncio.get_running_loop(), [0.0]
    time = loop.time
    monkeypatch.setattr(loop, "time", lambda: time() + passed[0])

    class Hook:
        async def rehearse_stop(self, batch_task_id: str) -> None:
            passed[0] = 60.0  # in the queue
            await asyncio.sleep(0.01)
            raise IoTDAAuthError(403)

    hook: Any = Hook()
    io = TriggererGuardIO(hook, NoMemoryStore(), logging.getLogger("test"))

    with pytest.raises(IoTDAAuthError):
        await io.rehearse_stop("a")


@pytest.mark.parametrize("plan", [{"rehearse_stop": False}, {"status": "Success"}])
def test_where_nothing_would_be_stopped_nothing_is_rehearsed(
    platform: Any, guard: Any, plan: Any
) -> None:
    watched(platform, guard, **plan).poll()
    assert platform.asked == ["read"]
