"""Each notifier has ten seconds, by a clock that these tests let run."""

from __future__ import annotations

import asyncio
import logging
import selectors
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from airflow.providers.common.compat.notifier import BaseNotifier

from iotda_provider.notifications import in_triggerer, in_worker
from iotda_provider.notifications.audience import About, Audience
from iotda_provider.notifications.recorded import record

LOG = logging.getLogger("iotda_provider.test")
EVENT = {"kind": "stopped", "sentence": "16 devices failed."}


began: list[str] = []
cancelled: list[str] = []


class Chat(BaseNotifier):
    """Keeps that it was told."""

    def notify(self, context: Any) -> None:
        """Keep it."""
        began.append("Chat")

    async def async_notify(self, context: Any) -> None:
        """Keep it."""
        began.append("Chat")


class Blocks(BaseNotifier):
    """Hangs, and can't be cancelled."""

    end: ClassVar[threading.Event]

    def notify(self, context: Any) -> None:
        """Hang."""
        began.append("Blocks")
        self.end.wait(60)


class Suspends(BaseNotifier):
    """Hangs, and can be cancelled."""

    async def async_notify(self, context: Any) -> None:
        """Hang."""
        began.append("Suspends")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append("Suspends")
            raise

    def notify(self, context: Any) -> None:
        """Before Airflow 3, a notifier must have it."""
        raise NotImplementedError


@pytest.fixture(autouse=True)
def _nobody_was_told() -> Iterator[None]:
    began.clear()
    cancelled.clear()
    Blocks.end = threading.Event()
    yield
    Blocks.end.set()


def audience() -> Audience:
    notifiers = [Suspends(), Blocks(), Chat()]
    return Audience(record(notifiers, importable=True), about=About("d", "r", "t"))


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return sorted(one.getMessage() for one in caplog.records if one.levelno == logging.ERROR)


class Clock:
    """In the place of ``time``: a second passes at each look, once the present one hangs."""

    now = 0.0

    def monotonic(self) -> float:
        """The present moment."""
        self.now += bool(began)
        return self.now


def test_a_worker_goes_on_to_the_next_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    monkeypatch.setattr(in_worker, "time", clock)
    told = audience()

    in_worker.tell(told, told.event(EVENT), LOG)

    assert began == ["Suspends", "Blocks", "Chat"]
    assert errors(caplog) == [
        "Blocks has not returned for 10 s.",
        "Suspends has not returned for 10 s.",
    ]
    assert clock.now >= 20


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time stands still until so many have begun; then it goes to the timers.

    :ivar wanted: how many must have begun
    """

    now = 0.0
    wanted = 0

    def __init__(self) -> None:
        loop = self

        class Selector(selectors.DefaultSelector):
            def select(self, timeout: float | None = None) -> Any:
                if not timeout or timeout < 0:
                    return super().select(timeout)
                found = super().select(0.001)
                if not found and len(began) >= loop.wanted:
                    loop.now += timeout
                return found

        super().__init__(Selector())

    def time(self) -> float:
        """The present moment."""
        return self.now


def test_a_triggerer_tells_all_at_once_and_cancels_what_it_can(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = JumpingLoop()
    told = audience()
    given_up = []

    async def rest() -> None:
        await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()})

    try:
        # Blocks begins only once: its thread still hangs, and the second message waits for it.
        for loop.wanted in (3, 5):
            loop.run_until_complete(in_triggerer.tell(told, told.event(EVENT), LOG))
            given_up.append(loop.now)
        Blocks.end.set()
        loop.run_until_complete(rest())
    finally:
        loop.close()

    assert sorted(began) == ["Blocks", "Chat", "Chat", "Suspends", "Suspends"]
    assert cancelled == ["Suspends", "Suspends"]
    assert errors(caplog) == [
        *["Blocks has not returned for 10 s."] * 2,
        *["Suspends has not returned for 10 s."] * 2,
    ]
    assert given_up == pytest.approx([10, 20], abs=0.1)
