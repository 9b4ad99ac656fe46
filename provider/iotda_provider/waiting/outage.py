"""Which errors may pass by themselves, and how long a wait tolerates them."""

from __future__ import annotations

from collections.abc import Iterable

from iotda_provider.exceptions import (
    IoTDAApiError,
    IoTDAError,
    IoTDANotFoundError,
    IoTDAServerError,
    IoTDAThrottledError,
    IoTDATransportError,
    TaskNotStoppableError,
)
from iotda_provider.models import BatchTask

#: Seconds of failing calls that a wait tolerates by default.
DEFAULT_MAX_OUTAGE = 900.0
#: Seconds between two log lines about the same outage.
LOG_EVERY = 60.0
# Seconds between two alerts about the same outage.
_ALERT_EVERY = 3600.0
# Once an outage is long: the factor on the usual interval, and the longest interval in seconds.
_SLOWER, _SLOWEST = 10.0, 300.0


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed later: the network or the platform has failed.

    An error inside a response with a success status counts too: a failing gateway sends them.
    """
    if type(error) is IoTDAApiError:
        return 200 <= error.status_code < 300
    return isinstance(error, (IoTDATransportError, IoTDAServerError, IoTDAThrottledError))


def is_gone(error: IoTDAError) -> bool:
    """Whether the platform itself says that what was asked for does not exist.

    Its answers have an error code. Its gateway, which may not know the API, has codes of its own; a
    proxy or load balancer that has lost its way to the platform answers 404 without any.
    """
    code = str(error.error_code or "").upper() if isinstance(error, IoTDANotFoundError) else ""
    return code != "" and not code.startswith("APIG")


def may_pass(error: BaseException) -> bool:
    """Whether trouble with something that was there before may pass by itself.

    A 404 that is not the platform's word may: a proxy sends it while the platform is away.
    """
    return is_transient(error) or (isinstance(error, IoTDANotFoundError) and not is_gone(error))


def is_task_ended(error: IoTDAError) -> bool:
    """Whether a stop was refused because the batch task has already ended."""
    return (
        isinstance(error, TaskNotStoppableError)
        and error.status is not None
        and error.status.is_terminal
    )


def check_stoppable(tasks: Iterable[BatchTask]) -> None:
    """Refuse batch tasks of a type that the platform does not stop.

    :raises TaskNotStoppableError: names the first such task
    """
    for task in tasks:
        if task.task_type is not None and not task.task_type.is_stoppable:
            raise TaskNotStoppableError(
                f"Batch task {task.task_id} is a {task.task_type}, which the platform does not "
                "stop: guard it with stop_on_breach=False, or as a shadow.",
                task.status,
            )


class Outage:
    """How long calls have been failing, and what follows from that.

    A wait gives up after ``max_outage``: it calls :meth:`tolerate` and :meth:`answered`. A guard
    never gives up: it calls :meth:`note_failure` and :meth:`note_success`, and looks every
    :attr:`interval`.

    :param max_outage: seconds without a successful call after which a wait gives up; after as many
        seconds a guard alerts a person and looks less often
    :param poll_interval: seconds between two looks while calls succeed
    """

    def __init__(self, max_outage: float, poll_interval: float = 0.0) -> None:
        self._max_outage = max_outage
        self._poll_interval = poll_interval
        self._logged: float | None = None
        self._alerted: float | None = None
        self._was_answered = False
        #: When the present outage began, by the caller's clock; None: there is none.
        self.since: float | None = None
        #: Whether the outage has lasted longer than ``max_outage``, or is permanent.
        self.is_long = False

    def note_failure(self, now: float, *, permanent: bool = False) -> tuple[bool, bool]:
        """Note a failed look at ``now`` (seconds of any clock).

        :param permanent: waiting will not help, so the outage counts as long at once
        :returns: whether to log the failure (once a minute), and whether to alert a person (once
            an hour while the outage is long)
        """
        if self.since is None:
            self.since = now
        self.is_long = self.is_long or permanent or now - self.since > self._max_outage
        alert = self.is_long and (self._alerted is None or now - self._alerted >= _ALERT_EVERY)
        log = alert or self._logged is None or now - self._logged >= LOG_EVERY
        self._alerted = now if alert else self._alerted
        self._logged = now if log else self._logged
        return log, alert

    def note_success(self, now: float) -> float | None:
        """Note a successful look; the seconds that the outage lasted, None: there was none."""
        if self.since is None:
            return None
        lasted = now - self.since
        self.since = self._logged = self._alerted = None
        self.is_long = False
        return lasted

    @property
    def interval(self) -> float:
        """Seconds until the next look."""
        if not self.is_long:
            return self._poll_interval
        return max(self._poll_interval, min(_SLOWER * self._poll_interval, _SLOWEST))

    def tolerate(self, error: IoTDAError, now: float) -> str | None:
        """Note a failed call at ``now``; the line to log, at most one a minute.

        :raises IoTDAError: ``error`` itself if it does not pass by itself; another one if calls
            have been failing for longer than ``max_outage``
        """
        # Before the first answer, a 404 of another host says that the connection is wrong.
        if not (may_pass if self._was_answered else is_transient)(error):
            raise error
        lasted = 0.0 if self.since is None else now - self.since
        log, _ = self.note_failure(now)
        if self.is_long:
            raise IoTDATransportError(
                f"IoTDA has not answered for {lasted:.0f} s, longer than max_outage "
                f"({self._max_outage:.0f} s). Last: {error}"
            ) from error
        left = self._max_outage - lasted
        return f"{error} Waiting on; giving up after {left:.0f} s more of this." if log else None

    def answered(self, now: float) -> str | None:
        """Note a successful call; the line to log if an outage has ended."""
        lasted, self._was_answered = self.note_success(now), True
        return None if lasted is None else f"IoTDA answers again, after {lasted:.0f} s."
