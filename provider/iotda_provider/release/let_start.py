"""Who was let start by a release, from what was written down of it: whatever was cleared since."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from iotda_provider.exceptions import IoTDATransportError
from iotda_provider.models.log import Log
from iotda_provider.release.ledger import Ledger
from iotda_provider.release.storage import ReleaseFiles


@dataclass(frozen=True)
class LetStart:
    """Who was let start.

    :param devices: those that the waves have let start, or may have, where an answer was lost
    :param left: of the others, those that surely had not started when the release was stopped
    :param outside: how many others have started, at least
    """

    devices: frozenset[str]
    left: frozenset[str]
    outside: int


def who_was_let_start(
    files: ReleaseFiles, begun: int, log: Log, *, unconfirmed: Collection[str] = ()
) -> LetStart | None:
    """Who was let start; None where nothing is written down of it.

    :param begun: the last wave of which devices were asked for, as far as this pass of the run has
        come; an earlier one may have come further
    :param unconfirmed: devices of these waves that could not be let start
    :raises IoTDATransportError: it can't be read
    """
    records = files.read_confirmed(log)
    if records is None:
        raise IoTDATransportError("Who was let start can't be read. Clear this task to try again.")
    if not records:
        return None
    waves = files.read_waves()
    ledger = Ledger(device for wave in waves for device in wave)
    merged = [ledger.merge(record) for record in records]
    if not any(merged):
        return None
    asked = {device for wave in waves[: max(begun, ledger.wave)] for device in wave}
    left = ledger.left or frozenset()
    return LetStart(
        frozenset(ledger.accepted | (asked - left - set(unconfirmed))),
        left - ledger.accepted,
        ledger.outside,
    )
