"""Which devices of a batch task were confirmed, in a few bits a device: it outlives any task."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import compress, cycle, islice
from typing import Any

from iotda_provider.models.log import Log
from iotda_provider.release.manifest import Part
from iotda_provider.release.release_io import ReleaseIO

_VERSION = 2
#: After so many writes a process gives up until later: another one writes at the same time.
_MOST_WRITES = 10


class Ledger:
    """The confirmed devices of one batch task of a release, as far as is known.

    ``accepted``: the platform has accepted their confirmation. The platform can't be asked for
    this: a device that is confirmed and offline still waits there.

    ``unanswered``: their confirmation was sent, and its answer is unknown. They are written down
    before each call. They may have started, so they are confirmed again, which is harmless.

    ``elsewhere``: somebody else has confirmed them, at the console for example.

    Two processes may work on one wave, if one of them was wrongly thought to be dead. Each merges
    the records of the other into its own.

    ``lately``: for each moment, in seconds since 1970, how many confirmations were accepted; kept
    while it is needed.

    :param batch_task_id: whose devices they are
    :param members: the devices of the batch task, in the order of the wave
    """

    def __init__(self, batch_task_id: str, members: Sequence[str]) -> None:
        self._batch_task_id = batch_task_id
        self.members = members
        self.accepted: set[str] = set()
        self.unanswered: set[str] = set()
        self.elsewhere: set[str] = set()
        self.lately: dict[float, int] = {}
        # Those that this process has asked for, and has the answer for.
        self._asked: set[str] = set()
        self._answered: set[str] = set()
        self._step = 0.0

    @property
    def exposed(self) -> set[str]:
        """The devices that have started, or may have."""
        return self.accepted | self.unanswered | self.elsewhere

    @property
    def not_confirmed(self) -> list[str]:
        """The devices that nobody has confirmed as far as is known, in order."""
        known = self.accepted | self.elsewhere
        return [device for device in self.members if device not in known]

    def note_asking(self, devices: Iterable[str]) -> None:
        """Note devices whose confirmation is sent now."""
        self.unanswered.update(devices)
        self._asked.update(devices)
        self._answered.difference_update(devices)

    def note_answer(self, devices: Iterable[str], accepted: Iterable[str]) -> None:
        """Note the answer for devices whose confirmation was sent."""
        self._answered.update(devices)
        self.unanswered.difference_update(devices)
        self.accepted.update(accepted)
        self.elsewhere -= self.accepted

    def note_seen(self, waiting: Iterable[str], started: Iterable[str]) -> None:
        """Note which devices the platform shows as waiting, and which have started.

        Somebody else has confirmed a device that has started without a confirmation of ours. A
        device that waits was not reached by this process's confirmation, but another process may
        be confirming it just now: its record of that stays.
        """
        mine = self._asked.intersection(waiting)
        self._answered |= mine
        self.unanswered -= mine
        begun = set(started)
        self.elsewhere |= begun - self.accepted - self.unanswered
        self.note_answer(begun & self.unanswered, begun & self.unanswered)

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

    def count_lately(self, now: float, within: float) -> int:
        """How many confirmations were accepted in the last so many seconds, at least."""
        return sum(n for at, n in self.lately.items() if now - at < within + within / 10)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON: 5,200 bytes for 30,000 devices, and rarely more."""
        return {
            "version": _VERSION,
            "batch_task_id": self._batch_task_id,
            "confirmed": len(self.accepted),
            "exposed": len(self.exposed),
            "accepted": pack(self.members, self.accepted),
            **{
                name: pack(self.members, devices)
                for name in ("unanswered", "elsewhere")
                if (devices := getattr(self, name))
            },
            **({"lately": [*map(list, sorted(self.lately.items()))]} if self.lately else {}),
        }

    def merge(self, data: object) -> bool:
        """Add what somebody has written down with :meth:`to_json`; whether it was about this."""
        if not isinstance(data, Mapping) or not is_about(data, self._batch_task_id):
            return False
        try:
            self.accepted.update(unpack(self.members, data.get("accepted")))
            for name in ("unanswered", "elsewhere"):
                if (text := data.get(name)) is not None:
                    theirs = set(unpack(self.members, text)) - self.accepted - self._answered
                    getattr(self, name).update(theirs)
            self.unanswered -= self.accepted
            self.elsewhere -= self.accepted | self.unanswered
            for at, count in data.get("lately") or ():
                moment = float(at)
                self.lately[moment] = max(self.lately.get(moment, 0), int(count))
        except (ValueError, TypeError, OverflowError):
            return False
        return True


def is_about(data: Mapping[str, Any], batch_task_id: str) -> bool:
    """Whether a record is of this version, and of this batch task."""
    return data.get("version") == _VERSION and data.get("batch_task_id") == batch_task_id


class SharedLedger:
    """The ledger of one batch task where all that work on it find it.

    It is written down under two keys, one after the other, each right after it was read. Airflow
    and files know no "write unless it has changed", so of two processes one may write over what the
    other has just written under a key. It then finds that under the other key, and merges it.

    :param part: the batch task
    :param members: its devices
    :param log: where its lines go
    """

    def __init__(self, part: Part, members: Sequence[str], log: Log) -> None:
        assert part.batch_task_id is not None
        self.part = part
        self.ledger = Ledger(part.batch_task_id, members)
        self._log = log

    async def read(self, io: ReleaseIO) -> bool:
        """Read what was written down, and merge it; whether it could be read."""
        for key in self.part.keys:
            if await self._read(io, key) is None:
                return False
        return True

    async def write(self, io: ReleaseIO) -> bool:
        """Merge what others have written meanwhile, and write it down; whether that worked.

        Afterwards the other one of two processes can't remove it any more. Under a key that can't
        be read nothing is written: that could remove what others have written.
        """
        found = 0
        for key in islice(cycle(self.part.keys), _MOST_WRITES):
            records = await self._read(io, key)
            if records is None:
                return False
            mine = self.ledger.to_json()
            found += 1
            if not records or any(record != mine for record in records):
                if not await io.note(key, mine):
                    return False
                found = 1
            if found == len(self.part.keys):
                return True
        return False

    async def _read(self, io: ReleaseIO, key: str) -> list[Any] | None:
        records = await io.recall(key)
        merged = [self.ledger.merge(record) for record in records or ()]
        if not all(merged):
            self._log.warning("The noted confirmations are of another batch task: not used.")
        return records


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
