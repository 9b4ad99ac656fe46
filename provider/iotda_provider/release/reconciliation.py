"""How a release has really ended: the platform's statuses compared with what the devices run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from iotda_provider.guards import FailureClasses
from iotda_provider.models import Subtask, SubtaskStatus, TaskProgress
from iotda_provider.release.ledger import Ledger
from iotda_provider.release.manifest import CURRENT, OTHER_VERSION, UNREAD_VERSION

UPDATED = "updated"
SUCCESS_OLD_VERSION = "success_with_old_version"
UNREAD = "unread"
UPDATED_AFTER_STOP = "updated_after_stop"
UPDATED_THOUGH_FAILED = "updated_though_failed"
ENVIRONMENT, FIRMWARE, UNKNOWN = "environment", "firmware", "unknown"
NEVER_STARTED, INTERRUPTED, UNFINISHED = "never_started", "interrupted", "unfinished"
REMOVED = "removed"
NOT_BEGUN, LEFT_OUT = "wave_not_begun", "left_out"
#: The reason for a device that was left out and again runs the version that it was to leave.
STILL_RUNS = "runs_the_version_again"
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
    NOT_BEGUN,
    LEFT_OUT,
)
#: The words whose device ids are kept; of the others, the counts are kept.
_KEPT = (ENVIRONMENT, FIRMWARE, SUCCESS_OLD_VERSION, UNREAD, NOT_BEGUN, LEFT_OUT)
#: The field of TaskProgress that counts each status.
_COUNTED = {status: status.name.lower() for status in SubtaskStatus}


@dataclass
class Reconciliation:
    """Every device of a release under the one word that fits it.

    ``updated``: success, and it runs the version; ``success_with_old_version``: success, and it
    does not (it rolled back, or the report was wrong); ``unread``: success, and nobody can say what
    it runs, which proves nothing; ``updated_after_stop``: stopped, and yet it runs it;
    ``updated_though_failed``: failed, and yet it runs it; ``environment``, ``firmware``,
    ``unknown``: failed, by class; ``never_started``: its wave began, and it was never confirmed;
    ``interrupted``: confirmed, and stopped; ``unfinished``: confirmed, with no outcome yet;
    ``removed``: gone; ``wave_not_begun``: in no batch task; ``left_out``: of its wave, as it ran
    the version, was gone, held by another upgrade, or not of the version that the release is for.
    """

    counted: Counter[str] = field(default_factory=Counter)
    kept: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in _KEPT})
    #: Devices that failed by their environment, and that this release has confirmed.
    to_retry: list[str] = field(default_factory=list)

    def add(self, device: str, kind: str) -> None:
        """Put a device under a word."""
        self.counted[kind] += 1
        if kind in self.kept:
            self.kept[kind].append(device)

    @property
    def counts(self) -> dict[str, int]:
        """How many devices there are under each word."""
        return {kind: self.counted[kind] for kind in KINDS}

    @property
    def exposed(self) -> int:
        """The confirmed devices, whatever became of them."""
        return sum(self.counted.values()) - sum(
            self.counted[kind] for kind in (NEVER_STARTED, NOT_BEGUN, LEFT_OUT)
        )

    @property
    def running(self) -> int:
        """Devices that run the version now."""
        return sum(
            self.counted[kind] for kind in (UPDATED, UPDATED_AFTER_STOP, UPDATED_THOUGH_FAILED)
        )

    @property
    def blames_firmware(self) -> bool:
        """Whether failures are not the environment's alone."""
        counted = self.counted
        return bool(counted[FIRMWARE] or counted[UNKNOWN] or not counted[ENVIRONMENT])

    def __str__(self) -> str:
        parts = [
            f"{count} {kind.replace('_', ' ')}" for kind, count in self.counts.items() if count
        ]
        return ", ".join(parts) or "no devices"


def reconcile(
    found: Reconciliation,
    ledger: Ledger,
    rows: Mapping[str, Subtask] | None,
    other: SubtaskStatus | None,
    versions: Mapping[str, str | None],
    version: str,
    classes: FailureClasses,
) -> Iterator[tuple[str, str]]:
    """Put every device of one batch task under the word that fits it; each, and its word.

    :param found: the results of the other batch tasks; these devices are added to it
    :param ledger: whose devices they are, and which of them were confirmed
    :param rows: the subtasks, as the platform shows them now; None: the batch task is gone
    :param other: the status of those that ``rows`` lacks; None: they are not in the batch task
    :param versions: what each device runs now; None or left out: nobody can say
    :param version: what they were to run
    :param classes: how failures are classed
    """
    exposed, own = ledger.exposed, ledger.accepted | ledger.unanswered
    for device in ledger.members:
        runs, started = versions.get(device), device in exposed
        row = None if rows is None else rows.get(device)
        if rows is None:
            word = UPDATED if runs == version else UNFINISHED if started else NEVER_STARTED
        else:
            status = row.status if row is not None else other or SubtaskStatus.REMOVED
            word = _word(status, row, runs == version, not runs, started, classes)
        if word == ENVIRONMENT and device in own:
            found.to_retry.append(device)
        found.add(device, word)
        yield device, word


def _word(
    status: SubtaskStatus,
    row: Subtask | None,
    new: bool,
    unread: bool,
    started: bool,
    classes: FailureClasses,
) -> str:
    if status == SubtaskStatus.SUCCESS:
        if new:
            return UPDATED
        return UNREAD if unread else SUCCESS_OLD_VERSION
    if status == SubtaskStatus.FAIL:
        if new or row is None:
            return UPDATED_THOUGH_FAILED if new else UNKNOWN
        return str(classes.classify(row.error_code, row.error_msg))
    if status == SubtaskStatus.REMOVED:
        return REMOVED
    if status == SubtaskStatus.STOPPED:
        if new:
            return UPDATED_AFTER_STOP
        return INTERRUPTED if started else NEVER_STARTED
    if status == SubtaskStatus.WAITING and not started:
        return NEVER_STARTED
    return UNFINISHED


def why_left_out(why: str, runs: str | None, version: str, from_version: str | None) -> str:
    """Why a device was left out of its wave, as is known by now.

    :param why: what was written down when its wave began
    :param runs: what it runs now; None: nobody can say
    :param version: what the devices of the release were to run
    :param from_version: what they had to run to be in it; None: whatever they ran
    """
    if runs == version:
        return CURRENT
    if from_version is None:
        return why
    if runs and runs != from_version:
        return OTHER_VERSION
    if why not in (CURRENT, OTHER_VERSION):
        return why
    return STILL_RUNS if runs else UNREAD_VERSION


def statuses_to_read(progress: TaskProgress) -> tuple[dict[SubtaskStatus, int], SubtaskStatus]:
    """The statuses whose subtasks are to be read, and the status of all other devices.

    The most frequent status need not be read. Failed subtasks are always read, for their errors.

    :return: how many have each of these statuses; and the status of the others
    """
    counts = {status: int(getattr(progress, name)) for status, name in _COUNTED.items()}
    other = max(
        (status for status in counts if status != SubtaskStatus.FAIL), key=counts.__getitem__
    )
    return {s: n for s, n in counts.items() if n and s != other}, other
