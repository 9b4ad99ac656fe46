"""The XCom ``live`` of a guard in a triggerer: no look waits for it."""

from __future__ import annotations

import asyncio
import logging
import time
from types import SimpleNamespace
from typing import Any

import pytest

from iotda_provider.guards import MaxFailures
from iotda_provider.rollout_guard import GuardPlan, Memory, Watch
from iotda_provider.rollout_guard.live_record import WRITES_PER_SECOND
from iotda_provider.rollout_guard.outcome import completed
from iotda_provider.transport.rate_limit import RateLimit
from iotda_provider.triggers import live_in_triggerer
from iotda_provider.triggers.live_in_triggerer import LiveInTriggerer

IDS = ("0123456789abcdef01234567",)
PLAN = GuardPlan(batch_task_ids=IDS, rules=(MaxFailures(5),))


class Kept:
    """A store of XComs that answers once the test lets it."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.pushed: list[dict[str, Any]] = []

    async def push(self, key: str, value: Any) -> bool:
        await self.answers.wait()
        self.pushed.append(value)
        return True


async def test_a_record_is_written_once_however_long_it_takes_and_the_last_one_is_last() -> None:
    kept: Any = Kept()
    watch = Watch(PLAN, Memory(IDS), logging.getLogger("guard"), clock=time.time)
    async with LiveInTriggerer(watch, kept) as live:
        for _ in range(5):
            live.show()
            await asyncio.sleep(0)
        assert not kept.pushed

        kept.answers.set()
        await live.settle(completed(PLAN, None, []))

    assert kept.pushed[-1]["verdict"] == "completed"
    assert len(kept.pushed) <= 2


async def test_guards_that_begin_together_do_not_write_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit = RateLimit(WRITES_PER_SECOND, clock=lambda: 0.0)
    due: list[float] = []

    def reserve() -> float:
        due.append(limit.reserve())
        return due[-1]

    monkeypatch.setattr(live_in_triggerer, "_routine", SimpleNamespace(reserve=reserve))
    kept: Any = Kept()
    log = logging.getLogger("guard")
    watches = [Watch(PLAN, Memory(IDS), log, clock=time.time) for _ in range(50)]
    guards = [LiveInTriggerer(watch, kept) for watch in watches]
    for guard in guards:
        await guard.__aenter__()
    for guard in guards:
        guard.show()
    await asyncio.sleep(0)  # their tasks begin
    for guard in guards:
        await guard.__aexit__(None, None, None)

    assert due == pytest.approx([n / 5 for n in range(50)]), "five a second"
