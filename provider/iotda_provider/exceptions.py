"""The provider's errors. Each carries its facts, and prints as one line that says what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

if TYPE_CHECKING:
    from iotda_provider.models import BatchTask, TargetResult, TaskStatus


class IoTDAError(AirflowException):
    """The base class of every error that this provider raises on purpose."""


class IoTDAConfigError(IoTDAError):
    """The connection or a parameter is wrong; nothing was sent."""


class IoTDAParameterError(IoTDAConfigError, ValueError):
    """A parameter in a DAG is wrong, whatever its templates render to; raised when it is parsed."""


class IoTDATransportError(IoTDAError):
    """No usable answer arrived: the host is unreachable, or its answer is late, cut off or no JSON.

    :param sent: whether the request may have reached the platform; if so, nobody knows whether the
        platform acted on it
    """

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class IoTDAApiError(IoTDAError):
    """The platform answered with an error.

    :param status_code: the HTTP status
    :param error_code: the platform's code, such as ``IOTDA.014219``; None: it sent none
    :param error_msg: the platform's text; None: it sent none
    :param request_id: the answer's ``X-Request-Id``, which the vendor's support asks for
    :param action: what failed, such as ``stop batch task 5c8f...``
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
        # AirflowException declares status_code as a constant of its class.
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
    """Rebuilds a pickled error: its keyword-only facts are kept, as between two processes."""
    error = kind.__new__(kind)
    error.__dict__.update(facts)
    Exception.__init__(error, str(error))
    return error


class IoTDAAuthError(IoTDAApiError):
    """401 or 403: the credentials are wrong, or may not do this."""


class IoTDANotFoundError(IoTDAApiError):
    """404: there is no such task, device, package or path."""


class IoTDAThrottledError(IoTDAApiError):
    """Too many requests (429, or 403 with a rate limit's code)."""


class IoTDAServerError(IoTDAApiError):
    """5xx: the platform or its gateway failed; nobody knows whether the platform acted."""


class TaskNotStoppableError(IoTDAError):
    """The platform will never stop this task.

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
    """The batch task did not reach the wanted status in time. The XComs hold what is known."""


class TargetFailuresError(IoTDAError, AirflowFailException):
    """Some of the requested targets could not be stopped, retried or confirmed. No retry helps.

    :param failed: their results
    """

    def __init__(self, message: str, failed: Sequence[TargetResult] = ()) -> None:
        super().__init__(message)
        self.failed = tuple(failed)


class StopNotAllowedError(IoTDAError, AirflowFailException):
    """A release does not begin, because its connection may not stop a batch task.

    No retry helps. Nothing was confirmed and nothing was stopped.
    """


class BatchTaskDiffersError(IoTDAError, AirflowFailException):
    """A batch task has this task instance's stamp in its name, but is for something else.

    No retry helps. Nothing was stopped, and nothing was created unless the message says so.
    """


class OtaPackageDiffersError(IoTDAError, AirflowFailException):
    """The product has an upgrade package of this type and version, but of something else.

    No retry helps. Nothing was changed, and nothing was created unless the message says so.
    """
