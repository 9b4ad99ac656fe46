"""Everything in a process that talks to one host with one key keeps one limit together."""

from __future__ import annotations

import itertools
import threading
import uuid

import pytest

from iotda_provider.connection.settings import ConnectionSettings
from iotda_provider.transport.rate_limit import RateLimit, shared_limit


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


def test_a_connection_without_a_limit_has_none() -> None:
    assert shared_limit(settings(max_requests_per_second=None)) is None


def test_all_with_the_same_host_and_key_share_one() -> None:
    one = settings()

    assert shared_limit(one) is shared_limit(one)
    assert shared_limit(one) is not shared_limit(settings())
