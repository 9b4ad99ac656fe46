"""What takes more than one call, written once for both hooks.

A procedure is a coroutine that awaits nothing but the I/O object that it is given. The asynchronous
hook's object suspends as usual. The blocking hook's object blocks and never suspends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from iotda_provider import api
from iotda_provider.exceptions import IoTDAError

T = TypeVar("T")

#: The most calls that one procedure makes at the same time.
MAX_IN_FLIGHT = 16


class CallsIO(Protocol):
    """The only thing that a procedure awaits."""

    async def perform(self, call: api.Call[T]) -> T:
        """Make one call and return its result.

        :raises IoTDAError: the call failed
        """

    async def perform_all(self, calls: Sequence[api.Call[T]]) -> list[T | IoTDAError]:
        """Make calls side by side, at most :data:`MAX_IN_FLIGHT` at a time. Returns the result or
        the error of each call, in the order of the calls."""

    async def pause(self, seconds: float) -> None:
        """Wait, so that the platform has time to act."""

    def count(self, metric: str) -> None:
        """Add one to a counter among Airflow's metrics."""
