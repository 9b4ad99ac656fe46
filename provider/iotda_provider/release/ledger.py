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

_VERSION = 1


class Ledger:
    """The devices of a release that were let start, as far as the platform has said so.

    A device that is confirmed and offline still waits at the platform, which is why that can't be
    asked. One whose answer was lost is not in here: it is asked for again, which is harmless, and
    forgetting it would not be. Waves may be planned anew meanwhile, for the same devices.

    A record names who has written it, so that of two that work on one wave, because one of them was
    only thought to be dead, the earlier one can see that it is not its turn any more.

    ``left`` are the devices that had not been let start when the release was stopped: afterwards
    nobody can tell them from the others. None: it was not.

    ``wave`` is the last one of which devices were asked for, and ``outside`` how many devices have
    started, at least, that no wave had let start.

    ``lately`` says how many confirmations were accepted when, by moment in seconds since 1970, for
    as long as anybody asks for it.

    :param devices: every device of the release
    :param by: who writes it: any text of its own
    """

    def __init__(self, devices: Iterable[str], by: str = "") -> None:
        self._order = sorted(set(devices))
        self.accepted: set[str] = set()
        self.left: frozenset[str] | None = None
        self.lately: dict[float, int] = {}
        self.wave = 0
        self.outside = 0
        self.by = by
        self._known = ""

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
        last = max(self.lately, default=0.0)
        at = last if 0 <= now - last < step else round(now, 3)
        self.lately[at] = self.lately.get(at, 0) + count

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
            "by": self.by,
            "accepted": self._known,
            **({} if self.left is None else {"left": pack(self._order, self.left)}),
            **({"lately": [*map(list, self.lately.items())]} if self.lately else {}),
            **({"wave": self.wave} if self.wave else {}),
            **({"outside": self.outside} if self.outside else {}),
        }

    def is_mine(self, records: Sequence[object]) -> bool:
        """Whether one of the records found was written by this one, or there are none."""
        found = [record.get("by") for record in records if isinstance(record, Mapping)]
        return not found or self.by in found

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
            if left is not None:
                self.left = frozenset(unpack(self._order, left))
            for at, count in data.get("lately") or ():
                moment = float(at)
                self.lately[moment] = max(self.lately.get(moment, 0), int(count))
            self.wave = max(self.wave, int(data.get("wave") or 0))
            self.outside = max(self.outside, int(data.get("outside") or 0))
        except (ValueError, TypeError, OverflowError):
            return False
        return True


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
