"""The batch tasks of a wave that is being confirmed, and the confirmed devices of each."""

from __future__ import annotations

from typing import Any

from iotda_provider.exceptions import IoTDAError
from iotda_provider.release.confirm_job import ConfirmJob
from iotda_provider.release.ledger import SharedLedger, is_about
from iotda_provider.release.manifest import Part
from iotda_provider.release.release_guard import ReleaseGuard
from iotda_provider.release.release_io import ReleaseIO
from iotda_provider.release.wave_step import WaveStep
from iotda_provider.waiting.outage import is_transient


class WaveLedgers(WaveStep):
    """One batch task after the other: those of the wave, and then earlier ones with devices left.

    :param job: which wave
    :param watch: the release's guard
    """

    job: ConfirmJob

    def __init__(self, job: ConfirmJob, watch: ReleaseGuard) -> None:
        super().__init__(job, watch)
        #: Of each batch task, how many confirmations were accepted, and how many may have started.
        self._counts: dict[str, Any] = job.counts
        self._left: list[Part] | None = None
        #: The batch task at work.
        self._shared: SharedLedger | None = None
        #: Those of its devices that are still to be confirmed.
        self._queue: list[str] = []
        #: Whether to read which devices wait before the next one is confirmed.
        self._must_see = False
        self._is_written = True

    async def _open_next(self, io: ReleaseIO) -> str:
        """Open the next batch task with devices that are left; returns why it could not, or ""."""
        unknown = "which devices were confirmed before can't be read"
        if self._left is None and not await self._survey(io):
            # Without it, devices would be confirmed again, and the record overwritten with less.
            return unknown
        if self._shared is not None or not self._left:
            return ""
        try:
            members: list[str] = await io.read_members(self._left[0])
        except IoTDAError as error:
            if not is_transient(error):
                raise
            return await self.refused(io, "the waves can't be read", error)
        shared = SharedLedger(self._left[0], members, self._log)
        if not await shared.read(io):
            return unknown
        del self._left[0]
        self._shared, self._queue = shared, shared.ledger.not_confirmed
        self._must_see = bool(shared.ledger.unanswered)
        return ""

    async def _survey(self, io: ReleaseIO) -> bool:
        """Find the batch tasks with unconfirmed devices; whether they could be read."""
        counts: dict[str, Any] = {}
        for part in self.job.parts:
            known = [(0, 0)]
            for key in part.keys:
                records = await io.recall(key)
                if records is None:
                    return False
                known += [
                    (int(one["confirmed"]), int(one["exposed"]))
                    for one in records
                    if part.batch_task_id and is_about(one, part.batch_task_id)
                ]
            counts[part.key] = list(max(known))
        self._counts = self.job.counts = counts
        if self.job.accepted_before is None:
            self.job.accepted_before = self._confirmed
        if self._left is None:
            left = [
                part
                for part in self.job.parts
                if part.wave <= self.job.wave and counts[part.key][0] < part.devices
            ]
            # Those of earlier waves were refused before: this wave does not wait for them.
            self._left = sorted(left, key=lambda part: part.wave != self.job.wave)
        return True

    async def _read_again(self, io: ReleaseIO) -> bool:
        """Read what another process may have written down; whether that could be read."""
        if self._shared is None:
            return await self._survey(io)
        return await self._shared.read(io)

    async def _write_down(self, io: ReleaseIO) -> None:
        """Write down the results of the last calls; their devices are written down already."""
        self._note_counts()
        if self._shared is None or self._is_written:
            return
        self._is_written = await self._shared.write(io)
        if not self._is_written:
            self._log.warning(
                "The last confirmations could not be written down; if this process dies now, they "
                "are sent once more, which changes nothing."
            )

    def _note_counts(self) -> None:
        if self._shared is not None:
            ledger = self._shared.ledger
            self._counts[self._shared.part.key] = [len(ledger.accepted), len(ledger.exposed)]

    def _count_others(self) -> int:
        """How many devices had started at the last look that this release has not confirmed."""
        self._note_counts()
        found = 0
        for part in self.job.parts:
            _, exposed = self._counts[part.key]
            found += max(0, self._watch.started_in(part.batch_task_id or "") - exposed)
        return found + (len(self._shared.ledger.elsewhere) if self._shared is not None else 0)

    @property
    def _is_done(self) -> bool:
        return self._left == [] and self._shared is None

    @property
    def _is_untouched(self) -> bool:
        """Whether it is known that this release has confirmed no device."""
        return self._left is not None and not self._exposed

    @property
    def _confirmed(self) -> int:
        return sum(confirmed for confirmed, _ in self._counts.values())

    @property
    def _exposed(self) -> int:
        """How many devices have started, or may have."""
        return sum(exposed for _, exposed in self._counts.values())
