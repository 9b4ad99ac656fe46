"""One look at a rollout, and the counts that the rules use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from iotda_provider.guards.start_ages import StartAges
from iotda_provider.guards.start_history import History
from iotda_provider.models import BatchTask, TaskProgress, checks

WHOLE = ""
"""Stands for the batch task's id if only the sum over all batch tasks is known."""
ClusterCounts = tuple[int, int]
"""(failed, started) devices of one cluster."""


def total_progress(progresses: Iterable[TaskProgress]) -> TaskProgress:
    """The counts of a rollout that is split over several tasks: the sums of the tasks' counts."""
    parts = tuple(progresses)
    names = TaskProgress.__dataclass_fields__
    return TaskProgress(**{name: sum(getattr(part, name) for part in parts) for name in names})


@dataclass(frozen=True, kw_only=True)
class _Seen:
    failures_by_class: Mapping[str, int] | None = None
    clusters: Mapping[str, ClusterCounts] | None = None
    already_current: int = 0
    being_stopped: bool = False

    def __post_init__(self) -> None:
        checks.whole("already_current", self.already_current)
        checks.flag("being_stopped", self.being_stopped)
        for name, count in (self.failures_by_class or {}).items():
            checks.choice("failures_by_class", name, checks.FAILURE_CLASSES)
            checks.whole(f"failures_by_class[{name!r}]", count)
        for name, counts in (self.clusters or {}).items():
            checks.pair(f"clusters[{name!r}]", counts)


@dataclass(frozen=True, kw_only=True)
class Look(_Seen):
    """One look at a rollout: the result of one poll.

    :param time: when the answer came, in seconds since the epoch; looks should come in order
    :param progress: the platform's counts, summed over the rollout's tasks
    :param failures_by_class: the number of failed devices of each class; None: not read
    :param clusters: (failed, started) devices of each cluster (a site, a hardware batch), for all
        classes together; started is 0 if unknown; None: not read
    :param already_current: the number of targets that had the new version before the rollout. The
        platform reports them as instant successes. Pass their number among the started devices if
        you know it, else in the whole task: a stopping rule leaves out as few as there can be among
        the started devices, a gate as many as there can be
    :param being_stopped: whether somebody is stopping the task or has stopped it; if so, no rule is
        evaluated
    :param tasks: the counts of each batch task by its id, for the number of started devices; None:
        ``progress`` is that of one task, or only the sum is known
    :param deficit: devices that the counts may lack, if they have not added up for three looks in a
        row (:class:`~iotda_provider.guards.miscounts.Miscounts`). The counts are then judged by
        their extreme cases
    :param surplus: devices that the counts may have too many of, likewise
    :param requested: when the request was sent, in seconds since the epoch; None: at ``time``
    :param attempted: for each batch task, the devices that were found waiting for a retry so far,
        counted by their ids; None: the ids were not read. If ``tasks`` is None, the key is ``""``
    """

    time: float
    progress: TaskProgress
    tasks: Mapping[str, TaskProgress] | None = None
    deficit: int = 0
    surplus: int = 0
    requested: float | None = None
    attempted: Mapping[str, int] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.moment("time", self.time)
        if self.requested is not None:
            checks.moment("requested", self.requested)
        checks.whole("deficit", self.deficit)
        checks.whole("surplus", self.surplus)
        for task_id, count in (self.attempted or {}).items():
            checks.whole(f"attempted[{task_id!r}]", count)

    @property
    def asked_at(self) -> float:
        """When the request was sent, in seconds since the epoch; not after ``time``."""
        return self.time if self.requested is None else min(self.requested, self.time)

    @property
    def can_be_judged(self) -> bool:
        """Whether the counts add up, or it is known how wrong they may be."""
        return bool(self.deficit or self.surplus) or self.progress.adds_up

    @classmethod
    def of(cls, tasks: BatchTask | Iterable[BatchTask], *, time: float, **further: Any) -> Look:
        """A look at the tasks of one rollout. The rules judge the sums of their counts.

        :param further: any other field of a look, such as ``failures_by_class``
        """
        parts = (tasks,) if isinstance(tasks, BatchTask) else tuple(tasks)
        return cls(
            time=time,
            progress=total_progress(task.progress for task in parts),
            being_stopped=any(task.status.is_stop for task in parts),
            tasks={task.task_id: task.progress for task in parts},
            **further,
        )

    def with_classes(self, failures_by_class: Mapping[str, int]) -> Look:
        """The same look, with the classes of its failures."""
        return replace(self, failures_by_class=failures_by_class)


