"""Everything in a process that talks to one host with one key keeps one limit together."""

from __future__ import annotations

import itertools
import threading
import uuid
from typing import Any

import pytest

from iotda_provider.connection.settings import ConnectionSettings
from iotda_provider.transport.rate_limit import RateLimit, Turn, shared_limit


def settings(**fields: object) -> ConnectionSettings:
    values = {"login": "key", "max_requests_per_second": 5.0, **fields}
    return ConnectionSettings("conn", f"https://{uuid.uuid4()}.example", **values)  # type: ignore[arg-type]


def test_requests_are_spaced_evenly() -> None:
    limit = RateLimit(10, clock=lambda: 100.0)

    assert [limit.reserve() for _ in range(4)] == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_time_that_was_not_used_is_not_saved_up() -> None:
    times = iter([0.0, 60.0, 60.0, 60.0])
    limit = RateLimit(10, clock=lambda: next(times))

    assert [limit.reserve() for _ in range(4)] == pytest.approx([0.0, 0.0, 0.1, 0.2])


def test_threads_never_get_the_same_place() -> None:
    limit = RateLimit(1000, clock=lambda: 0.0)
    places: list[float] = []

    def take() -> None:
        places.extend([limit.reserve() for _ in range(500)])

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    gaps = [later - earlier for earlier, later in itertools.pairwise(sorted(places))]
    assert min(gaps) == pytest.approx(0.001)


def departures(limit: RateLimit, clock: list[float], calls: list[tuple[float, str]]) -> list[Any]:
    """When each call goes out, as (time, name), if made at a time; urgent ones begin with !."""
    waiting: list[tuple[float, str, Turn]] = []
    gone: list[tuple[float, str]] = []
    coming = sorted(calls)
    while coming or waiting:
        due = min(waiting, key=lambda one: one[0], default=None)
        if coming and (due is None or coming[0][0] < due[0]):
            at, name = coming.pop(0)
            clock[0] = at
            turn = limit.reserve_turn(urgent=name.startswith("!"))
            waiting.append((at + turn.seconds, name, turn))
            continue
        assert due is not None
        waiting.remove(due)
        at, name, turn = due
        clock[0] = at
        more = 0.0 if name.startswith("!") else limit.put_off(turn)
        if more:
            waiting.append((at + more, name, turn))
        else:
            gone.append((at, name))
    return gone


@pytest.mark.parametrize("stops", [1, 2, 3])
def test_an_urgent_request_takes_the_next_moment_and_the_limit_holds(stops: int) -> None:
    clock = [0.0]
    limit = RateLimit(2, clock=lambda: clock[0])
    looks = [(0.0, f"look {number:02}") for number in range(40)]
    urgent = [(3.2 + 0.01 * number, f"!stop {number}") for number in range(stops)]

    gone = departures(limit, clock, [*looks, *urgent, (9.9, "late look"), (10.1, "!late stop")])

    went = {name: at for at, name in gone}
    assert [went[name] for _, name in urgent] == [3.5 + 0.5 * number for number in range(stops)]
    assert went["!late stop"] == pytest.approx(10.5)
    in_order = [name for _, name in gone if not name.startswith("!")]
    assert in_order == [*(name for _, name in looks), "late look"]
    gaps = [later - earlier for (earlier, _), (later, _) in itertools.pairwise(gone)]
    assert gaps == pytest.approx([0.5] * len(gaps))


def test_after_a_pause_nobody_is_put_off_for_what_was_urgent_before() -> None:
    clock = [0.0]
    limit = RateLimit(1, clock=lambda: clock[0])
    calls = [(0.0, "a"), (0.0, "b"), (0.1, "!c"), (50.0, "d"), (50.0, "e"), (50.2, "!f")]

    gone = departures(limit, clock, calls)

    assert gone == [(0, "a"), (1, "!c"), (2, "b"), (50, "d"), (51, "!f"), (52, "e")]


def test_a_connection_without_a_limit_has_none() -> None:
    assert shared_limit(settings(max_requests_per_second=None)) is None


def test_all_with_the_same_host_and_key_share_one() -> None:
    one = settings()

    assert shared_limit(one) is shared_limit(one)
    assert shared_limit(one) is not shared_limit(settings())
