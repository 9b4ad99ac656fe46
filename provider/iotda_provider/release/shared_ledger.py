"""The ledger where all that work on a release find it, and whose turn it is to confirm a wave."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from iotda_provider.models.log import Log
from iotda_provider.release.ledger import Ledger
from iotda_provider.release.release_io import ReleaseIO

#: Seconds without a confirmation of whoever goes on with a wave, after which another one does.
SILENCE = 60.0


class SharedLedger:
    """Whose confirmation was accepted, as it is written down by whoever works on a wave.

    Two may work on one wave, where one of them was only thought to be dead: who comes later writes
    down that it is its turn, and the earlier one lets it, until nothing was written for a minute.

    :param devices: every device of the release
    :param log: where its lines go
    :param clock: the time in seconds since 1970
    """

    def __init__(self, devices: Iterable[str], log: Log, clock: Callable[[], float]) -> None:
        self.ledger = Ledger(devices, by=uuid.uuid4().hex)
        #: Whether it could be read, ever.
        self.was_read = False
        #: Whether nobody had written anything when it was read first.
        self.is_new = False
        #: Whether it is somebody else's turn.
        self.is_displaced = False
        self._log = log
        self._clock = clock
        self._has_claimed = False
        self._heard = ("", 0.0)

    async def read(self, io: ReleaseIO, *, claim: bool) -> bool:
        """Read what was written down; whether it could be read.

        :param claim: and write down whose turn it is
        """
        records = await io.recall()
        if records is None:
            return False
        merged = [self.ledger.merge(record) for record in records]
        if not all(merged):
            self._log.warning("What was noted of confirmations is about other devices.")
        if not self.was_read:
            self.is_new = not any(merged)
        self.was_read = True
        self.is_displaced = self._has_claimed and not self.ledger.is_mine(records)
        if not claim:
            return True
        if not self._has_claimed or (self.is_displaced and self._is_silent(records)):
            self._has_claimed = await self.write_at_once(io)
            self.is_displaced = False
        return True

    async def write(self, io: ReleaseIO) -> bool:
        """Write it down after a call; whether that worked.

        Whoever has claimed the wave meanwhile keeps it. Otherwise two that call by turns would take
        it from each other, and repeat each call.
        """
        records = await io.recall() or []
        if self.ledger.is_mine(records):
            return await self.write_at_once(io)
        self.is_displaced = True
        for record in records:
            self.ledger.merge(record)
        by = next(record.get("by") for record in records if isinstance(record, Mapping))
        worked: bool = await io.note({**self.ledger.to_json(), "by": by})
        return worked

    async def write_at_once(self, io: ReleaseIO, *, urgent: bool = False) -> bool:
        """Write it down without a look at who has claimed the wave; whether that worked.

        :param urgent: a stop waits for it
        """
        worked: bool = await io.note(self.ledger.to_json(), urgent=urgent)
        return worked

    def _is_silent(self, records: Sequence[Any]) -> bool:
        """Whether the other one has done nothing for a while; it may have died since."""
        now, last = self._clock(), str(records)
        if self._heard[0] != last:
            self._heard = (last, now)
        return now - self._heard[1] >= SILENCE
