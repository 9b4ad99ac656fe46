"""A coroutine whose I/O object blocks is run without an event loop, and within a running one."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable
from typing import Any

import pytest

from iotda_provider.transport.runner import run_blocking


class IO:
    async def read(self, value: Any) -> Any:
        if isinstance(value, Exception):
            raise value
        return value


async def procedure(io: IO, value: Any, then: Awaitable[Any] | None = None) -> Any:
    try:
        found = await io.read(value)
    except LookupError:
        return "missed"
    if then is not None:
        await then
    return found


def test_its_result_is_returned_and_what_io_raises_is_thrown_into_it() -> None:
    assert run_blocking(procedure(IO(), 5)) == 5
    assert run_blocking(procedure(IO(), KeyError("x"))) == "missed"
    with pytest.raises(ValueError, match="no such thing") as caught:
        run_blocking(procedure(IO(), ValueError("no such thing")))
    assert [entry.name for entry in caught.traceback][-2:] == ["procedure", "read"]


async def test_it_works_within_a_running_loop() -> None:
    assert run_blocking(procedure(IO(), 5)) == 5


async def test_one_that_suspends_is_closed_and_named() -> None:
    for other in (asyncio.sleep(0), asyncio.get_running_loop().create_future()):
        work = procedure(IO(), 5, other)
        with pytest.raises(RuntimeError, match=r"^procedure awaits something besides its I/O"):
            run_blocking(work)
        assert inspect.getcoroutinestate(work) == inspect.CORO_CLOSED
