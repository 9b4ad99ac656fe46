"""Whose confirmation the platform has accepted, in one bit a device: it outlives any task."""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import compress
from typing import Any

from iotda_provider.models.log import Log
from iotda_provider.release.release_io import ReleaseIO

_VERSION = 1


class Ledger:
    """The devices of a release that were let start, as far as the platform has said so.

    A device that is confirmed and offline still waits at the platform, which is why that can't be
    asked. One whose answer was lost is not in here: it is asked for again, which is harmless, and
    forgetting it would not be. Waves may be planned anew meanwhile, for the same devices.

    Two processes may work on one wave, where one of them was only thought to be dead. Their records
    are merged: what one has written, the other one writes down too.

    ``left`` are the devices that had not been let start when the release was stopped: afterwards
    nobody can tell them from the others. None: it was not. Where two stop it, a device is in there
    if both say so.

    ``wave`` is the last one of which devices were asked for, and ``outside`` how many devices have
    started, at least, that no wave had let start.

    ``lately`` says how many confirmations were accepted when, by moment in seconds since 1970, for
    as long as anybody asks for it.

    :param devices: every device of the release
    """

    def __init__(self, devices: Iterable[str]) -> None:
        self._order = sorted(set(devices))
        self.accepted: set[str] = set()
        self.left: frozenset[str] | None = None
        self.lately: dict[float, int] = {}
        self.wave = 0
        self.outside = 0
        self._known = ""
        self._step = 0.0
        self._dropped: set[frozenset[str]] = set()

    def __len__(self) -> int:
        return len(self.accepted)

    def __contains__(self, device: str) -> bool:
        return device in self.accepted

    def add(self, devices: Iterable[str]) -> None:
        """Note accepted confirmations."""
        self.accepted.update(devices)

    def note_lately(self, count: int, now: float, within: float) -> None:
        """Note that so many confirmations were accepted now; what is older is forgotten.

        :param within: seconds for which it is asked for, in steps of a tenth of that
        """
        step = within / 10
        self.lately = {at: n for at, n in self.lately.items() if now - at < within + step}
        # Each process counts in steps of its own: of two counts for one moment, one would be lost.
        if not 0 <= now - self._step < step:
            self._step = round(now, 6)
        self.lately[self._step] = self.lately.get(self._step, 0) + count

    def note_left(self, devices: Iterable[str]) -> None:
        """Note who had not been let start at a stop; of two stops, what both say is kept."""
        left = frozenset(devices)
        self.left = left if self.left is None else self.left & left

    def drop_left(self) -> None:
        """Forget ``left``: the release was not stopped. Older records do not bring it back."""
        if self.left is not None:
            self._dropped.add(self.left)
        self.left = None

    def count_lately(self, now: float, within: float) -> int:
        """How many confirmations were accepted in the last so many seconds, at least."""
        return sum(n for at, n in self.lately.items() if now - at < within + within / 10)

    @cached_property
    def digest(self) -> str:
        """16 characters that change with the devices."""
        return hashlib.sha256(",".join(self._order).encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON: at most 5,200 bytes for 30,000 devices, and twice that with ``left``."""
        self._known = pack(self._order, self.accepted)
        return {
            "version": _VERSION,
            "digest": self.digest,
            "accepted": self._known,
            **({} if self.left is None else {"left": pack(self._order, self.left)}),
            **({"lately": [*map(list, sorted(self.lately.items()))]} if self.lately else {}),
            **({"wave": self.wave} if self.wave else {}),
            **({"outside": self.outside} if self.outside else {}),
        }

    def merge(self, data: object) -> bool:
        """Add what somebody has written down with :meth:`to_json`; whether it was about this."""
        if (
            not isinstance(data, Mapping)
            or data.get("version") != _VERSION
            or data.get("digest") != self.digest
        ):
            return False
        text, left = data.get("accepted"), data.get("left")
        try:
            if text != self._known:
                self.add(unpack(self._order, text))
            if left is not None and (theirs := frozenset(unpack(self._order, left))) not in (
                self._dropped
            ):
                self.note_left(theirs)
            for at, count in data.get("lately") or ():
                moment = float(at)
                self.lately[moment] = max(self.lately.get(moment, 0), int(count))
            self.wave = max(self.wave, int(data.get("wave") or 0))
            self.outside = max(self.outside, int(data.get("outside") or 0))
        except (ValueError, TypeError, OverflowError):
            return False
        return True


class SharedLedger:
    """The ledger where all that work on a release find it.

    :param devices: every device of the release
    :param log: where its lines go
    """

    def __init__(self, devices: Iterable[str], log: Log) -> None:
        self.ledger = Ledger(devices)
        #: Whether it could be read, ever.
        self.was_read = False
        #: Whether it was read, and nobody had ever written anything.
        self.is_new = False
        #: Whether all of it was found when it was read last.
        self.is_written = False
        self._log = log

    async def read(self, io: ReleaseIO, *, urgent: bool = False) -> bool:
        """Read what was written down, and merge it; whether it could be read.

        :param urgent: a stop waits for it
        """
        records = await io.recall(urgent=urgent)
        if records is None:
            return False
        merged = [self.ledger.merge(record) for record in records]
        if not all(merged):
            self._log.warning("What was noted of confirmations is about other devices.")
        self.is_new = not any(merged) and (self.is_new or not self.was_read)
        self.was_read = True
        mine = self.ledger.to_json()
        self.is_written = bool(records) and all(record == mine for record in records)
        return True

    async def write(self, io: ReleaseIO) -> bool:
        """Read what others have written meanwhile, and write all of it down; whether that worked.

        Nothing is written where it can't be read: that could take away what others have written.
        """
        return await self.read(io) and await io.note(self.ledger.to_json())

    async def write_what_is_missing(self, io: ReleaseIO) -> None:
        """Write it down again where another one that wrote in the same moment has not read it."""
        if await self.read(io) and not self.is_written:
            await self.write(io)

    async def write_before_stop(self, io: ReleaseIO) -> bool:
        """Write it down before a stop, for which it must not take long; whether that worked.

        The caller has just read it, or it can't be read, and the stop does not wait until it can.
        """
        return await io.note(self.ledger.to_json(), urgent=True)


def pack(order: Sequence[str], chosen: Collection[str]) -> str:
    """Some of the devices in a known order, as short text; a few milliseconds for 30,000."""
    bits = "".join(["1" if device in chosen else "0" for device in order])
    size = (len(order) + 7) // 8
    return base64.b64encode(zlib.compress(int(f"0{bits}", 2).to_bytes(size, "big"))).decode()


def unpack(order: Sequence[str], text: object) -> list[str]:
    """The inverse of :func:`pack`.

    :raises ValueError: it is not that, or about another number of devices
    """
    size = (len(order) + 7) // 8
    try:
        inflated = zlib.decompressobj()
        data = inflated.decompress(base64.b64decode(str(text), validate=True), size + 1)
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"not a list of devices: {error}") from error
    bits = f"{int.from_bytes(data, 'big'):0{len(order)}b}" if order else ""
    if len(data) != size or len(bits) != len(order):
        raise ValueError("a list of other devices")
    return list(compress(order, map("1".__eq__, bits)))
