"""The devices of one wave and those before it: who waits, who was confirmed, who is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from iotda_provider.models.json_text import checked_fields
from iotda_provider.models.log import Log
from iotda_provider.release.confirm_chunks import MAX_CHUNK, still_waiting
from iotda_provider.release.ledger import Ledger, SharedLedger, pack, unpack
from iotda_provider.release.maintenance_window import MaintenanceWindow
from iotda_provider.release.release_io import ReleaseIO


@dataclass
class ConfirmJob:
    """Which wave is to be confirmed, and within which limits; a trigger's argument.

    :param wave: which wave, from 1
    :param members: devices in this wave and those before it
    :param before: devices in the waves before it
    :param late: whether it holds the devices that were not online lately
    :param chunk: the most devices in one call
    :param max_in_flight: the most confirmed devices without an outcome; None: no limit
    :param window: when devices may be let start; None: at any time
    :param deadline: when it gives up waiting, in seconds since 1970
    :param timeout: the same in seconds from the beginning, for the error
    :param is_first: whether nobody has worked on this wave before
    :param accepted_before: confirmations that had been accepted when this try began; None: it has
        not begun
    :param left: who had not been let start when the guard's stop was sent, packed
    :param outside: devices that somebody else has let start, as far as a person was told
    :param rehearse_stop: whether to see, before the first confirmation, that the release could be
        stopped
    """

    batch_task_id: str
    wave: int
    members: int
    before: int
    late: bool
    deadline: float
    timeout: float
    chunk: int = MAX_CHUNK
    max_in_flight: int | None = None
    window: MaintenanceWindow | None = None
    is_first: bool = True
    accepted_before: int | None = None
    left: str | None = None
    outside: int = 0
    rehearse_stop: bool = False

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**plain, "window": None if self.window is None else self.window.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ConfirmJob:
        """The inverse of :meth:`to_json`.

        :raises ValueError: it is not what that returns
        """
        values = checked_fields(cls, data, "job", read_by_caller=("window",))
        window = values.get("window")
        if window is not None:
            plain = checked_fields(MaintenanceWindow, window, "window", read_by_caller=("days",))
            window = MaintenanceWindow(**plain)
        if values.get("chunk") == 0:
            raise ValueError("job: chunk must be greater than 0")
        return cls(**{**values, "window": window})


class WaveDevices:
    """Who is in the waves so far, as it was planned, read from the platform and written down.

    :param job: which wave
    :param log: where its lines go
    :param clock: the time in seconds since 1970
    """

    def __init__(self, job: ConfirmJob, log: Log, clock: Callable[[], float]) -> None:
        self.job = job
        self._log = log
        self._clock = clock
        self._members: list[str] = []
        self._may_start: frozenset[str] = frozenset()
        self._shared = SharedLedger((), log)
        #: Accepted confirmations that were known when the queue was read, and those since by this.
        self._known: set[str] = set()
        self._attempts: Counter[str] = Counter()
        self._queue: list[str] = []
        self._turned_down: list[str] = []
        self._rows: set[str] = set()
        #: Whether the rows are known to be all that wait.
        self._is_complete = False
        self._has_asked = False

    async def _read_waves(self, io: ReleaseIO) -> None:
        """Who is in which wave, and what is known of them; once."""
        if self._members:
            return
        waves: list[list[str]] = await io.read_waves()
        everybody = (device for wave in waves for device in wave)
        self._shared = SharedLedger(everybody, self._log)
        self._members = [device for wave in waves[: self.job.wave] for device in wave]
        self._may_start = frozenset(self._members)
        await self._recall(io)

    async def _read_queue(self, io: ReleaseIO) -> None:
        """Who is to be confirmed: the members that wait and were not confirmed already."""
        self._known = set(self._ledger.accepted)
        self._rows = set(await io.read_waiting(self.job.batch_task_id))
        self._turned_down = []
        self._queue = [
            device
            for device in still_waiting(self._members, self._rows)
            if device not in self._ledger
        ]

    async def _recall(self, io: ReleaseIO, *, urgent: bool = False) -> bool:
        """Read what was written down; whether it could be read.

        :param urgent: a stop waits for it
        """
        was_new = not self._shared.was_read
        if not await self._shared.read(io, urgent=urgent):
            return False
        if was_new:
            self._known = set(self._ledger.accepted)
        job, ledger = self.job, self._ledger
        if ledger.left is not None and job.left is None:
            job.left = pack(self._members, ledger.left - ledger.accepted)
        if job.accepted_before is None:
            job.accepted_before = len(ledger)
        job.outside = max(job.outside, ledger.outside)
        return True

    @property
    def _ledger(self) -> Ledger:
        return self._shared.ledger

    @property
    def _is_untouched(self) -> bool:
        """Whether it is known that nobody was let start by this release."""
        shared = self._shared
        return self.job.wave == 1 and shared.was_read and shared.is_new and not self._has_asked

    @property
    def _exposed(self) -> int:
        """The most devices that may have started by the waves so far."""
        return len(self._may_start) + len(self._ledger.accepted - self._may_start)

    @property
    def _confirmed(self) -> int:
        return len(self._ledger) - (self.job.accepted_before or 0)

    def _unreached(self) -> list[str]:
        """Devices of the waves so far that could not be let start, as far as can be seen."""
        waiting = [d for d in self._members if d not in self._ledger]
        if self._is_complete:
            return [device for device in waiting if device in self._rows]
        return waiting

    def _never_started(self) -> list[str]:
        """Devices of this wave that surely were not let start, where the release is over."""
        if self.job.left is not None:
            noted = unpack(self._order, self.job.left)
            return [device for device in noted if device not in self._ledger]
        left = self._not_asked()
        if not self._shared.was_read:
            return left
        if self._queue or self._attempts or not self.job.is_first:
            return left
        # Somebody else has stopped it: nobody of this wave was let start before that.
        mine = self._members[self.job.before :]
        return [device for device in mine if device not in self._ledger]

    @property
    def _order(self) -> list[str]:
        """The members, or their places where they can't be read."""
        return self._members or [str(place) for place in range(self.job.members)]

    def _not_asked(self) -> list[str]:
        if not self._shared.was_read:  # some may have been confirmed, and wait for their device
            return []
        if not self._ledger.accepted <= self._known:
            return []  # another process confirms too, and may have asked for any of the queue
        return [*self._queue, *self._turned_down]
