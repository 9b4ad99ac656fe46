"""For how long, and how often, devices are asked for again that could not be confirmed."""

from __future__ import annotations

#: Seconds for which devices are asked for again that the platform refuses, or shows late.
PATIENCE = 120.0


class Pauses:
    """Ever longer pauses between two rounds of asking for the same devices, for so long at most."""

    def __init__(self) -> None:
        self._until = self._last = 0.0
        self._since: float | None = None

    def begin(self, now: float, first: float) -> None:
        """Pause from now on.

        :param first: seconds of the first pause; each one after it is twice as long
        """
        if self._since is None:
            self._since, self._last = now, first / 2
        self._last *= 2
        self._until = max(now, min(now + self._last, self._since + PATIENCE))

    def left(self, now: float) -> float:
        """Seconds until the pause is over."""
        return max(0.0, self._until - now)

    def are_over(self, now: float) -> bool:
        """Whether it was asked for long enough."""
        return self._since is not None and now - self._since >= PATIENCE

    def forget(self) -> None:
        """Begin anew: somebody was confirmed, or nobody could be for another reason."""
        self._since, self._until = None, 0.0
