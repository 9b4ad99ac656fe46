"""The devices that wait for a retry, counted by their ids: each device once."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from iotda_provider.models import BatchTask, Subtask, SubtaskStatus
from iotda_provider.models.checks import whole
from iotda_provider.models.platform_retries import PlatformRetries
from iotda_provider.rollout_guard.guard_io import GuardIO

#: At most so many subtasks are read in one look (20 API calls), whatever the number of batch tasks.
_MOST_ROWS = 1000
#: Seconds between two readings of the ids if the policy is unknown; the shortest wait is a minute.
_USUAL_SECONDS = 30.0
#: Bits of the set of known ids. 2,048 bytes hold 1,000 ids of which 3 % collide.
_BITS = 16_384
_NOTHING_KNOWN = bytes(_BITS // 8)


@dataclass
class RetryingDevices:
    """Counts the distinct devices that were found waiting for a retry (``FailWaitRetry``).

    If devices wait for a shorter time than an attempt takes, few of them wait at the same time, and
    the platform's counts never show how many have failed. Their ids do. A device waits for the
    policy's ``retry_interval``, so that reading the ids twice in that time finds all of them.

    The ids are kept as bits of a hash, so that the memory is bounded. If two ids have the same bit,
    the second one is not counted: the number is never too high. It is saved with the guard's
    memory; if it is lost, the counting starts again.

    :param counts: the number of devices by batch task
    """

    counts: dict[str, int] = field(default_factory=dict)
    _bits: bytearray = field(default_factory=lambda: bytearray(_NOTHING_KNOWN), repr=False)
    _intervals: dict[str, float] = field(default_factory=dict, repr=False, compare=False)
    _read_at: dict[str, float] = field(default_factory=dict, repr=False, compare=False)

    async def read(
        self,
        io: GuardIO,
        tasks: Sequence[BatchTask],
        now: float,
        note: Callable[[Subtask], None] = lambda row: None,
    ) -> bool:
        """Read the ids of the batch tasks whose turn it is.

        :param now: the time of the look, in seconds
        :param note: called with each subtask that waits for a retry
        :returns: whether any ids were read
        :raises IoTDAError: the subtasks could not be read
        """
        due = [task for task in tasks if self._is_due(task, now)]
        left = _MOST_ROWS
        for task in sorted(due, key=lambda task: self._read_at.get(task.task_id, 0.0)):
            if left <= 0:
                break
            reading = _Reading(self, task.task_id, note)
            await io.read_retrying(task.task_id, reading, left)
            if reading.rows < left or left == _MOST_ROWS:  # else it is the first at the next look
                self._read_at[task.task_id] = now
            left -= max(1, reading.rows)
        return left < _MOST_ROWS

    def _is_due(self, task: BatchTask, now: float) -> bool:
        policy = PlatformRetries.of(task.raw.get("task_policy"))
        if policy is not None:  # the platform's list of batch tasks may not show it
            self._intervals[task.task_id] = policy.interval
        if not task.progress.fail_wait_retry:
            return False
        pause = self._intervals.get(task.task_id, 2 * _USUAL_SECONDS) / 2
        return now - self._read_at.get(task.task_id, -pause) >= pause

    def note(self, batch_task_id: str, target: str) -> None:
        """Count a device that waits for a retry, unless it is known."""
        digest = hashlib.blake2b(f"{batch_task_id} {target}".encode(), digest_size=8).digest()
        byte, bit = divmod(int.from_bytes(digest, "big") % _BITS, 8)
        if not self._bits[byte] & 1 << bit:
            self._bits[byte] |= 1 << bit
            self.counts[batch_task_id] = self.counts.get(batch_task_id, 0) + 1

    def adopt(self, older: RetryingDevices) -> None:
        """Add what an earlier try knew. Devices that both have counted must count once."""
        for task_id, count in older.counts.items():
            self.counts[task_id] = max(count, self.counts.get(task_id, 0))
        for place, bits in enumerate(older._bits):
            self._bits[place] |= bits

    def to_json(self) -> dict[str, Any] | None:
        """As plain JSON, at most 3 kB and 50 bytes for each batch task; None: nothing is known."""
        if not self.counts:
            return None
        packed = base64.b64encode(zlib.compress(bytes(self._bits))).decode()
        return {"counts": dict(self.counts), "ids": packed}

    @classmethod
    def from_json(cls, data: object) -> RetryingDevices:
        """Read what :meth:`to_json` wrote; nothing is known if it is anything else."""
        with suppress(KeyError, TypeError, ValueError, AttributeError, zlib.error):
            if isinstance(data, Mapping):
                unpacking = zlib.decompressobj()
                bits = unpacking.decompress(base64.b64decode(data["ids"]), len(_NOTHING_KNOWN))
                counts = {
                    str(key): whole("counts", number) for key, number in data["counts"].items()
                }
                known = sum(byte.bit_count() for byte in bits)
                # Each device of a count has a bit of its own.
                if len(bits) == len(_NOTHING_KNOWN) and max(counts.values()) <= known:
                    return cls(counts, bytearray(bits))
        return cls()


@dataclass
class _Reading:
    """Takes the subtasks of one batch task."""

    devices: RetryingDevices
    batch_task_id: str
    note: Callable[[Subtask], None]
    rows: int = 0

    def __call__(self, row: Subtask) -> None:
        self.rows += 1
        # The row may have changed since the platform chose it.
        if row.status is SubtaskStatus.FAIL_WAIT_RETRY:
            self.devices.note(self.batch_task_id, row.target)
            self.note(row)
