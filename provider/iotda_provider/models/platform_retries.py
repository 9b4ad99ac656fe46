"""How often, and after how long, the platform itself tries a failed target again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MOST_RETRIES, MOST_MINUTES = 5, 1440


@dataclass(frozen=True)
class PlatformRetries:
    """The retries of a batch task.

    :param count: how often a failed target is tried again, 1 to 5
    :param minutes: how long it waits before each further attempt, 0 to 1440
    """

    count: int
    minutes: int

    @property
    def interval(self) -> float:
        """Seconds that a failed target waits before its next attempt."""
        return 60.0 * self.minutes

    @property
    def waits(self) -> float:
        """Seconds that a target whose attempts all fail spends waiting between them."""
        return self.count * self.interval

    @classmethod
    def of(cls, task_policy: object) -> PlatformRetries | None:
        """The retries in a ``task_policy``; None: there are none, or it can't be read.

        The platform writes the numbers as numbers or as text.
        """
        if not isinstance(task_policy, Mapping):
            return None
        count = _whole(task_policy.get("retry_count"), MOST_RETRIES)
        minutes = _whole(task_policy.get("retry_interval"), MOST_MINUTES)
        return cls(count, minutes or 0) if count else None


def _whole(value: Any, most: int) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        return None
    return min(value, most)
