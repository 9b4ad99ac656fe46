"""The family of errors: caught by type, carrying the facts, printed in one line that helps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iotda_provider.models import BatchTask, TargetResult, TaskStatus


class IoTDAError(AirflowException):
    """The root of everything that this provider raises on purpose."""


class IoTDAConfigError(IoTDAError):
    """The connection or a parameter is wrong; nothing was sent."""


class IoTDAParameterError(IoTDAConfigError, ValueError):
    """A parameter in a DAG can't be right, whatever it is rendered to; raised as it is parsed."""


class IoTDATransportError(IoTDAError):
    """No usable answer arrived: unreachable, timed out, cut off, or not JSON.

    :param sent: whether the request may have reached the platform; if so, whether it acted is
        unknown
    """

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class IoTDAApiError(IoTDAError):
    """The platform answered with an error.

    :param status_code: the HTTP status
    :param error_code: the platform's code, such as ``IOTDA.014219`` (None where it sent none)
    :param error_msg: the platform's text
    :param request_id: the answer's ``X-Request-Id``, which the vendor's support asks for
    :param action: what was being done, such as ``stop batch task 5c8f...``
    :param hint: what the user can do about it
    :param retry_after: seconds after which the platform asks to be called again
    """

    def __init__(
        self,
        status_code: int,
        error_code: str | None = None,
        error_msg: str | None = None,
        request_id: str | None = None,
        *,
        action: str | None = None,
        hint: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        # AirflowException declares it as the status of its own API.
        self.status_code: int = status_code  # type: ignore[assignment]
        self.error_code = error_code
        self.error_msg = error_msg
        self.request_id = request_id
        self.action = action
        self.hint = hint
        self.retry_after = retry_after
        super().__init__(str(self))

    def __str__(self) -> str:
        said = " ".join(part for part in (self.error_code, self.error_msg) if part)
        text = f"HTTP {self.status_code}" + (f": {said}" if said else "")
        if self.action:
            text = f"Could not {self.action}: {text}"
        if self.hint:
            text = f"{text.rstrip('.')}. {self.hint}"
        if self.request_id:
            text = f"{text} (request id {self.request_id})"
        return text

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_api_error, (type(self), dict(self.__dict__)))


def _rebuild_api_error(kind: type[IoTDAApiError], facts: dict[str, object]) -> IoTDAApiError:
    """Pickle support: an error with keyword-only facts survives a process boundary whole."""
    error = kind.__new__(kind)
    error.__dict__.update(facts)
    Exception.__init__(error, str(error))
    return error


class IoTDAAuthError(IoTDAApiError):
    """401 or 403: who called is not known, or may not do this."""


class IoTDANotFoundError(IoTDAApiError):
    """404: no such task, device, package or path."""


class IoTDAThrottledError(IoTDAApiError):
    """429: too many requests; ``retry_after`` says when to come back, where the platform does."""


class IoTDAServerError(IoTDAApiError):
    """5xx: the platform or its gateway is in trouble; whether it acted is unknown."""


class TaskNotStoppableError(IoTDAError):
    """The platform will not stop this task, now or ever.

    :param status: the status that the task was found in
    """

    def __init__(self, message: str, status: TaskStatus | None = None) -> None:
        super().__init__(message)
        self.status = status


class BatchTaskFailedError(IoTDAError):
    """The batch task reached a status that counts as a failure.

    :param task: the task as it was last read
    """

    def __init__(self, message: str, task: BatchTask | None = None) -> None:
        super().__init__(message)
        self.task = task


class BatchTaskTimeoutError(IoTDAError):
    """The batch task did not get there in time; what is known so far is in the XComs."""


class TargetFailuresError(IoTDAError, AirflowFailException):
    """Some of the requested targets could not be stopped, retried or confirmed; no retry helps.

    :param failed: their results
    """

    def __init__(self, message: str, failed: Sequence[TargetResult] = ()) -> None:
        super().__init__(message)
        self.failed = tuple(failed)


class NotHeldError(IoTDAConfigError, AirflowFailException):
    """Devices of a batch task run that no wave has let start: waves protect nobody there.

    No retry helps; nothing was confirmed and nothing was stopped.
    """


class StopNotAllowedError(IoTDAError, AirflowFailException):
    """A release does not begin, as its connection may not stop a batch task.

    No retry helps; nothing was confirmed and nothing was stopped.
    """


class BatchTaskDiffersError(IoTDAError, AirflowFailException):
    """A batch task bears this task instance's stamp, and is for something else.

    No retry helps; nothing was created beside it, unless the message says so, and nothing stopped.
    """
