"""The devices of one wave and those before it: who waits, who was confirmed, who is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from iotda_provider.models.log import Log
from iotda_provider.release.confirm_chunks import still_waiting
from iotda_provider.release.confirm_job import ConfirmJob
from iotda_provider.release.ledger import Ledger, pack, unpack
from iotda_provider.release.release_io import ReleaseIO
from iotda_provider.release.shared_ledger import SharedLedger


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
        self._shared = SharedLedger((), log, clock)
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
        self._shared = SharedLedger(everybody, self._log, self._clock)
        self._members = [device for wave in waves[: self.job.wave] for device in wave]
        self._may_start = frozenset(self._members)
        await self._recall(io, claim=False)

    async def _read_queue(self, io: ReleaseIO) -> None:
        """Who is to be confirmed: the members that wait and were not confirmed already."""
        self._rows = set(await io.read_waiting(self.job.batch_task_id))
        self._turned_down = []
        self._queue = [
            device
            for device in still_waiting(self._members, self._rows)
            if device not in self._ledger
        ]

    async def _recall(self, io: ReleaseIO, *, claim: bool) -> bool:
        """Read what was written down; whether it could be read.

        :param claim: and write down whose turn it is
        """
        if not await self._shared.read(io, claim=claim):
            return False
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
    def _let_start(self) -> int:
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
        return [*self._queue, *self._turned_down]
