"""Counts that do not add up: how long that has been so, and within which bounds they are wrong."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from iotda_provider.models import TaskProgress

#: Looks in a row whose counts do not add up, from which on they are judged by bounds.
_LOOKS = 3


class Miscounts:
    """Tells a torn read, which passes, from counts that stay wrong.

    One or two looks whose counts do not add up decide nothing. From the third in a row on they are
    judged by bounds, by the largest gap among the last three. Nothing of this is remembered over a
    restart: then three looks are needed anew.
    """

    def __init__(self) -> None:
        self._gaps: deque[tuple[int, int]] = deque(maxlen=_LOOKS)

    @property
    def persist(self) -> bool:
        """Whether the last three looks did not add up."""
        return len(self._gaps) == _LOOKS

    def seen(self, counts: Iterable[TaskProgress]) -> tuple[int, int] | None:
        """Note one look.

        :param counts: those of each batch task
        :return: the devices that may be missing and those that may be too many; None: not yet known
        """
        gaps = [one.gap for one in counts]
        if not any(gaps):
            self._gaps.clear()
            return 0, 0
        self._gaps.append((sum(max(0, gap) for gap in gaps), sum(max(0, -gap) for gap in gaps)))
        if not self.persist:
            return None
        return max(gap[0] for gap in self._gaps), max(gap[1] for gap in self._gaps)
