"""Counts that do not add up: for how many looks, and by how much."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from iotda_provider.models import TaskProgress

#: After so many wrong looks in a row, the counts are judged by their extreme cases.
_LOOKS = 3


class Miscounts:
    """Tells a read during a change, which the next look corrects, from counts that stay wrong.

    One or two looks whose counts do not add up decide nothing. From the third in a row on, the
    counts are judged by their extreme cases, with the largest gap of the last three looks. A
    restart forgets the looks, so that three more are needed.
    """

    def __init__(self) -> None:
        self._gaps: deque[tuple[int, int]] = deque(maxlen=_LOOKS)

    @property
    def persist(self) -> bool:
        """Whether the last three looks did not add up."""
        return len(self._gaps) == _LOOKS

    def add(self, counts: Iterable[TaskProgress]) -> tuple[int, int] | None:
        """Take in one look.

        :param counts: the counts of each batch task
        :return: the deficit and the surplus for :class:`~iotda_provider.guards.Look`, in devices;
            None: the counts do not add up, and may be a read during a change
        """
        gaps = [one.gap for one in counts]
        if not any(gaps):
            self._gaps.clear()
            return 0, 0
        self._gaps.append((sum(max(0, gap) for gap in gaps), sum(max(0, -gap) for gap in gaps)))
        if not self.persist:
            return None
        return max(gap[0] for gap in self._gaps), max(gap[1] for gap in self._gaps)
