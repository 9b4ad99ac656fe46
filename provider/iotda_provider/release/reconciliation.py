"""What really came of a release: the platform's statuses held against what the devices run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from iotda_provider.exceptions import IoTDATransportError
from iotda_provider.guards import FailureClasses
from iotda_provider.models import Subtask, SubtaskStatus
from iotda_provider.models.log import Log
from iotda_provider.release.ledger import Ledger
from iotda_provider.release.storage import ReleaseFiles

UPDATED = "updated"
SUCCESS_OLD_VERSION = "success_with_old_version"
UNREAD = "unread"
UPDATED_AFTER_STOP = "updated_after_stop"
UPDATED_THOUGH_FAILED = "updated_though_failed"
ENVIRONMENT, FIRMWARE, UNKNOWN = "environment", "firmware", "unknown"
NEVER_STARTED, INTERRUPTED, UNFINISHED = "never_started", "interrupted", "unfinished"
REMOVED = "removed"
KINDS = (
    UPDATED,
    SUCCESS_OLD_VERSION,
    UNREAD,
    UPDATED_AFTER_STOP,
    UPDATED_THOUGH_FAILED,
    ENVIRONMENT,
    FIRMWARE,
    UNKNOWN,
    NEVER_STARTED,
    INTERRUPTED,
    UNFINISHED,
    REMOVED,
)


@dataclass(frozen=True)
class Reconciliation:
    """Every device of a release under the one word that fits it.

    ``updated``: success, and it runs the version; ``success_with_old_version``: success, and it
    does not (it rolled back, or the report was wrong); ``unread``: success, and nobody can say what
    it runs, which proves nothing; ``updated_after_stop``: stopped, and yet it runs it;
    ``updated_though_failed``: failed, and yet it runs it; ``environment``, ``firmware``,
    ``unknown``: failed, by class; ``never_started``: it was never let start; ``interrupted``: let
    start, or perhaps by somebody else, and stopped; ``unfinished``: let start, with no outcome yet;
    ``removed``: gone.

    :param devices: device ids by word, each in the platform's order
    """

    devices: Mapping[str, tuple[str, ...]]

    @property
    def counts(self) -> dict[str, int]:
        """How many devices there are under each word."""
        return {kind: len(self.devices.get(kind, ())) for kind in KINDS}

    def of(self, *kinds: str) -> list[str]:
        """The devices under these words."""
        return [device for kind in kinds for device in self.devices.get(kind, ())]

    @property
    def exposed(self) -> int:
        """Devices that were let start, whatever became of them."""
        return sum(self.counts.values()) - self.counts[NEVER_STARTED]

    @property
    def running(self) -> int:
        """Devices that run the version now."""
        counts = self.counts
        return counts[UPDATED] + counts[UPDATED_AFTER_STOP] + counts[UPDATED_THOUGH_FAILED]

    @property
    def to_retry(self) -> list[str]:
        """Devices worth another try: never started, or failed by their environment."""
        return self.of(NEVER_STARTED, ENVIRONMENT)

    @property
    def to_quarantine(self) -> list[str]:
        """Devices that failed by the firmware's own fault."""
        return self.of(FIRMWARE)

    def __str__(self) -> str:
        parts = [
            f"{count} {kind.replace('_', ' ')}" for kind, count in self.counts.items() if count
        ]
        return ", ".join(parts) or "no devices"


def reconcile(
    rows: Iterable[Subtask],
    versions: Mapping[str, str | None],
    version: str,
    *,
    exposed: Collection[str],
    left: Collection[str] | None = None,
    classes: FailureClasses | None = None,
) -> Reconciliation:
    """Put every device of a release under the word that fits it.

    :param rows: the subtasks, as the platform shows them now
    :param versions: what each device runs now; None or left out: nobody can say
    :param version: what it was to run
    :param exposed: devices that the waves have let start
    :param left: where somebody else has let start others: those that surely had not started when
        the release was stopped; of the rest nobody can tell
    :param classes: how failures are classed
    """
    found: dict[str, list[str]] = {kind: [] for kind in KINDS}
    judge = classes or FailureClasses()
    for row in rows:
        runs = versions.get(row.target)
        started = row.target in exposed
        if not started and left is not None and row.status == SubtaskStatus.STOPPED:
            started = row.target not in left
        word = _word(row, runs == version, not runs, started, judge)
        found[word].append(row.target)
    return Reconciliation({kind: tuple(devices) for kind, devices in found.items()})


def _word(row: Subtask, new: bool, unread: bool, started: bool, judge: FailureClasses) -> str:
    status = row.status
    if status == SubtaskStatus.SUCCESS:
        if new:
            return UPDATED
        return UNREAD if unread else SUCCESS_OLD_VERSION
    if status == SubtaskStatus.FAIL:
        if new:
            return UPDATED_THOUGH_FAILED
        return str(judge.classify(row.error_code, row.error_msg))
    if status == SubtaskStatus.REMOVED:
        return REMOVED
    if status == SubtaskStatus.STOPPED:
        if new:
            return UPDATED_AFTER_STOP
        return INTERRUPTED if started else NEVER_STARTED
    if status == SubtaskStatus.WAITING and not started:
        return NEVER_STARTED
    return UNFINISHED


@dataclass(frozen=True)
class ExposedDevices:
    """Who was let start.

    :param devices: those that the waves have let start, or may have, where an answer was lost
    :param left: of the others, those that surely had not started when the release was stopped
    :param outside: how many others have started, at least
    """

    devices: frozenset[str]
    left: frozenset[str]
    outside: int


def exposed_devices(
    files: ReleaseFiles, begun: int, log: Log, *, unconfirmed: Collection[str] = ()
) -> ExposedDevices | None:
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
    return ExposedDevices(
        frozenset(ledger.accepted | (asked - left - set(unconfirmed))),
        left - ledger.accepted,
        ledger.outside,
    )
