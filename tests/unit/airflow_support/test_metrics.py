"""Metrics: which of Airflow's clients gets them, and that nobody ever waits for them."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import sys
import threading
import time
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
from tests.recorded_metrics import RecordedMetrics, record_metrics

from iotda_provider.airflow_support import metrics
from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.hooks.iotda import IoTDAAsyncHook, IoTDAHook

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


HOSTILE = [
    "\u5347\u7ea7\u53d1\u5e03",  # Airflow takes a DAG's id in any alphabet
    "\u5347\u7ea7\u56de\u9000",
    *("d" * 250, "d" * 249 + "e"),
    *("a:1|c", "a,b=c", "a b", "a\nb", "a#b"),
]


def statsd_client(lines: list[str]) -> Any:
    """Airflow's own client for StatsD with tags; ``lines`` gets what it would send."""
    for name in ("airflow.sdk._shared.observability.metrics", "airflow.metrics"):
        try:
            made = import_module(f"{name}.statsd_logger").SafeStatsdLogger
            break
        except ImportError:
            continue
    sends = SimpleNamespace(incr=lambda stat, *_: lines.append(stat))
    sends.gauge = sends.incr
    options = {"influxdb_tags_enabled": True, "statsd_influxdb_enabled": True}
    known = inspect.signature(made).parameters
    return made(sends, **{name: on for name, on in options.items() if name in known})


@pytest.mark.parametrize(
    "ids", ["", "5c8fb9d0e2f14a5b9c0d1e2f", "+".join(["5c8fb9d0e2f14a5b"] * 30)]
)
def test_statsd_takes_each_metric_and_tells_all_dags_apart(
    ids: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow drops a metric whose name and tags have other characters, or more than 250."""
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED", "True")
    lines: list[str] = []
    record_metrics(monkeypatch, statsd_client(lines), metrics_batch_task_id="True")

    for dag_id, conn_id in itertools.product([*HOSTILE, "plain.id"], ["c", "c" * 200]):
        metrics.work_for(dag_id)
        tags = {"iotda_conn_id": conn_id, metrics.BATCH_TASK_ID: ids or None}
        metrics.count("iotda.guards.running_seconds", 1, **tags)
    metrics.work_for(None)
    metrics.flush(30)

    assert len(set(lines)) == 2 * (len(HOSTILE) + 1)
    for line in lines:
        name, *tagged = line.split(",")
        assert name == "iotda.guards.running_seconds"
        assert [tag.count("=") for tag in tagged] == [1] * (3 if ids else 2)
        assert ":" not in line
        assert "|" not in line
    assert any(",dag_id=plain.id,iotda_conn_id=c" in line for line in lines)


def test_ids_that_are_no_connections_make_no_time_series(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = record_metrics(monkeypatch)

    async def stop(conn_id: str) -> None:
        async with IoTDAAsyncHook(conn_id) as hook:
            await hook.stop_batch_task("5c8fb9d0e2f14a5b9c0d1e2f")

    for number in range(20):
        with pytest.raises(IoTDAConfigError), IoTDAHook(f"../{number}") as hook:
            hook.stop_batch_task("5c8fb9d0e2f14a5b9c0d1e2f")
        with pytest.raises(IoTDAConfigError):
            asyncio.run(stop(f"../{number}"))

    assert seen.total("iotda.stops.sent") == seen.total("iotda.stops.failed") == 40
    assert {dict(tags)["iotda_conn_id"] for tags in seen.tags} == {"unknown"}


def test_open_telemetry_takes_ids_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = record_metrics(monkeypatch)
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_ON", "False")
    monkeypatch.setenv("AIRFLOW__METRICS__OTEL_ON", "True")
    monkeypatch.setenv("AIRFLOW_CTX_DAG_ID", HOSTILE[0])

    metrics.count("iotda.guards.looks", iotda_conn_id="c")

    assert {dict(tags)["dag_id"] for tags in seen.tags} == {HOSTILE[0]}


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
