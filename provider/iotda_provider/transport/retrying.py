"""Decides which calls are retried after which error, and when; for both transports."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from iotda_provider.api import Repeat
from iotda_provider.exceptions import IoTDAServerError, IoTDAThrottledError, IoTDATransportError

if TYPE_CHECKING:
    from tenacity import RetryCallState

    from iotda_provider.connection.settings import ConnectionSettings

#: Seconds to wait for a connection.
CONNECT_SECONDS = 10.0
# With fewer seconds left, nothing is sent: the platform might act on it, but the answer would come
# too late. (Or half of the timeout, or a quarter of an attempt's time, whichever is least.)
_LEAST_SECONDS = 1.0
# Seconds by which a pause may last too long.
_LATE = 0.05
_FIRST_WAIT = 0.5
_LONGEST_WAIT = 20.0


def may_repeat(error: BaseException, repeat: Repeat) -> bool:
    """Whether a retry can help and does no harm.

    A call that does something new each time is retried only if the platform surely did not act on
    it: the call was throttled, or never sent.
    """
    if repeat is Repeat.NOT_NEEDED:
        return False
    if isinstance(error, IoTDAThrottledError):
        return True
    if isinstance(error, IoTDATransportError):
        return repeat is not Repeat.ONCE or not error.sent
    return isinstance(error, IoTDAServerError) and repeat is not Repeat.ONCE


class Warns(Protocol):
    """The methods needed of a logger; Airflow 3's is not the standard library's."""

    def debug(self, message: str, /, *args: Any) -> Any: ...
    def warning(self, message: str, /, *args: Any) -> Any: ...


_quiet: ContextVar[bool] = ContextVar("iotda_retries_quiet", default=False)


@contextmanager
def quiet_retries() -> Iterator[None]:
    """In this block, retries are logged at level DEBUG instead of WARNING.

    It is for callers that poll, and log an outage themselves once a minute.
    """
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


class RetryPolicy:
    """tenacity's ``retry``, ``wait``, ``stop`` and ``before_sleep`` for one call and its timeout.

    :param settings: gives ``max_attempts``, ``attempt_timeout`` and ``timeout``, which covers all
        attempts together, except time spent in :meth:`not_charged`
    :param repeat: what a second call does
    """

    def __init__(self, settings: ConnectionSettings, repeat: Repeat, log: Warns) -> None:
        self._settings = settings
        self._repeat = repeat
        self._log = log
        self._deadline = time.monotonic() + settings.timeout
        self._least = min(_LEAST_SECONDS, settings.timeout / 2, settings.attempt_timeout / 4)

    @property
    def remaining(self) -> float:
        """Seconds left of the connection's ``timeout``."""
        return self._deadline - time.monotonic()

    @property
    def is_urgent(self) -> bool:
        """Whether the call changes something: it does not wait for work that can wait."""
        return not self._repeat.is_read

    @property
    def may_send(self) -> bool:
        """Whether enough time is left for an answer."""
        return self.remaining >= self._least

    def seconds_for(self, action: str) -> float:
        """The seconds that the next attempt may take.

        :param action: what the call does, in words that complete "Could not ..."
        :raises IoTDATransportError: too little time is left, so nothing is sent
        """
        if not self.may_send:
            raise IoTDATransportError(
                f"Could not {action}: it was not sent, because its {self._settings.timeout:g} s "
                "were over before its turn came.",
                sent=False,
            )
        return min(self.remaining, self._settings.attempt_timeout)

    @contextmanager
    def not_charged(self) -> Iterator[None]:
        """Time spent in this block is not charged to the timeout, unless it raises.

        It is for waiting for the rate limit, and for obtaining credentials, which has a timeout of
        its own.
        """
        begun = time.monotonic()
        yield
        self._deadline += time.monotonic() - begun

    def options(self) -> dict[str, Any]:
        """Arguments for ``tenacity.Retrying`` and ``tenacity.AsyncRetrying``."""
        from tenacity import retry_if_exception

        return {
            "retry": retry_if_exception(lambda error: may_repeat(error, self._repeat)),
            "wait": self._wait,
            "stop": self._stop,
            "before_sleep": self._before_sleep,
            "reraise": True,
        }

    def _wait(self, state: RetryCallState) -> float:
        """Exponential backoff with full jitter, at least as long as the platform asks for.

        The jitter leaves time for one more attempt.
        """
        ceiling = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** (state.attempt_number - 1))
        jittered = random.uniform(0, ceiling)  # noqa: S311 - jitter is no secret
        error = state.outcome.exception() if state.outcome else None
        asked = getattr(error, "retry_after", None) or 0.0
        room = self.remaining - self._least - _LATE - asked
        return float(asked + max(0.0, min(jittered, room)))

    def _stop(self, state: RetryCallState) -> bool:
        # tenacity has computed the wait already: stop if no time would be left after it.
        return (
            state.attempt_number >= self._settings.max_attempts
            or state.upcoming_sleep > self.remaining - self._least
        )

    def _before_sleep(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        say = self._log.debug if _quiet.get() else self._log.warning
        say(
            "%s; attempt %d of %d failed, trying again in %.1f s.",
            str(error).rstrip("."),
            state.attempt_number,
            self._settings.max_attempts,
            state.upcoming_sleep,
        )
