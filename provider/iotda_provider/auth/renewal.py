"""Keeps a value that expires; one caller renews it while the others wait."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from time import monotonic
from typing import Generic, TypeVar

from iotda_provider.exceptions import IoTDAAuthError, IoTDAError, IoTDATransportError
from iotda_provider.masking.sealed import without_frames

T = TypeVar("T")

_log = logging.getLogger(__name__)

# A value is renewed so many seconds before it expires, at most a quarter of its lifetime.
_LONGEST_MARGIN = 300.0
# Seconds between a failed renewal and the next, while the old value is still valid.
_PAUSE = 30.0
# Seconds that a renewal may take while the old value is valid: a call is waiting for it.
_PATIENCE = 5.0
# Seconds for which all callers get the same refusal: an issuer locks the account after several
# wrong passwords.
_REFUSED = 5.0


@dataclass(frozen=True)
class Issued(Generic[T]):
    """A value from an issuer.

    :param lifetime: seconds for which it is valid, counted from now; None: for ever
    """

    value: T
    lifetime: float | None


class Renewing(Generic[T]):
    """A value that is obtained when it is first needed, and again before it expires.

    Thread-safe. While the old value is valid, a failed renewal is no error, and only one caller
    waits for the new value: the others use the old one.

    :param obtain: gets a new value; its argument is the deadline, by ``time.monotonic()``
    :param what: its name in log lines and errors
    :param now: the clock, in seconds
    """

    def __init__(
        self,
        obtain: Callable[[float], Issued[T]],
        what: str,
        now: Callable[[], float] = lambda: time.time(),
    ) -> None:
        self._obtain = obtain
        self._what = what
        self._now = now
        self._lock = threading.Lock()
        self._under_way: Future[None] | None = None
        self._issued: Issued[T] | None = None
        self._refusal: IoTDAAuthError | None = None
        self._refused_at = float("-inf")
        self._renew_at = self._expires_at = self._pause_until = float("-inf")

    @property
    def value(self) -> T:
        """The newest value; during a renewal, the old one.

        :raises RuntimeError: there was no :meth:`renew` yet
        """
        issued = self._issued
        if issued is None:
            raise RuntimeError(f"{self._what}: prepare() comes first")
        return issued.value

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the value expires; None: it does not, or there is none yet."""
        with self._lock:
            left = self._expires_at - self._now()
        return None if self._issued is None or left == float("inf") else left

    def is_fresh(self, *, urgent: bool = False) -> bool:
        """Whether the value can be used without renewing it first.

        :param urgent: the caller has no time to renew a value that is still valid
        """
        with self._lock:
            return self._is_fresh() or (urgent and self._now() < self._expires_at)

    def _is_fresh(self) -> bool:
        if self._issued is None:
            return False
        now = self._now()
        is_left_alone = now < self._pause_until or self._under_way is not None
        return now < self._renew_at or (now < self._expires_at and is_left_alone)

    def renew(self, deadline: float = float("inf")) -> None:
        """Obtain a new value unless the present one is fresh; one of several callers does it.

        :param deadline: when to give up, by ``time.monotonic()``
        :raises IoTDAError: it can't be obtained; all that waited for the same attempt get this
            error, and a refusal is also raised to callers within the next seconds
        """
        while True:
            with self._lock:
                if self._is_fresh():
                    return
                if self._refusal and 0 <= self._now() - self._refused_at < _REFUSED:
                    raise self._refusal.with_traceback(None)
                attempt = self._under_way
                if attempt is None:
                    mine = self._under_way = Future()
                    break
            if self._awaited(attempt, deadline):
                return
        try:
            self._renew_now(deadline)
        except BaseException as error:
            self._under_way = None
            mine.set_exception(error)
            raise
        self._under_way = None
        mine.set_result(None)

    def _awaited(self, attempt: Future[None], deadline: float) -> bool:
        """Wait for another caller's attempt: True if it succeeded, False if it was interrupted."""
        seconds = max(0.0, deadline - monotonic())
        try:
            error = attempt.exception(None if seconds == float("inf") else seconds)
        except FutureTimeoutError:
            raise IoTDATransportError(
                f"{self._what} is still being obtained, and there is no time to wait for it.",
                sent=False,
            ) from None
        if isinstance(error, IoTDAError):
            raise error
        # Such as a task's timeout, which concerns only the caller that made the attempt.
        return error is None

    def _renew_now(self, deadline: float) -> None:
        if self._now() < self._expires_at:
            deadline = min(deadline, monotonic() + _PATIENCE)
        with without_frames():  # frames hold passwords, tokens and keys
            try:
                issued = self._obtain(deadline)
            except IoTDAError as error:
                with self._lock:
                    now = self._now()
                    left = self._expires_at - now
                    self._pause_until = now + _PAUSE
                    if isinstance(error, IoTDAAuthError):
                        self._refusal, self._refused_at = error, now
                if left <= 0:
                    raise
                _log.warning(
                    "%s could not be renewed, it is good for %.0f s more: %s",
                    self._what,
                    left,
                    error,
                )
                return
        self._keep(issued)

    def _keep(self, issued: Issued[T]) -> None:
        with self._lock:
            self._issued = issued
            lifetime = float("inf") if issued.lifetime is None else issued.lifetime
            self._expires_at = self._now() + lifetime
            self._renew_at = self._expires_at - min(_LONGEST_MARGIN, lifetime / 4)
            self._pause_until = float("-inf")
            self._refusal = None

    def discard(self, is_it: Callable[[T], bool]) -> None:
        """Treat the value as expired if ``is_it`` recognises it as the one that was refused."""
        with self._lock:
            if self._issued is not None and is_it(self._issued.value):
                self._renew_at = self._expires_at = float("-inf")
