"""Runs a coroutine whose I/O blocks, in a thread that may have an event loop or none."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run_blocking(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never suspends, since its I/O object blocks instead.

    It needs no event loop, and works inside of one that is running.

    :raises RuntimeError: the coroutine suspends, so it awaits something besides its I/O object; it
        is closed
    """
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    work.close()
    name = getattr(work, "__qualname__", "The coroutine")
    raise RuntimeError(f"{name} awaits something besides its I/O object.")
