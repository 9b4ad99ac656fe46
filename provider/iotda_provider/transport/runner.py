"""Runs a coroutine whose I/O object blocks, with or without a running event loop."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run_blocking(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never suspends, because its I/O object blocks.

    :raises RuntimeError: the coroutine suspends, so it awaits something besides its I/O object
    """
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    work.close()
    name = getattr(work, "__qualname__", "The coroutine")
    raise RuntimeError(f"{name} awaits something besides its I/O object.")
