"""What a guard measures over an emulated fleet, and the dashboard that shows it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.recorded_metrics import RecordedMetrics, record_metrics

from iotda_provider.airflow_support import metrics
from iotda_provider.rollout_guard.guard_metrics import GuardMetrics
from iotda_provider.rollout_guard.triggerer import TriggererRecall
from iotda_provider.rollout_guard.worker import WorkerRecall

DOCS = Path(__file__).resolve().parents[3] / "docs"
DASHBOARD = DOCS / "grafana-dashboard.json"
BAD = {"devices": 200, "failure_rate": 0.3, "dispatch_rate": 1.0}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> RecordedMetrics:
    monkeypatch.setenv("AIRFLOW_CTX_DAG_ID", "dag")
    seen: RecordedMetrics = record_metrics(monkeypatch)
    return seen


def test_devices_are_counted_once_however_often_they_are_seen(
    fleet: Any, ti: Any, measured: RecordedMetrics
) -> None:
    good = fleet({"devices": 200, "failure_rate": 0.01})

    good.run(ti, stop_on_breach=True, poke_interval=10)

    progress = good.progress()
    assert measured.total("iotda.devices.started") == 200
    assert measured.total("iotda.devices.failed") == progress["fail"]
    looks = measured.total("iotda.guards.looks")
    assert measured.total("iotda.api.calls") >= looks - 1
    assert measured.total("iotda.stops.sent") == measured.total("iotda.stops.failed") == 0
    # The rate of these seconds is the number of running guards.
    seconds = measured.total("iotda.guards.running_seconds")
    assert 0.8 * good.now <= seconds <= good.now
    assert measured.total("iotda.guards.blind_seconds") == 0


def test_a_guard_that_begins_again_counts_no_device_twice(
    fleet: Any, ti: Any, measured: RecordedMetrics
) -> None:
    good = fleet({"devices": 60, "success_after": 300, "dispatch_rate": 1.0})
    with pytest.raises(Exception, match=r"time|over"):
        good.run(ti, timeout=30, poke_interval=5)
    before = measured.total("iotda.devices.started")
    ti.new_try()

    good.run(ti, poke_interval=5)

    assert 0 < before < 60
    assert measured.total("iotda.devices.started") == 60


class KilledError(BaseException):
    """The death of a guard's process."""


def die() -> None:
    raise KilledError


def test_few_devices_are_counted_again_after_a_death(
    fleet: Any, ti: Any, measured: RecordedMetrics
) -> None:
    """Those since the memory was last saved: half a minute and two looks, and not five minutes."""
    metrics.begin("iotda.api.calls")
    metrics.flush(30)
    rollout = fleet({"devices": 200, "success_after": 30, "dispatch_rate": 1.0})
    rollout.at(190, die)
    with pytest.raises(KilledError):
        rollout.run(ti, poke_interval=5)
    ti.new_try()

    rollout.run(ti, poke_interval=5)

    assert 200 <= measured.total("iotda.devices.started") <= 200 + 30 + 2 * 5


