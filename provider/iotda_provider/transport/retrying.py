"""Which calls are repeated after which error, and when: one policy for both transports."""

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

#: Seconds to wait for a connection, which is either there soon or not at all.
CONNECT_SECONDS = 10.0
# Where less than this is left (than half of a short timeout, or a quarter of a short attempt), no
# answer can be hoped for: what is sent then may be acted upon, and nobody would know.
_LEAST_SECONDS = 1.0
# What a pause may last longer than it was to.
_LATE = 0.05
_FIRST_WAIT = 0.5
_LONGEST_WAIT = 20.0


def may_repeat(error: BaseException, repeat: Repeat) -> bool:
    """Whether asking again can help and can do no harm.

    A call that does something new each time is repeated only where it surely was not acted upon:
    it was throttled, or never sent.
    """
    if isinstance(error, IoTDAThrottledError):
        return True
    if isinstance(error, IoTDATransportError):
        return repeat is not Repeat.ONCE or not error.sent
    return isinstance(error, IoTDAServerError) and repeat is not Repeat.ONCE


class Warns(Protocol):
    """What is needed of a logger; Airflow 3's is not one of the standard library."""

    def debug(self, message: str, /, *args: Any) -> Any: ...
    def warning(self, message: str, /, *args: Any) -> Any: ...


_unsaid: ContextVar[bool] = ContextVar("iotda_retries_unsaid", default=False)


@contextmanager
def retries_unsaid() -> Iterator[None]:
    """Within it, attempts that fail are logged for debugging only.

    It is for whoever asks again and again and says himself, once a minute, what the matter is.
    """
    token = _unsaid.set(True)
    try:
        yield
    finally:
        _unsaid.reset(token)


class RetryPolicy:
    """tenacity's ``retry``, ``wait``, ``stop`` and ``before_sleep`` for one call, within one time
    budget.

    :param settings: gives ``max_attempts``, ``attempt_timeout`` and ``timeout``, which covers all
        attempts together, but not what is done :meth:`beside_the_budget`
    :param repeat: what asking a second time does
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
        """Whether the call changes something: it waits for nothing that can be put off."""
        return self._repeat is not Repeat.READ

    @property
    def may_send(self) -> bool:
        """Whether an answer can be hoped for in the time that is left."""
        return self.remaining >= self._least

    def seconds_for(self, action: str) -> float:
        """The time in which an answer must come, or the next attempt is made.

        :param action: what the call does, in words that complete "Could not ..."
        :raises IoTDATransportError: it is too short for one, and so nothing may be sent
        """
        if not self.may_send:
            raise IoTDATransportError(
                f"Could not {action}: it was not sent, because its {self._settings.timeout:g} s "
                "were over before its turn came.",
                sent=False,
            )
        return min(self.remaining, self._settings.attempt_timeout)

    @contextmanager
    def beside_the_budget(self) -> Iterator[None]:
        """Leave what is done within out of the budget, unless it fails.

        It is for the wait for our own rate limit, and for obtaining credentials, which has limits
        of its own.
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
        """Exponential backoff with full jitter, and never sooner than the platform asked for.

        Our own part of it never takes the time in which one more attempt can be made.
        """
        ceiling = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** (state.attempt_number - 1))
        jittered = random.uniform(0, ceiling)  # noqa: S311 - jitter is no secret
        error = state.outcome.exception() if state.outcome else None
        asked = getattr(error, "retry_after", None) or 0.0
        room = self.remaining - self._least - _LATE - asked
        return float(asked + max(0.0, min(jittered, room)))

    def _stop(self, state: RetryCallState) -> bool:
        # tenacity has computed the wait already: do not begin one after which nothing can be sent.
        return (
            state.attempt_number >= self._settings.max_attempts
            or state.upcoming_sleep > self.remaining - self._least
        )

    def _before_sleep(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        say = self._log.debug if _unsaid.get() else self._log.warning
        say(
            "%s; attempt %d of %d failed, trying again in %.1f s.",
            str(error).rstrip("."),
            state.attempt_number,
            self._settings.max_attempts,
            state.upcoming_sleep,
        )
