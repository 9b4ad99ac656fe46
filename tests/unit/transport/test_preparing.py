"""On an event loop one thread prepares an authenticator, and everybody else awaits it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from iotda_provider.exceptions import IoTDATransportError
from iotda_provider.transport.asynchronous import prepare


class Slow:
    """An authenticator that is prepared when it is told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.calls = 0
        self.started = threading.Event()
        self.go_on = threading.Event()

    def prepare(self) -> None:
        self.calls += 1
        self.started.set()
        assert self.go_on.wait(30)
        if self.error:
            raise self.error


async def started(slow: Slow) -> None:
    assert await asyncio.to_thread(slow.started.wait, 30)


async def test_one_thread_serves_all_who_wait():
    slow = Slow()
    waiting = [asyncio.ensure_future(prepare(slow)) for _ in range(50)]
    await started(slow)
    slow.go_on.set()

    await asyncio.gather(*waiting)

    assert slow.calls == 1
    await prepare(slow)
    assert slow.calls == 2, "and the next time it is prepared anew"


async def test_loop_goes_on_while_the_thread_is_busy():
    slow = Slow()
    waiting = asyncio.ensure_future(prepare(slow))
    await started(slow)

    assert await asyncio.sleep(0, "the loop is free") == "the loop is free"
    assert not waiting.done()
    slow.go_on.set()
    await waiting


async def test_caller_that_is_cancelled_leaves_the_others_waiting():
    slow = Slow()
    first, second = (asyncio.ensure_future(prepare(slow)) for _ in range(2))
    await started(slow)

    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    slow.go_on.set()
    await second

    assert slow.calls == 1


async def test_failure_reaches_everybody():
    slow = Slow(IoTDATransportError("IAM is down", sent=False))
    waiting = [asyncio.ensure_future(prepare(slow)) for _ in range(3)]
    await started(slow)
    slow.go_on.set()

    errors = await asyncio.gather(*waiting, return_exceptions=True)

    assert [str(error) for error in errors] == ["IAM is down"] * 3
    assert slow.calls == 1


async def test_authenticators_do_not_wait_for_one_another():
    stuck, quick = Slow(), Slow()
    waiting = asyncio.ensure_future(prepare(stuck))
    await started(stuck)
    quick.go_on.set()

    await prepare(quick)

    assert not waiting.done()
    stuck.go_on.set()
    await waiting
