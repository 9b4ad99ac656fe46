"""Something that expires is obtained by one caller, in time, while all others wait for it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from iotda_provider.auth.renewal import Issued, Renewing
from iotda_provider.exceptions import IoTDAAuthError, IoTDATransportError


class Desk:
    """Gives out numbered values, and has a clock that stands still until it is told."""

    def __init__(self, lifetime: float | None = 100.0) -> None:
        self.lifetime = lifetime
        self.time = 1_000.0
        self.given = 0
        self.closed = self.refuses = False
        self.deadlines: list[float] = []
        self.gate = threading.Event()
        self.gate.set()
        self.asked = threading.Event()

    def obtain(self, deadline: float) -> Issued[int]:
        self.deadlines.append(deadline)
        self.asked.set()
        assert self.gate.wait(30)
        if self.closed:
            raise IoTDATransportError("closed", sent=False)
        if self.refuses:
            raise IoTDAAuthError(401, error_msg="wrong password")
        self.given += 1
        return Issued(self.given, self.lifetime)

    def renewing(self) -> Renewing[int]:
        return Renewing(self.obtain, "the number", now=lambda: self.time)


def test_value_is_obtained_when_it_is_first_needed_and_kept():
    desk = Desk()
    number = desk.renewing()
    assert not number.is_fresh()

    number.renew()
    number.renew()

    assert (number.value, desk.given) == (1, 1)


def test_value_that_was_never_obtained_is_a_mistake_of_the_caller():
    with pytest.raises(RuntimeError, match="prepare"):
        _ = Desk().renewing().value


@pytest.mark.parametrize(
    ("lifetime", "fresh_until"), [(100.0, 75.0), (3_000.0, 2_700.0), (86_400.0, 86_100.0)]
)
def test_value_is_renewed_before_it_expires(lifetime, fresh_until):
    desk = Desk(lifetime)
    number = desk.renewing()
    number.renew()

    desk.time += fresh_until - 1
    assert number.is_fresh()
    desk.time += 2
    assert not number.is_fresh()
    number.renew()

    assert number.value == 2
    assert number.is_fresh()


def test_value_without_an_end_is_kept_for_ever():
    desk = Desk(lifetime=None)
    number = desk.renewing()
    number.renew()
    desk.time += 1e9

    assert number.is_fresh()


def test_failed_renewal_is_no_failure_while_the_old_value_is_good(caplog):
    desk = Desk()
    number = desk.renewing()
    number.renew()
    desk.time += 95
    desk.closed = True

    number.renew()

    assert number.value == 1
    assert "good for 5 s more: closed" in caplog.text
    assert number.is_fresh(), "nobody asks again at once"
    desk.time += 6
    assert not number.is_fresh(), "and nobody takes an expired value for a good one"
    with pytest.raises(IoTDATransportError, match="closed"):
        number.renew()


def test_refused_value_is_renewed_and_other_values_are_left_alone():
    desk = Desk()
    number = desk.renewing()
    number.renew()

    number.discard(lambda value: value == 7)
    assert number.is_fresh()
    number.discard(lambda value: value == 1)
    assert not number.is_fresh()
    assert number.value == 1, "requests that are being signed may still take it"
    number.renew()
    assert number.value == 2


def test_refused_value_is_not_kept_when_there_is_no_other():
    desk = Desk()
    number = desk.renewing()
    number.renew()
    number.discard(lambda value: True)
    desk.closed = True

    with pytest.raises(IoTDATransportError):
        number.renew()
    assert not number.is_fresh()


def test_only_one_waits_for_a_renewal_while_the_old_value_is_good():
    desk = Desk()
    number = desk.renewing()
    number.renew()
    desk.time += 80
    desk.asked.clear()
    desk.gate.clear()
    one = threading.Thread(target=number.renew)
    one.start()
    assert desk.asked.wait(30)

    assert number.is_fresh(), "while somebody is renewing it"
    number.renew()
    assert number.value == 1
    desk.time += 20
    assert not number.is_fresh(), "and nobody takes an expired value for a good one"
    desk.gate.set()
    one.join(30)
    assert number.value == 2


def test_renewal_may_take_seconds_only_while_the_old_value_is_good(monkeypatch):
    monkeypatch.setattr("iotda_provider.auth.renewal.monotonic", lambda: 50.0)
    desk = Desk()
    number = desk.renewing()
    number.renew(80.0)
    desk.time += 80
    number.renew(80.0)
    desk.time += 80
    number.renew(52.0)
    desk.time += 200
    number.renew(80.0)

    assert desk.deadlines == [80.0, 55.0, 52.0, 80.0]


def test_who_waits_for_anothers_attempt_waits_no_longer_than_he_may():
    desk = Desk()
    number = desk.renewing()
    desk.gate.clear()
    one = threading.Thread(target=number.renew)
    one.start()
    assert desk.asked.wait(30)

    with pytest.raises(IoTDATransportError, match="still being obtained") as caught:
        number.renew(deadline=0.0)

    assert not caught.value.sent
    desk.gate.set()
    one.join(30)
    assert number.value == 1


def test_refusal_is_the_answer_to_all_who_ask_within_seconds():
    """An issuer counts wrong passwords."""
    desk = Desk()
    number = desk.renewing()
    desk.refuses = True
    for _ in range(3):
        with pytest.raises(IoTDAAuthError, match="wrong password"):
            number.renew()
        desk.time += 1
    assert len(desk.deadlines) == 1

    desk.time += 3
    desk.refuses = False
    number.renew()

    assert number.value == 1
    number.discard(lambda value: True)
    number.renew()
    assert number.value == 2, "a refusal of long ago is nothing to anybody"


def all_at_once(count: int, act) -> list:
    """Every thread's result or error."""
    ready = threading.Barrier(count)

    def one(_: int):
        ready.wait(30)
        try:
            return act()
        except IoTDATransportError as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


@pytest.mark.parametrize("closed", [False, True])
def test_one_caller_obtains_and_all_others_get_the_same_outcome(closed):
    desk = Desk()
    desk.closed = closed
    number = desk.renewing()
    calls = []
    real = number._obtain
    waiting = threading.Semaphore(0)

    def obtain(deadline):
        calls.append(threading.get_ident())
        # All of them are inside renew() before this one answers.
        for _ in range(19):
            assert waiting.acquire(timeout=30)
        return real(deadline)

    awaited = number._awaited

    def count_and_wait(*attempt):
        waiting.release()
        return awaited(*attempt)

    number._obtain = obtain
    number._awaited = count_and_wait

    results = all_at_once(20, number.renew)

    assert len(calls) == 1
    if closed:
        assert {str(error) for error in results} == {"closed"}
    else:
        assert results == [None] * 20


def test_waiting_callers_try_themselves_where_the_first_was_broken_off():
    desk = Desk()
    number = desk.renewing()
    real = number._obtain
    interrupted = threading.Event()
    is_waiting = threading.Event()
    awaited = number._awaited

    def obtain(deadline):
        if not interrupted.is_set():
            interrupted.set()
            assert is_waiting.wait(30)
            raise KeyboardInterrupt
        return real(deadline)

    def wait_and_tell(*attempt):
        is_waiting.set()
        return awaited(*attempt)

    number._obtain = obtain
    number._awaited = wait_and_tell

    def first():
        with pytest.raises(KeyboardInterrupt):
            number.renew()

    thread = threading.Thread(target=first)
    thread.start()
    assert interrupted.wait(30)
    number.renew()
    thread.join(30)

    assert number.value == 1
