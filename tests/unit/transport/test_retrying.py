"""Calls are repeated by what repeating them means, within the connection's limits."""

from __future__ import annotations

import logging
import random
from typing import Any

import pytest
from tenacity import Retrying

from iotda_provider.api import Repeat
from iotda_provider.connection.settings import ConnectionSettings
from iotda_provider.exceptions import (
    IoTDAApiError,
    IoTDAAuthError,
    IoTDAError,
    IoTDAServerError,
    IoTDAThrottledError,
    IoTDATransportError,
)
from iotda_provider.transport.retrying import RetryPolicy, may_repeat

NOT_SENT = IoTDATransportError("nothing answers there", sent=False)
LOST = IoTDATransportError("the connection broke")
THROTTLED = IoTDAThrottledError(429)
BROKEN = IoTDAServerError(502)


def policy(repeat: Repeat = Repeat.READ, **limits: Any) -> RetryPolicy:
    settings = ConnectionSettings("iotda_default", "https://iotda.example", **limits)
    return RetryPolicy(settings, repeat, logging.getLogger(__name__))


class Clock:
    """Sleeps at once, and remembers for how long."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        monkeypatch.setattr("iotda_provider.transport.retrying.time.monotonic", lambda: self.now)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def attempts_until(
    policy: RetryPolicy, clock: Clock, errors: list[IoTDAError]
) -> tuple[int, list[float]]:
    """How many attempts meet ``errors``, the last of which repeats, and the waits between them."""
    count = 0

    def attempt() -> None:
        nonlocal count
        count += 1
        raise errors[min(count, len(errors)) - 1]

    with pytest.raises(IoTDAError):
        Retrying(**policy.options(), sleep=clock.sleep)(attempt)
    return count, clock.slept


@pytest.mark.parametrize(
    ("error", "read", "harmless", "once"),
    [
        (NOT_SENT, True, True, True),
        (LOST, True, True, False),
        (THROTTLED, True, True, True),
        (BROKEN, True, True, False),
        (IoTDAAuthError(401), False, False, False),
        (IoTDAApiError(400), False, False, False),
        (KeyboardInterrupt(), False, False, False),
    ],
)
def test_what_may_be_repeated(error: BaseException, read: bool, harmless: bool, once: bool) -> None:
    assert may_repeat(error, Repeat.READ) is read
    assert may_repeat(error, Repeat.HARMLESS) is harmless
    assert may_repeat(error, Repeat.ONCE) is once


def test_attempts_are_counted(clock: Clock) -> None:
    count, slept = attempts_until(policy(max_attempts=3), clock, [BROKEN])
    assert (count, len(slept)) == (3, 2)


def test_waits_are_drawn_from_nothing_to_a_ceiling_that_doubles(clock: Clock) -> None:
    random.seed(7)
    waits = [_waits(clock) for _ in range(200)]
    for position, ceiling in enumerate((0.5, 1.0, 2.0, 4.0)):
        drawn = [wait[position] for wait in waits]
        assert 0 <= min(drawn) < 0.1 * ceiling
        assert 0.9 * ceiling < max(drawn) <= ceiling


def _waits(clock: Clock) -> list[float]:
    clock.slept = []
    return attempts_until(policy(max_attempts=5, timeout=1e6), clock, [BROKEN])[1]


def test_retry_after_is_the_least_to_wait(clock: Clock) -> None:
    asked = IoTDAThrottledError(429, retry_after=7.0)

    _, (first, *_) = attempts_until(policy(), clock, [asked, BROKEN])

    assert 7.0 <= first <= 7.5


def test_no_wait_begins_that_outlasts_the_timeout(clock: Clock) -> None:
    asked = IoTDAThrottledError(429, retry_after=31.0)

    count, slept = attempts_until(policy(timeout=30.0), clock, [asked])

    assert (count, slept) == (1, [])


def test_the_wait_for_our_own_limit_does_not_count(clock: Clock) -> None:
    limited = policy(timeout=30.0)

    with limited.not_charged():
        clock.sleep(100)

    assert limited.remaining == 30.0


def test_credentials_that_could_not_be_had_have_cost_time(clock: Clock) -> None:
    mine = policy(timeout=30.0)

    def obtain() -> None:
        with mine.not_charged():
            clock.sleep(20)
            raise NOT_SENT

    with pytest.raises(IoTDATransportError):
        obtain()

    assert mine.remaining == 10.0


@pytest.mark.parametrize(("timeout", "least"), [(30.0, 1.0), (0.5, 0.25)])
def test_nothing_is_sent_without_time_for_an_answer(
    clock: Clock, timeout: float, least: float
) -> None:
    mine = policy(timeout=timeout)

    clock.sleep(timeout - least)
    assert mine.seconds_for("stop it") == least
    clock.sleep(0.125)

    with pytest.raises(IoTDATransportError, match="Could not stop it: it was not sent") as caught:
        mine.seconds_for("stop it")
    assert not caught.value.sent


def test_no_attempt_begins_without_time_for_an_answer(clock: Clock) -> None:
    asked = IoTDAThrottledError(429, retry_after=29.5)

    count, slept = attempts_until(policy(timeout=30.0), clock, [asked])

    assert (count, slept) == (1, [])


@pytest.mark.parametrize("asked", [1.0, 3.5, 5.0])
def test_what_the_platform_asks_for_is_waited_for_where_it_fits(clock: Clock, asked: float) -> None:
    error = IoTDAThrottledError(429, retry_after=asked)
    for _ in range(50):
        clock.now, clock.slept = 0.0, []

        count, slept = attempts_until(policy(timeout=6.0, attempt_timeout=2.0), clock, [error])

        assert count >= 2
        assert slept[0] >= asked


def test_our_own_waits_take_no_attempts_time(clock: Clock) -> None:
    """Two that hang for all of their time leave a third, however long the waits that are drawn."""
    for _ in range(200):
        clock.now = 0.0
        mine = policy(timeout=6.0, attempt_timeout=2.0, max_attempts=10)
        attempts = []

        def hang(mine: RetryPolicy = mine, attempts: list[float] = attempts) -> None:
            attempts.append(mine.seconds_for("stop it"))
            clock.now += attempts[-1]
            raise LOST

        with pytest.raises(IoTDATransportError, match="the connection broke"):
            Retrying(**mine.options(), sleep=clock.sleep)(hang)

        assert len(attempts) == 3
        assert attempts[:2] == [2.0, 2.0]
        assert 0.5 <= attempts[2] <= 2.0
        assert clock.now <= 6.0
