"""Batch tasks, their subtasks, and the results for single targets.

Values on the wire keep the vendor's spelling
(``Waitting``); names in Python are spelled right (``WAITING``).

Source: "Querying a Batch Task", "Stopping a Batch Task" of the IoTDA API reference, and the models
of the official SDK (``huaweicloudsdkiotda.v5``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, overload

from iotda_provider.models.statuses import SubtaskStatus, TaskStatus, TaskType
from iotda_provider.models.text import checked_id, short_text
from iotda_provider.models.times import read_platform_time

_LARGEST_COUNT = 10**9


def _count(value: object, name: str) -> int:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError(f"task_progress.{name} is not a count: {value!r}")
    try:
        count = int(value)
    except ValueError:
        raise ValueError(f"task_progress.{name} is not a count: {str(value)[:20]!r}") from None
    if count < 0:
        raise ValueError(f"task_progress.{name} is negative: {count}")
    if count > _LARGEST_COUNT:
        raise ValueError(f"task_progress.{name} is larger than any fleet")
    return count


@dataclass(frozen=True)
class TaskProgress:
    """How many targets of a batch task are in which status, as the platform counts them."""

    total: int = 0
    processing: int = 0
    success: int = 0
    fail: int = 0
    waiting: int = 0
    fail_wait_retry: int = 0
    stopped: int = 0
    removed: int = 0

    @property
    def started(self) -> int:
        """Targets that have started: success + fail + fail_wait_retry + processing."""
        return self.success + self.fail + self.fail_wait_retry + self.processing

    @property
    def finished(self) -> int:
        """Targets with an outcome: success + fail. Stopped targets have none."""
        return self.success + self.fail

    @property
    def ever_started(self) -> int:
        """The most targets that can have started, by these counts alone.

        That is started + stopped + removed or total - waiting, whichever is more.
        """
        return max(self.started + self.stopped + self.removed, self.total - self.waiting)

    @property
    def gap(self) -> int:
        """``total`` less the sum of the parts; 0 if the counts add up.

        The API reference does not say whether ``total`` includes ``removed``: the result is the gap
        with or without it, whichever is nearer to 0.
        """
        without = self.total - (self.started + self.waiting + self.stopped)
        return min(without - self.removed, without, key=abs)

    @property
    def adds_up(self) -> bool:
        """Whether the parts sum to ``total``. If not, they changed while read, or are wrong."""
        return self.gap == 0

    def extreme_cases(self, deficit: int, surplus: int) -> tuple[TaskProgress, ...]:
        """The extreme cases of what wrong counts may stand for. What holds in all is certain.

        Missing targets are added to the successes in one case, and to the failures in another.
        Surplus targets are taken from the successes in one case, and from the failures in another.

        :param deficit: the number of targets that may be missing
        :param surplus: the number of targets that may be counted twice
        """
        found: list[TaskProgress] = []
        if deficit:
            found.append(replace(self, success=self.success + deficit))
            found.append(replace(self, fail=self.fail + deficit))
        if surplus:
            found.append(replace(self, success=max(0, self.success - surplus)))
            found.append(replace(self, fail=max(0, self.fail - surplus)))
        if not found:
            return (self,)
        return tuple(
            replace(one, total=one.started + one.waiting + one.stopped + one.removed)
            for one in found
        )

    @classmethod
    def from_wire(cls, data: Mapping[str, Any] | None) -> TaskProgress:
        """Read the platform's ``task_progress``. A missing count is 0.

        :raises ValueError: a count is negative or not a whole number
        """
        data = data or {}
        return cls(
            **{
                name: _count(data.get("waitting" if name == "waiting" else name), name)
                for name in cls.__dataclass_fields__
            }
        )

    def to_dict(self) -> dict[str, int]:
        """As plain JSON, with the derived counts ``started`` and ``finished``."""
        counts = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**counts, "started": self.started, "finished": self.finished}

    def __str__(self) -> str:
        return f"{self.success} succeeded, {self.fail} failed{self._rest()} of {self.total}"

    @property
    def others(self) -> str:
        """The counts in words, without those that failed."""
        return f"{self.success} succeeded{self._rest()}"

    def _rest(self) -> str:
        parts = [""]
        for count, word in (
            (self.processing, "running"),
            (self.fail_wait_retry, "waiting to retry"),
            (self.waiting, "waiting"),
            (self.stopped, "stopped"),
            (self.removed, "removed"),
        ):
            if count:
                parts.append(f"{count} {word}")
        return ", ".join(parts)


@dataclass(frozen=True)
class BatchTask:
    """One batch task as the platform describes it.

    :param create_time: the platform's text, ``yyyyMMdd'T'HHmmss'Z'`` in UTC
    :param raw: the platform's whole description
    """

    task_id: str
    status: TaskStatus
    task_name: str = ""
    task_type: TaskType | None = None
    status_desc: str | None = None
    progress: TaskProgress = field(default_factory=TaskProgress)
    app_id: str | None = None
    create_time: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def created_at(self) -> float | None:
        """The time of its creation in seconds since 1970; None: the platform does not say."""
        try:
            return read_platform_time(self.create_time or "").timestamp()
        except ValueError:
            return None

    @property
    def lacks_counts(self) -> bool:
        """Whether the platform shows no counts, though the task has begun.

        A task that is being processed has targets. One that has ended may have had none (an empty
        group); then its counts are shown, and are 0.
        """
        if self.progress.total or self.progress.ever_started:
            return False
        if self.status.is_completed:
            return not self.raw.get("task_progress")
        return self.status is TaskStatus.PROCESSING

    @property
    def batch_task_id(self) -> str:
        """The same as ``task_id``, by the name that this provider's parameters use."""
        return self.task_id

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> BatchTask:
        """Read one ``batchtask`` object.

        :raises ValueError: there is no task id, or a count makes no sense
        """
        task_id = checked_id(data.get("task_id"), "a batch task", "task_id")
        task_type = data.get("task_type")
        return cls(
            task_id=task_id,
            status=TaskStatus.from_wire(data.get("status") or TaskStatus.INITIALIZING),
            task_name=short_text(data.get("task_name")) or "",
            task_type=TaskType.from_wire(task_type) if task_type else None,
            status_desc=short_text(data.get("status_desc")),
            progress=TaskProgress.from_wire(data.get("task_progress")),
            app_id=short_text(data.get("app_id")),
            create_time=short_text(data.get("create_time")),
            raw=data,
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON, as operators and sensors push it to XCom."""
        return {
            "batch_task_id": self.task_id,
            "task_name": self.task_name,
            "task_type": str(self.task_type) if self.task_type else None,
            "status": str(self.status),
            "status_desc": self.status_desc,
            "progress": self.progress.to_dict(),
            "create_time": self.create_time,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> BatchTask:
        """Read what :meth:`to_dict` wrote, out of an event or an XCom.

        :raises ValueError: it is something else
        """
        progress = data.get("progress")
        if not isinstance(progress, Mapping) or not isinstance(data.get("status"), str):
            raise ValueError("a batch task without status and progress")
        task = cls.from_wire({**data, "task_id": data.get("batch_task_id")})
        counts = {name: progress.get(name) for name in TaskProgress.__dataclass_fields__}
        return replace(
            task,
            progress=TaskProgress.from_wire({**counts, "waitting": counts["waiting"]}),
            raw={},
        )


@dataclass(frozen=True)
class Subtask:
    """One target of a batch task: its status and its error."""

    target: str
    status: SubtaskStatus
    output: str | None = None
    error_code: str | None = None
    error_msg: str | None = None

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> Subtask:
        """Read one row of ``task_details``.

        :raises ValueError: there is no target
        """
        target = checked_id(data.get("target"), "a subtask", "target")
        error = data.get("error") or {}
        return cls(
            target=target,
            status=SubtaskStatus.from_wire(data.get("status") or SubtaskStatus.WAITING),
            output=short_text(data.get("output")),
            error_code=short_text(error.get("error_code")),
            error_msg=short_text(error.get("error_msg")),
        )


@dataclass(frozen=True)
class TargetResult:
    """The result of a stop, a retry or a confirmation for one target."""

    target: str
    succeeded: bool
    error_code: str | None = None
    error_msg: str | None = None

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> TargetResult:
        """Read one row of ``targets``. Any status but ``success`` is a failure.

        :raises ValueError: there is no target
        """
        target = checked_id(data.get("target"), "a result", "target")
        return cls(
            target=target,
            succeeded=str(data.get("status")).lower() == "success",
            error_code=short_text(data.get("error_code")),
            error_msg=short_text(data.get("error_msg")),
        )

    def to_failure(self) -> dict[str, str | None]:
        """As one row of ``failed_targets``."""
        return {
            "target": self.target,
            "error_code": self.error_code,
            "error_msg": self.error_msg,
        }


class TargetResults(Sequence[TargetResult]):
    """One definite result for each requested target, in the order of the request."""

    def __init__(self, results: Iterable[TargetResult] = ()) -> None:
        self._results = tuple(results)

    @overload
    def __getitem__(self, index: int) -> TargetResult: ...
    @overload
    def __getitem__(self, index: slice) -> TargetResults: ...
    def __getitem__(self, index: int | slice) -> TargetResult | TargetResults:
        if isinstance(index, slice):
            return TargetResults(self._results[index])
        return self._results[index]

    def __len__(self) -> int:
        return len(self._results)

    def __iter__(self) -> Iterator[TargetResult]:
        return iter(self._results)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TargetResults) and self._results == other._results

    def __hash__(self) -> int:
        return hash(self._results)

    def __repr__(self) -> str:
        return f"<TargetResults: {len(self.succeeded)} succeeded, {len(self.failed)} failed>"

    @property
    def succeeded(self) -> list[TargetResult]:
        """The results of the targets for which the call had its effect."""
        return [result for result in self._results if result.succeeded]

    @property
    def failed(self) -> list[TargetResult]:
        """The results of the other targets, each with its error."""
        return [result for result in self._results if not result.succeeded]
