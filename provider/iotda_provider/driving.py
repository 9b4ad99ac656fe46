"""Drives a generator that yields what is to be done; how that is done is for whoever drives it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

from iotda_provider.exceptions import IoTDAError

Step = TypeVar("Step")
T = TypeVar("T")


def drive(procedure: Generator[Step, Any, T], do: Callable[[Step], Any]) -> T:
    """Carry out all steps of a procedure; its result.

    A step's answer is sent back, an ``IoTDAError`` of it is thrown back.

    :raises IoTDAError: as the procedure does
    """
    answer: Any = None
    error: IoTDAError | None = None
    while True:
        try:
            step = procedure.throw(error) if error is not None else procedure.send(answer)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        answer, error = None, None
        try:
            answer = do(step)
        except IoTDAError as caught:
            error = caught


async def drive_async(
    procedure: Generator[Step, Any, T], do: Callable[[Step], Awaitable[Any]]
) -> T:
    """The same, where carrying out a step is awaited."""
    answer: Any = None
    error: IoTDAError | None = None
    while True:
        try:
            step = procedure.throw(error) if error is not None else procedure.send(answer)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        answer, error = None, None
        try:
            answer = await do(step)
        except IoTDAError as caught:
            error = caught
