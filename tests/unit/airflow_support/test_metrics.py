"""Metrics: which of Airflow's clients gets them, and that nobody ever waits for them."""

from __future__ import annotations

import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from tests.recorded_metrics import RecordedMetrics, record_metrics

from iotda_provider.airflow_support import metrics

CORE, SDK = metrics._COPIES


class OldStats:
    """The class of 3.2: it has the factory."""

    factory: Any = None


@pytest.mark.parametrize("initialised", [CORE, SDK])
@pytest.mark.parametrize("since", ["3.2", "3.3"])
def test_the_copy_that_the_process_has_initialised_gets_them(
    initialised: str, since: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = {}
    for name in (CORE, SDK):
        factory = object if name == initialised else None
        if since == "3.2":
            copies[name] = SimpleNamespace(Stats=type("Stats", (OldStats,), {"factory": factory}))
        else:
            copies[name] = SimpleNamespace(Stats=SimpleNamespace(), _factory=factory)
        monkeypatch.setitem(sys.modules, name, copies[name])  # type: ignore[arg-type]

    assert metrics._stats() is copies[initialised].Stats


def test_this_airflow_has_a_client_even_where_nothing_was_initialised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in (CORE, SDK):
        monkeypatch.delitem(sys.modules, name, raising=False)

    assert callable(metrics._stats().incr)


def test_tags_are_few_and_the_batch_task_is_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CTX_DAG_ID", "my_dag")
    seen = record_metrics(monkeypatch)

    for number in range(500):
        metrics.count("iotda.guards.looks", iotda_conn_id="c", batch_task_id=f"{number}")

    assert seen.total("iotda.guards.looks") == 500
    assert seen.tags == {frozenset({("dag_id", "my_dag"), ("iotda_conn_id", "c")})}


def test_the_batch_task_is_a_tag_if_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = record_metrics(monkeypatch, metrics_batch_task_id="True")

    metrics.count("iotda.guards.looks", iotda_conn_id="c", batch_task_id="5c8f")

    assert {dict(tags)["batch_task_id"] for tags in seen.tags} == {"5c8f"}


def test_a_gauge_shows_the_largest_part_and_forgets_those_that_have_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = record_metrics(monkeypatch)

    for part, value in ((1, 0.2), (2, 0.7), (1, 0.4), (2, None), (1, None)):
        metrics.gauge("iotda.guards.evidence", value, part, iotda_conn_id="c")
    metrics.flush(30)

    assert list(seen.gauges.values()) == [[0.2, 0.7, 0.7, 0.4, 0.0]]


def test_nobody_waits_for_a_client_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    is_over = threading.Event()

    class Hangs(RecordedMetrics):
        def incr(self, *args: Any, **more: Any) -> None:
            is_over.wait(60)

    record_metrics(monkeypatch, Hangs())
    try:
        began = time.monotonic()
        for _ in range(3 * metrics.MOST_WAITING):
            metrics.count("iotda.api.calls", iotda_conn_id="c")
        assert time.monotonic() - began < 30  # the client would take 20 days
        assert metrics._sender._queue.qsize() <= metrics.MOST_WAITING
        began = time.monotonic()
        metrics.flush(0.05)
        assert time.monotonic() - began < 30
    finally:
        is_over.set()


def test_errors_of_the_client_reach_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fails(RecordedMetrics):
        def gauge(self, *args: Any, **more: Any) -> None:
            raise OSError("no buffer space")

    seen = record_metrics(monkeypatch, Fails())

    metrics.gauge("iotda.guards.evidence", 1.0, 1, iotda_conn_id="c")
    metrics.count("iotda.api.calls", iotda_conn_id="c")

    assert seen.names == {"iotda.api.calls"}


def test_a_client_that_can_not_be_made_reaches_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    record_metrics(monkeypatch)

    def fail() -> None:
        raise ImportError("statsd")

    monkeypatch.setattr(metrics, "_stats", fail)

    metrics.count("iotda.api.calls", iotda_conn_id="c")
    metrics.flush(30)

    assert metrics._sender._is_off


def test_without_metrics_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = record_metrics(monkeypatch)
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_ON", "False")

    metrics.count("iotda.api.calls", iotda_conn_id="c")
    metrics.flush(30)
    metrics.count("iotda.api.calls", iotda_conn_id="c")

    assert not seen.names
    assert not metrics._sender._queue.qsize()