@dataclass(frozen=True, kw_only=True)
class Observed(_Seen):
    """What a rule may know besides the counts of a look. All of it is optional.

    ``failures_by_class``, ``clusters``, ``already_current`` and ``being_stopped`` are those of
    :class:`Look`. The others come from earlier looks, by :func:`~iotda_provider.guards.evaluate`.

    :param started: the number of devices that have ever started; None: unknown, and stopped and
        removed devices then count as started
    :param time: the time of this look, in seconds since the epoch
    :param still_since: the time since which no device has started or finished, likewise
    :param history: the number of starts at earlier times
    :param ages: how long ago devices have started; the age of all others is unlimited
    :param attempted: the devices of which an attempt has failed, as far as they were seen: the sum
        of each batch task's highest count
    """

    started: int | None = None
    attempted: int = 0
    time: float | None = None
    still_since: float | None = None
    history: History | None = None
    ages: StartAges = field(default_factory=StartAges)


@dataclass(frozen=True)
class Counts:
    """The numbers that rules use. Where one is uncertain, it is the one that spares a rollout.

    :param progress: the platform's counts
    :param observed: what else is known
    """

    progress: TaskProgress
    observed: Observed

    @property
    def ever_started(self) -> int:
        """Devices that have ever started. The number never falls, even if some are stopped."""
        if self.observed.started is None:
            return self.progress.ever_started
        return max(self.observed.started, self.progress.started)

    @property
    def already_current(self) -> int:
        """The fewest of the started devices that can have had the new version before."""
        return self._already_current_of(self.ever_started)

    def _already_current_of(self, started: int) -> int:
        not_started = self.progress.total - started
        return max(0, min(self.observed.already_current - not_started, self.progress.success))

    @property
    def already_current_by_counts(self) -> int:
        """The same by the platform's counts alone, without earlier looks."""
        return self._already_current_of(self.progress.ever_started)

    @property
    def devices_by_counts(self) -> int:
        """n by the platform's counts alone: earlier looks must not make a sample large enough."""
        started = self.progress.ever_started
        return started - self._already_current_of(started)

    @property
    def devices(self) -> int:
        """n: the started devices without those that had the new version before."""
        return self.ever_started - self.already_current

    @property
    def attempted(self) -> int:
        """The fewest devices of which an attempt has failed. The number never falls.

        Those whose latest attempt has failed now (fail + fail_wait_retry), or as many as earlier
        looks have seen.
        """
        now = self.progress.fail + self.progress.fail_wait_retry
        return min(max(now, self.observed.attempted), self.devices)

    @property
    def unfinished(self) -> int:
        """Started devices without an outcome, including those that wait for a retry."""
        return self.progress.processing + self.progress.fail_wait_retry

    def failed(self, classes: tuple[str, ...] | None) -> tuple[int, int]:
        """The fewest and the most failures of these classes that there can be.

        Classes and counts are not read at the same moment. Failures by which the two differ may be
        of any class.
        """
        fail = self.progress.fail
        if classes is None:
            return fail, fail
        by_class = self.observed.failures_by_class
        if by_class is None:
            return 0, fail
        count = sum(by_class.get(name, 0) for name in classes)
        unread = fail - sum(by_class.values())
        return max(0, count + min(0, unread)), min(fail, count + max(0, unread))

    def overdue(self, after_seconds: float) -> int | None:
        """The fewest devices that started longer ago and have not finished; None: unknown."""
        history, time = self.observed.history, self.observed.time
        if history is None or time is None:
            return None
        starts = history.starts_within(time, after_seconds)
        return None if starts is None else max(0, self.unfinished - starts)
