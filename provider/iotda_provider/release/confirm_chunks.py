"""How many devices to confirm next, and how often to ask again for those that were refused."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from iotda_provider.models import TaskProgress

#: For so many seconds, devices that the platform refuses, or shows late, are confirmed again.
PATIENCE = 120.0
#: The most targets that the platform takes in one call.
MAX_CHUNK = 100


def next_chunk(
    queue: Sequence[str], in_flight: int, max_in_flight: int | None, chunk: int = MAX_CHUNK
) -> list[str]:
    """The devices to confirm in the next call; an empty list: confirm none now.

    :param in_flight: devices that were confirmed and have no outcome yet
    :param max_in_flight: the most of these at a time; None: no limit
    :param chunk: the most devices in one call
    """
    size = min(chunk, MAX_CHUNK, len(queue))
    if max_in_flight is not None:
        size = min(size, max(0, max_in_flight - in_flight))
    return list(queue[:size])


def checked_chunk(chunk: Sequence[str], members: Collection[str]) -> list[str]:
    """The devices of a call, refused if the call could confirm others, too.

    An empty list would be one mistake away from ``{}``, which confirms a whole fleet.

    :raises ValueError: it is empty, too long, or names a device that is in no wave so far
    """
    if not chunk or len(chunk) > MAX_CHUNK:
        raise ValueError(f"a confirmation must name 1 to {MAX_CHUNK} devices, not {len(chunk)}")
    strangers = [device for device in chunk if device not in members]
    if strangers:
        raise ValueError(f"{strangers[0]} is in no wave that may start")
    return list(chunk)


def in_flight(progress: TaskProgress, unstarted: int) -> int:
    """Devices under way.

    :param unstarted: devices that were confirmed and that the platform still shows as waiting
    """
    return progress.processing + progress.fail_wait_retry + max(0, unstarted)


class Pauses:
    """Ever longer pauses between two attempts to confirm the same devices, up to ``PATIENCE``."""

    def __init__(self) -> None:
        self._until = self._last = 0.0
        self._since: float | None = None

    @property
    def have_begun(self) -> bool:
        """Whether devices are being confirmed again."""
        return self._since is not None

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
        """Whether the attempts have lasted long enough."""
        return self._since is not None and now - self._since >= PATIENCE

    def forget(self) -> None:
        """Begin anew: a device was confirmed, or none could be for another reason."""
        self._since, self._until = None, 0.0