def test_a_guard_that_ends_before_its_memory_has_come_counts_its_devices(
    fleet: Any, ti: Any, measured: RecordedMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    for recall in (TriggererRecall, WorkerRecall):
        monkeypatch.setattr(recall, "give_to_watch", lambda self: None)
    ended = fleet({"devices": 60, "failure_rate": 0.2})
    ended.sleep(36_000)

    ended.run(ti, poke_interval=5)

    assert measured.total("iotda.guards.looks") == 1
    assert measured.total("iotda.devices.started") == 60
    assert measured.total("iotda.devices.failed") == ended.progress()["fail"] > 0


def test_a_stop_is_counted_and_the_evidence_that_led_to_it(
    fleet: Any, ti: Any, measured: RecordedMetrics
) -> None:
    bad = fleet(BAD)

    bad.run(ti, stop_on_breach=True, poke_interval=5)

    assert measured.total("iotda.stops.sent") == 1
    assert measured.total("iotda.stops.failed") == 0
    (values,) = (found for (name, _), found in measured.gauges.items() if "evidence" in name)
    assert max(values) >= 1
    assert values[-1] == 0
    conn = ("iotda_conn_id", "iotda_default")
    assert {tag for tags in measured.tags for tag in tags} == {conn, ("dag_id", "dag")}


def test_a_refused_stop_is_counted_at_each_attempt(
    fleet: Any, ti: Any, measured: RecordedMetrics
) -> None:
    bad = fleet(BAD)
    bad.emulator.add_fault("status", call="stop_batch_task", status=503, count=3)

    bad.run(ti, stop_on_breach=True, poke_interval=5)

    assert measured.total("iotda.stops.failed") == 3
    assert measured.total("iotda.stops.sent") == 4
    calls = bad.calls()
    assert measured.total("iotda.api.calls") == len(calls)
    refused = [call for call in calls if call["status"] >= 400]
    assert measured.total("iotda.api.refusals") == len(refused) >= 3


@pytest.mark.parametrize(("gap", "late"), [(10.0, 0), (14.9, 0), (15.1, 1), (60.0, 1)])
def test_a_look_is_late_half_an_interval_after_it_was_due(
    gap: float, late: int, fleet: Any, measured: RecordedMetrics
) -> None:
    from iotda_provider.rollout_guard import GuardPlan, Memory, Watch

    plan = GuardPlan(batch_task_ids=("a1",), rules=(), poll_interval=10.0)
    watch = Watch(plan, Memory(("a1",)), None, clock=lambda: 0.0)  # type: ignore[arg-type]
    guard = GuardMetrics(watch, "c")

    guard.looked(100.0)
    guard.looked(100.0 + gap)

    assert measured.total("iotda.guards.looks_late") == late
    assert measured.total("iotda.guards.running_seconds") == gap


def test_the_dashboard_shows_what_guards_emit(
    fleet: Any, ti: Any, measured: RecordedMetrics
) -> None:
    """Each query names a metric of a run in which everything happens that can happen."""
    bad = fleet(BAD)
    bad.emulator.add_fault("status", call="stop_batch_task", status=503, count=3)
    bad.at(4, lambda: bad.emulator.add_fault("status", call="show_batch_task", status=503, count=3))
    bad.at(24, lambda: bad.sleep(20))  # something keeps the process busy
    bad.run(ti, stop_on_breach=True, poke_interval=5)

    queries = [
        target["expr"]
        for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
        for target in panel["targets"]
    ]

    # What Prometheus calls it: StatsD's exporter and OpenTelemetry's write "." as "_", and the
    # latter adds "_total" to a counter. Each query finds one metric by either name.
    prometheus = {name: f"airflow_{name.replace('.', '_')}" for name in measured.names}
    counters = {name for name, _ in measured.counts}
    names = {
        name: {text, text + "_total" * (name in counters)} for name, text in prometheus.items()
    }
    found = []
    for query in queries:
        (selector,) = re.findall(r'__name__(=~?)"([^"]+)"', query)
        pattern = selector[1] if selector[0] == "=~" else re.escape(selector[1])
        matches = {
            text for texts in names.values() for text in texts if re.fullmatch(pattern, text)
        }
        found += [name for name, texts in names.items() if texts == matches]
    assert sorted(found) == sorted(measured.names)
    assert len(found) == len(queries)


LISTED = set(
    re.findall(
        r"^\| `(iotda\.[a-z_.]+)`", (DOCS / "metrics.md").read_text(encoding="utf-8"), re.MULTILINE
    )
)


def test_the_guide_lists_every_metric() -> None:
    shown = re.findall(r"airflow_(iotda_[a-z_]*[a-z])", DASHBOARD.read_text(encoding="utf-8"))
    assert {name.replace(".", "_") for name in LISTED} == set(shown)


def test_each_counter_is_there_before_anything_goes_wrong(
    fleet: Any, ti: Any, measured: RecordedMetrics
) -> None:
    """Prometheus does not see the first increase of a counter that appears with it."""
    fleet({"devices": 5, "failure_rate": 0}).run(ti)

    assert measured.names == LISTED
    assert measured.total("iotda.stops.failed") == measured.total("iotda.devices.failed") == 0


OPEN_TELEMETRY = """
from iotda_provider.airflow_support import metrics

metrics.count("iotda.api.calls", 3, iotda_conn_id="c")
metrics.count("iotda.guards.running_seconds", 5.25, iotda_conn_id="c")
metrics.gauge("iotda.guards.evidence", 0.5, 1, iotda_conn_id="c")
metrics.flush(60)

from opentelemetry.metrics import get_meter_provider

get_meter_provider().force_flush()
"""


def test_open_telemetry_gets_them_from_a_process_of_its_own() -> None:
    environment = os.environ | {
        "AIRFLOW__METRICS__OTEL_ON": "True",
        "AIRFLOW__METRICS__OTEL_DEBUGGING_ON": "True",  # prints them
        "AIRFLOW__METRICS__OTEL_HOST": "127.0.0.1",
        "AIRFLOW__METRICS__OTEL_PORT": "9",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",  # seconds; nobody listens there
        "AIRFLOW_CTX_DAG_ID": "dag",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    answer = subprocess.run(
        [sys.executable, "-c", OPEN_TELEMETRY],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )

    for name, value in (
        ("api.calls", 3),
        ("guards.running_seconds", 5.25),
        ("guards.evidence", 0.5),
    ):
        printed = answer.stdout[answer.stdout.index(f'"airflow.iotda.{name}"') :][:2000]
        assert f'"value": {value}' in printed
        assert '"dag_id": "dag"' in printed
