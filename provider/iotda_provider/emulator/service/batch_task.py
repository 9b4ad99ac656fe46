"""One batch task: its request, and columns with the state of each subtask."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from operator import lt
from typing import Any

from iotda_provider.emulator.common.randomness import Uniforms
from iotda_provider.emulator.service import status_rules
from iotda_provider.models import TaskStatus, TaskType

# The next step of a row, done at the row's time.
NONE, START, SUCCEED, BREAK, STOP, INSTALL = range(6)

_ALLOWED = [
    [after in status_rules.FOLLOWS[before] for after in range(len(status_rules.SUBTASK_STATUSES))]
    for before in range(len(status_rules.SUBTASK_STATUSES))
]


class Task:
    """A batch task and its subtasks, about 35 bytes each.

    ``counts`` are updated at every change, so the rows are never counted.

    :param number: its place among all tasks ever made; the source of its draws and record ids
    :param devices: the device number of each row
    """

    def __init__(
        self,
        number: int,
        task_id: str,
        task_type: TaskType,
        fields: Mapping[str, Any],
        devices: Sequence[int],
        created: int,
    ) -> None:
        size = len(devices)
        self.number = number
        self.task_id = task_id
        self.task_type = task_type
        self.fields = fields
        self.devices = devices
        self.created = created
        self.status = TaskStatus.INITIALIZING
        self.status_desc: str | None = None
        self.need_confirm = False
        self.opened = False
        self.confirmed = False
        self.start_at = created
        self.retry_count = 0
        self.retry_interval = 0
        self.statuses = bytearray(size)
        self.steps = bytearray(size)
        self.attempts = bytearray(size)
        self.retries_left = bytearray(size)
        self.errors = array("H", bytes(2 * size))
        self.began = array("q", bytes(8 * size))
        self.due = array("q", bytes(8 * size))
        self.counts = [0] * len(status_rules.SUBTASK_STATUSES)
        self.counts[status_rules.WAITING] = size
        # The rows in the order of their devices, once somebody has looked for one.
        self._by_device: Sequence[int] | None = None
        # Devices that still install although their subtask has ended, and until when.
        self.installing: dict[int, int] = {}
        # The draws of each attempt, kept while the task runs.
        self.streams: dict[int, Callable[[str], Uniforms]] = {}
        # The version numbers that the task's packages bring, by product; "" is for any other.
        self.versions: Mapping[str, int] = {"": 0}

    def __len__(self) -> int:
        return len(self.statuses)

    @property
    def live(self) -> int:
        """How many subtasks have not ended."""
        counts = self.counts
        return (
            counts[status_rules.WAITING]
            + counts[status_rules.PROCESSING]
            + counts[status_rules.FAIL_WAIT_RETRY]
        )

    def version_for(self, product_id: str) -> int:
        """The number of the version that a device of this product is upgraded to."""
        version = self.versions.get(product_id)
        return self.versions[""] if version is None else version

    def move(self, row: int, status: int) -> None:
        """Put a subtask into another status.

        :raises AssertionError: the rules have no such step, which is a fault of the emulator
        """
        before = self.statuses[row]
        if not _ALLOWED[before][status]:
            raise AssertionError(f"subtask {row} from {before} to {status}")
        self.statuses[row] = status
        self.counts[before] -= 1
        self.counts[status] += 1

    def become(self, status: TaskStatus) -> None:
        """Put the task itself into another status.

        :raises AssertionError: the rules have no such step, which is a fault of the emulator
        """
        if status is self.status:
            return
        if status not in status_rules.TASK_FOLLOWS[self.status]:
            raise AssertionError(f"task from {self.status} to {status}")
        self.status = status

    def rows_in(self, statuses: frozenset[int]) -> list[int]:
        """The rows in these statuses, in the order of the targets."""
        return [row for row, status in enumerate(self.statuses) if status in statuses]

    def rows_of(self, devices: Sequence[int]) -> dict[int, int]:
        """Which row each of these devices has; those that are no target are left out."""
        device_of = self.devices.__getitem__
        if self._by_device is None:
            # Made once: a search through all rows at each call would be quadratic.
            rows = range(len(self.devices))
            ascending = all(map(lt, self.devices, islice(self.devices, 1, None)))
            self._by_device = rows if ascending else array("I", sorted(rows, key=device_of))
        found, by_device = {}, self._by_device
        for device in devices:
            place = bisect_left(by_device, device, key=device_of)
            if place < len(by_device) and device_of(row := by_device[place]) == device:
                found[device] = row
        return found

    def newest_first(self, before: int, status: int | None) -> Iterator[int]:
        """The rows below ``before`` from the last to the first, in one status if given."""
        if status is None:
            yield from range(min(before, len(self)) - 1, -1, -1)
            return
        wanted = bytes([status])
        row = self.statuses.rfind(wanted, 0, before)
        while row >= 0:
            yield row
            row = self.statuses.rfind(wanted, 0, row)

    def record_id(self, row: int) -> str:
        """The record id of a subtask; later targets have higher ids."""
        return f"{self.number:012x}{row + 1:012x}"

    def row_below(self, marker: str) -> int:
        """The row number that all records below this marker are below."""
        number = int(marker[:12], 16)
        if number != self.number:
            return len(self) if number > self.number else 0
        return min(len(self), max(0, int(marker[12:], 16) - 1))

    def progress(self) -> dict[str, int]:
        """The platform's ``task_progress``."""
        return {
            "total": len(self),
            **dict(zip(status_rules.PROGRESS_KEYS, self.counts, strict=True)),
        }
