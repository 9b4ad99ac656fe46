"""What is waited for, and whether it has come: one judgement for workers and triggerers alike.

Nothing here does I/O, so the blocking loop, the sensor's poke and the trigger can only agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from iotda_provider.exceptions import (
    BatchTaskFailedError,
    BatchTaskTimeoutError,
    IoTDAApiError,
    IoTDAError,
    IoTDANotFoundError,
    IoTDAServerError,
    IoTDAThrottledError,
    IoTDATransportError,
    TaskNotStoppableError,
)
from iotda_provider.models import BatchTask, TaskStatus
from iotda_provider.models.text import what_is

#: Seconds of trouble at the API that a wait outlives by default.
DEFAULT_MAX_OUTAGE = 900.0
#: Seconds between two log lines about the same trouble.
SAY_EVERY = 60.0
#: Seconds after which a person is told of the same trouble once more.
_TELL_EVERY = 3600.0
# While trouble is long: how many times the usual interval, and at most how many seconds.
_SLOWER, _SLOWEST = 10.0, 300.0
# A look may be under way when the time is over: the connection's timeout, with room.
_AIRFLOW_MARGIN = 60.0

ENDED = tuple(str(status) for status in TaskStatus if status.is_terminal)


class Judgement(Enum):
    """What a look at a batch task means for whoever waits for it."""

    WAIT = "wait"
    REACHED = "reached"
    FAILED = "failed"
    ENDED_OTHERWISE = "ended_otherwise"


def task_statuses(values: Iterable[TaskStatus | str], name: str) -> tuple[str, ...]:
    """Statuses as the platform spells them.

    :raises ValueError: one is unknown; names the parameter
    """
    if isinstance(values, str):
        values = (values,)
    found: list[str] = []
    known = ", ".join(str(status) for status in TaskStatus)
    form = f"{name} must hold statuses of batch tasks ({known})"
    if isinstance(values, (bytes, Mapping)) or not isinstance(values, Iterable):
        raise ValueError(f"{form}, got {what_is(values, instead_of='a list')}")
    for value in values:
        try:
            found.append(str(TaskStatus(value)))
        except (ValueError, TypeError):
            raise ValueError(f"{form}, got [{what_is(value)}]") from None
    return tuple(found)


@dataclass(frozen=True)
class TaskWait:
    """A wait for a batch task to reach one of some statuses.

    :param batch_task_id: the task
    :param target_statuses: the wait is over when the task is in one of them
    :param failure_statuses: the wait has failed when the task is in one of them; looked at first
    """

    batch_task_id: str
    target_statuses: tuple[str, ...] = ENDED
    failure_statuses: tuple[str, ...] = ()

    def judge(self, task: BatchTask) -> Judgement:
        """What the task's present status means.

        A task that has ended in a status that is neither a target nor a failure will not change
        any more, so waiting on would be waiting for the timeout.
        """
        if task.status in self.failure_statuses:
            return Judgement.FAILED
        if task.status in self.target_statuses:
            return Judgement.REACHED
        return Judgement.ENDED_OTHERWISE if task.status.is_terminal else Judgement.WAIT

    def is_over(self, task: BatchTask) -> bool:
        """Whether the wait is over.

        :raises BatchTaskFailedError: the task is where it was not to be
        """
        judgement = self.judge(task)
        if judgement is Judgement.FAILED:
            raise BatchTaskFailedError(
                f"Batch task {task.task_id} is {task.status}: {task.progress}.", task
            )
        if judgement is Judgement.ENDED_OTHERWISE:
            raise BatchTaskFailedError(
                f"Batch task {task.task_id} ended as {task.status} and will not become "
                f"{' or '.join(self.target_statuses)}: {task.progress}.",
                task,
            )
        return judgement is Judgement.REACHED

    def timeout_error(self, timeout: float, seen: str = "") -> BatchTaskTimeoutError:
        """What is raised where the wait was not over in time.

        :param timeout: the limit, in seconds
        :param seen: the task as it was last seen, in words
        """
        return BatchTaskTimeoutError(
            f"Batch task {self.batch_task_id} is not {' or '.join(self.target_statuses)} after "
            f"{timeout:.0f} s; last seen {seen or 'never'}. A stop that was accepted goes on at "
            "the platform; raise timeout to wait for it."
        )


def is_trouble(error: BaseException) -> bool:
    """Whether an error may pass by itself: the trouble is the network's or the platform's.

    Of an error inside a success nobody can say that it is final: a gateway in trouble sends them.
    """
    if type(error) is IoTDAApiError:
        return 200 <= error.status_code < 300
    return isinstance(error, (IoTDATransportError, IoTDAServerError, IoTDAThrottledError))


def is_gone(error: IoTDAError) -> bool:
    """Whether the platform says that there is no such task, as against no such API."""
    if not isinstance(error, IoTDANotFoundError):
        return False
    return not str(error.error_code or "").upper().startswith("APIG")


def has_ended(error: IoTDAError) -> bool:
    """Whether a stop was refused because the task has run to its end."""
    return (
        isinstance(error, TaskNotStoppableError)
        and error.status is not None
        and error.status.is_terminal
    )


def check_stoppable(tasks: Iterable[BatchTask]) -> None:
    """Whether the platform would stop these tasks at all.

    :raises TaskNotStoppableError: one of them it would not
    """
    for task in tasks:
        if task.task_type is not None and not task.task_type.is_stoppable:
            raise TaskNotStoppableError(
                f"Batch task {task.task_id} is a {task.task_type}, which the platform does not "
                "stop: guard it with stop_on_breach=False, or as a shadow.",
                task.status,
            )


@dataclass(frozen=True)
class Deadline:
    """When a wait is over, and what says so.

    :param at: the moment, in seconds since 1970, so that it outlives any process
    :param limit: the parameter that it comes from: ``timeout`` or ``execution_timeout``
    """

    at: float
    limit: str = "timeout"

    @classmethod
    def of(
        cls, timeout: float, execution_timeout: timedelta | None, *, began: float, now: float
    ) -> Deadline:
        """The earlier of both limits.

        :param timeout: seconds from ``now``
        :param execution_timeout: Airflow's limit, from ``began``
        """
        own = cls(now + timeout)
        if execution_timeout is None:
            return own
        whole = cls(began + execution_timeout.total_seconds(), "execution_timeout")
        return min(own, whole, key=lambda deadline: deadline.at)

    def for_airflow(self, poll_interval: float, *, now: float) -> timedelta:
        """The framework's own limit of a deferral: late enough for the trigger to speak first.

        A limit of the framework reaches no method of the task, so it is for a triggerer that is
        away and does not come back.
        """
        return timedelta(seconds=max(0.0, self.at - now) + 2 * poll_interval + _AIRFLOW_MARGIN)


class Outage:
    """How long the API has been in trouble, and what follows from that.

    A wait that gives up after ``max_outage`` calls :meth:`outlive` and :meth:`answered`. A guard
    never gives up: it calls :meth:`trouble` and :meth:`over`, and looks every :attr:`interval`.

    :param max_outage: seconds of trouble without one good answer, after which a wait gives up; a
        guard tells a person then, and looks less often
    :param poll_interval: seconds between two looks in good times
    """

    def __init__(self, max_outage: float, poll_interval: float = 0.0) -> None:
        self._max_outage = max_outage
        self._poll_interval = poll_interval
        self._logged: float | None = None
        self._told: float | None = None
        #: When the present trouble began, by the caller's clock; None: there is none.
        self.since: float | None = None
        #: Whether the trouble has lasted longer than ``max_outage``, or will not pass by itself.
        self.is_long = False

    def trouble(self, now: float, *, hopeless: bool = False) -> tuple[bool, bool]:
        """Note a failed look at ``now`` (seconds of any clock).

        :param hopeless: it will not pass by itself, so nobody waits for ``max_outage``
        :returns: whether to log it (once a minute), and whether to tell a person (once an hour of
            long trouble)
        """
        if self.since is None:
            self.since = now
        self.is_long = self.is_long or hopeless or now - self.since > self._max_outage
        tell = self.is_long and (self._told is None or now - self._told >= _TELL_EVERY)
        say = tell or self._logged is None or now - self._logged >= SAY_EVERY
        self._told = now if tell else self._told
        self._logged = now if say else self._logged
        return say, tell

    def over(self, now: float) -> float | None:
        """Note a good look; for how many seconds there was none, where there was trouble."""
        if self.since is None:
            return None
        lasted = now - self.since
        self.since = self._logged = self._told = None
        self.is_long = False
        return lasted

    @property
    def interval(self) -> float:
        """Seconds until the next look."""
        if not self.is_long:
            return self._poll_interval
        return max(self._poll_interval, min(_SLOWER * self._poll_interval, _SLOWEST))

    def outlive(self, error: IoTDAError, now: float) -> str | None:
        """Note a failed call at ``now``; the line to log, one a minute.

        :raises IoTDAError: the same error where it will not pass by itself, another one where the
            trouble has lasted longer than ``max_outage``
        """
        if not is_trouble(error):
            raise error
        lasted = 0.0 if self.since is None else now - self.since
        say, _ = self.trouble(now)
        if self.is_long:
            raise IoTDATransportError(
                f"IoTDA has not answered for {lasted:.0f} s, longer than max_outage "
                f"({self._max_outage:.0f} s). Last: {error}"
            ) from error
        left = self._max_outage - lasted
        return f"{error} Waiting on; giving up after {left:.0f} s more of this." if say else None

    def answered(self, now: float) -> str | None:
        """Note a good answer; the line to log where there was trouble before."""
        lasted = self.over(now)
        return None if lasted is None else f"IoTDA answers again, after {lasted:.0f} s."
