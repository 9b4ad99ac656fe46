"""What is seen of a rollout: one look at it, and what a rule may know besides the counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from iotda_provider.guards import validation
from iotda_provider.guards.start_history import History
from iotda_provider.models import BatchTask, TaskProgress

ClusterCounts = tuple[int, int]
"""(failed, started) devices of one cluster."""


def total_progress(progresses: Iterable[TaskProgress]) -> TaskProgress:
    """The counts of a rollout that is split over several tasks: the sums of theirs."""
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
        validation.whole("already_current", self.already_current)
        validation.flag("being_stopped", self.being_stopped)
        for name, count in (self.failures_by_class or {}).items():
            validation.choice("failures_by_class", name, validation.CLASSES)
            validation.whole(f"failures_by_class[{name!r}]", count)
        for name, counts in (self.clusters or {}).items():
            validation.pair(f"clusters[{name!r}]", counts)


@dataclass(frozen=True, kw_only=True)
class Look(_Seen):
    """One look at a rollout: what a poll brought home.

    :param time: when, in seconds since the epoch; looks should come in order
    :param progress: the platform's counts, summed over the rollout's tasks
    :param failures_by_class: how many of the failed devices are of which class; None: not read
    :param clusters: (failed, started) devices of each cluster (a site, a hardware batch), all
        classes of failure together; 0 started where that is not known; None: not read
    :param already_current: how many targets ran the version before, which the platform reports as
        instant successes. Count them among the started devices where you can, in the whole task
        otherwise: a stopping rule leaves out as few as it may, a gate as many
    :param being_stopped: somebody is stopping the task, or has stopped it: no rule is evaluated
    :param tasks: the counts of each batch task by its id, from which the started devices are
        counted; None: ``progress`` is that of one task, or of the rollout as a whole
    :param deficit: devices that the counts may lack, where they have not added up for three looks
        in a row (:class:`~iotda_provider.guards.miscounts.Miscounts`); they are judged by bounds
        then
    :param surplus: devices that they may have too many of, likewise
    """

    time: float
    progress: TaskProgress
    tasks: Mapping[str, TaskProgress] | None = None
    deficit: int = 0
    surplus: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        validation.moment("time", self.time)
        validation.whole("deficit", self.deficit)
        validation.whole("surplus", self.surplus)

    @property
    def can_be_judged(self) -> bool:
        """Whether the counts add up, or bounds are known within which they are wrong."""
        return bool(self.deficit or self.surplus) or self.progress.adds_up

    @classmethod
    def of(
        cls,
        tasks: BatchTask | Iterable[BatchTask],
        *,
        time: float,
        failures_by_class: Mapping[str, int] | None = None,
        clusters: Mapping[str, ClusterCounts] | None = None,
        already_current: int = 0,
        deficit: int = 0,
        surplus: int = 0,
    ) -> Look:
        """A look at the tasks of one rollout, which is judged by their summed counts."""
        parts = (tasks,) if isinstance(tasks, BatchTask) else tuple(tasks)
        return cls(
            time=time,
            progress=total_progress(task.progress for task in parts),
            being_stopped=any(task.status.is_stop for task in parts),
            failures_by_class=failures_by_class,
            clusters=clusters,
            already_current=already_current,
            tasks={task.task_id: task.progress for task in parts},
            deficit=deficit,
            surplus=surplus,
        )

    def with_classes(self, failures_by_class: Mapping[str, int]) -> Look:
        """The same look, now that the failed subtasks were read."""
        return replace(self, failures_by_class=failures_by_class)


@dataclass(frozen=True, kw_only=True)
class Observed(_Seen):
    """What a rule may know besides the counts of this look; all of it is optional.

    The first four are those of :class:`Look`. The others come from earlier looks and are filled in
    by :func:`~iotda_provider.guards.evaluate`.

    :param started: how many devices have ever started, as far as was seen; None: the history is
        lost, and stopped and removed devices are taken to have started
    :param time: the time of this look, in seconds
    :param still_since: since when no device has started or finished, in seconds
    :param history: how many starts there were by which time
    """

    started: int | None = None
    time: float | None = None
    still_since: float | None = None
    history: History | None = None


@dataclass(frozen=True)
class Counts:
    """The counts that rules reckon with, each taken to the side that spares a healthy rollout.

    :param progress: the platform's counts
    :param observed: what else is known
    """

    progress: TaskProgress
    observed: Observed

    @property
    def ever_started(self) -> int:
        """Started devices, never fewer than before, whoever has stopped some of them since."""
        if self.observed.started is None:
            return self.progress.ever_started
        return max(self.observed.started, self.progress.started)

    @property
    def current(self) -> int:
        """Started devices that had the version before: at least so many of them."""
        return self._current_of(self.ever_started)

    def _current_of(self, started: int) -> int:
        not_started = self.progress.total - started
        return max(0, min(self.observed.already_current - not_started, self.progress.success))

    @property
    def current_by_counts(self) -> int:
        """The same by the platform's counts alone: no history makes it more."""
        return self._current_of(self.progress.ever_started)

    @property
    def devices_by_counts(self) -> int:
        """n by the platform's counts alone, for a smallest sample: no history makes it more."""
        started = self.progress.ever_started
        return started - self._current_of(started)

    @property
    def devices(self) -> int:
        """n: the started devices that had something to do; failures are measured against them."""
        return self.ever_started - self.current

    @property
    def unfinished(self) -> int:
        """Started devices without an outcome, the ones that wait for a retry included."""
        return self.progress.processing + self.progress.fail_wait_retry

    def failed(self, classes: tuple[str, ...] | None) -> tuple[int, int]:
        """The least and the most failures of these classes that there can be.

        Classes are read a little later than the counts, or were read a little earlier: what the
        two disagree by may be of any class.
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
        """Devices that started longer ago and have not finished, at least; None: no history."""
        history, time = self.observed.history, self.observed.time
        if history is None or time is None:
            return None
        starts = history.starts_within(time, after_seconds)
        return None if starts is None else max(0, self.unfinished - starts)
