"""Makes the examination's calls: it keeps their errors, their times and what had to be repeated."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from iotda_provider.api import Call
from iotda_provider.exceptions import IoTDAApiError, IoTDAError, IoTDATransportError
from iotda_provider.hooks.shared import connection_fails
from iotda_provider.waiting.outage import is_gone

if TYPE_CHECKING:
    from iotda_provider.hooks.iotda import IoTDAHook

T = TypeVar("T")

# After so many calls in a row without an answer, no further one is made: each takes its timeout.
_MOST_SILENT = 2


@dataclass(frozen=True)
class Asked(Generic[T]):
    """The answer to one call: its result, or its error."""

    result: T | None = None
    error: IoTDAError | None = None

    @property
    def status(self) -> int | None:
        """The HTTP status of a refusal."""
        return self.error.status_code if isinstance(self.error, IoTDAApiError) else None

    @property
    def is_gone(self) -> bool:
        """Whether the platform says that what was asked for does not exist."""
        return self.error is not None and is_gone(self.error)

    @property
    def code(self) -> str:
        """A refusal in short: its status and the platform's code."""
        if isinstance(self.error, IoTDAApiError):
            return f"HTTP {self.error.status_code} {self.error.error_code or ''}".strip()
        return ""


class Caller:
    """Makes calls one after the other, each with the connection's own retries.

    :param hook: its log is replaced: what is repeated is counted
    """

    def __init__(self, hook: IoTDAHook) -> None:
        self._hook = hook
        self._silent: IoTDAError | None = None
        self._unanswered = 0
        #: Seconds of each answered call.
        self.seconds: list[float] = []
        #: How often a call was repeated, by the status or the kind of trouble.
        self.repeated: Counter[str] = Counter()
        self.failed_in_transport = 0

    def ask(self, call: Call[T]) -> Asked[T]:
        """Make one call."""
        return self._timed(lambda: self._hook._perform(call))

    def head(self, path: str, query: Mapping[str, str]) -> Asked[Mapping[str, str]]:
        """The headers of the answer to a GET, in lower case, whatever its status."""

        def read() -> Mapping[str, str]:
            response = self._hook.run(
                path, params=query, extra_options={"check_response": False}, method="GET"
            )
            return {name.lower(): value for name, value in response.headers.items()}

        return self._timed(read)

    def _timed(self, act: Callable[[], T]) -> Asked[T]:
        if self._silent is not None:
            return Asked(error=self._silent)
        self._hook._transport.log = self
        begun = time.monotonic()
        try:
            result = act()
        except IoTDAError as error:
            if isinstance(error, IoTDATransportError):
                self.failed_in_transport += 1
                self._unanswered += 1
                if self._unanswered >= _MOST_SILENT:
                    self._silent = IoTDAError(
                        "not tried, because the platform does not answer (see the first failure)"
                    )
            elif isinstance(error, IoTDAApiError):
                self._answered(time.monotonic() - begun)
            return Asked(error=error)
        self._answered(time.monotonic() - begun)
        return Asked(result)

    def _answered(self, seconds: float) -> None:
        self._unanswered = 0
        self.seconds.append(seconds)

    # The transport's log: one line for each attempt that is repeated.

    def debug(self, message: str, /, *args: Any) -> None:
        """Nothing is said of it."""

    def warning(self, message: str, /, *args: Any) -> None:
        """Count an attempt that failed and is repeated."""
        status = re.search(r"HTTP (\d{3})", str(args[0])) if args else None
        self.repeated[f"HTTP {status[1]}" if status else "no usable answer"] += 1


def said(error: BaseException) -> str:
    """An error in one line, in the words of a connection test."""
    return connection_fails(error)[1]
