"""Metrics through Airflow's own: StatsD, DogStatsD or OpenTelemetry, as Airflow is configured.

Nothing here blocks, and no error leaves this file. A metric goes into a short queue, and one thread
of the process passes it to Airflow, whose client may look up a host name or hang. A metric that
finds the queue full is dropped.

Since 3.2 Airflow has two copies of its client (``airflow._shared`` and ``airflow.sdk._shared``),
and a process initialises one of them: the triggerer the first one, a worker the second one. The
other copy takes every metric and sends none.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from hashlib import sha256
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

_log = logging.getLogger(__name__)

#: The tag that Airflow's option ``[iotda] metrics_batch_task_id`` keeps; without it, it is dropped.
BATCH_TASK_ID = "batch_task_id"
#: At most so many metrics wait in a process; further ones are dropped.
MOST_WAITING = 10_000
#: The value of a tag whose value is not known.
UNKNOWN = "unknown"
_COPIES = (
    "airflow._shared.observability.metrics.stats",
    "airflow.sdk._shared.observability.metrics.stats",
)
_OPTIONS = ("statsd_on", "statsd_datadog_enabled", "otel_on")
# With StatsD, Airflow drops a metric whose name and tags have other characters, or more than 250:
# 28 of the longest name, 38 for the names of the tags, and these for their values.
_NOT_IN_STATSD = re.compile(r"[^A-Za-z0-9_.-]")
_LONGEST_IN_STATSD = {"dag_id": 80, "iotda_conn_id": 60, BATCH_TASK_ID: 40}

_dag_id: ContextVar[str | None] = ContextVar("iotda_dag_id", default=None)


def work_for(dag_id: str | None) -> None:
    """Name the DAG that the present asyncio task works for; a worker knows its DAG by itself."""
    _dag_id.set(dag_id)


def present_dag() -> str | None:
    """The DAG that the present asyncio task or worker works for; None: unknown."""
    return _dag_id.get() or os.environ.get("AIRFLOW_CTX_DAG_ID")


def count(name: str, number: float = 1, **tags: str | None) -> None:
    """Add to a counter; returns at once.

    :param name: the metric's name after Airflow's own prefix, such as ``iotda.api.calls``
    :param tags: tags besides ``dag_id``; one that is None is left out
    """
    if number > 0:
        _sender.put(_Metric("count", name, number, _tagged(tags)))


def begin(name: str, **tags: str | None) -> None:
    """Show a counter before it counts anything; returns at once.

    Prometheus sees the increases of a counter, and not the value with which it appears: an alert
    would miss the first stop that fails.
    """
    _sender.put(_Metric("count", name, 0, _tagged(tags)))


def gauge(name: str, value: float | None, part: int, **tags: str | None) -> None:
    """Set one part's value of a gauge; returns at once.

    Parts with the same tags are one gauge: it shows the largest of them.

    :param value: None: the part has ended
    :param part: which part, such as ``id()`` of a guard
    :param tags: as of :func:`count`
    """
    _sender.put(_Metric("gauge", name, value, _tagged(tags), part))


def are_sent() -> bool:
    """Whether this process passes metrics to Airflow; False until its first metric was passed."""
    return _sender.is_on


def flush(seconds: float = 1.0) -> None:
    """Wait until what was measured so far has been passed to Airflow, for so long at most."""
    _sender.flush(seconds)


def _tagged(tags: Mapping[str, str | None]) -> dict[str, str]:
    return {
        "dag_id": present_dag() or UNKNOWN,
        **{name: text for name, text in tags.items() if text is not None},
    }


class _Metric(NamedTuple):
    kind: str
    name: str
    value: float | None
    tags: dict[str, str]
    part: int = 0


class _Sender:
    """Passes metrics to Airflow in a thread of its own, which starts with the first metric."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[_Metric | threading.Event] = SimpleQueue()
        self._starting = threading.Lock()
        self._has_started = False
        self._is_off = False
        self.is_on = False
        self._parts: dict[tuple[str, frozenset[tuple[str, str]]], dict[int, float]] = {}
        self._keeps_ids = False
        self._is_statsd = False

    def put(self, metric: _Metric) -> None:
        if self._is_off or self._queue.qsize() >= MOST_WAITING:
            return
        self._queue.put(metric)
        if not self._has_started:
            with self._starting:
                if not self._has_started:
                    threading.Thread(target=self._work, name="iotda-metrics", daemon=True).start()
                    self._has_started = True

    def flush(self, seconds: float) -> None:
        if self._is_off or not self._has_started:
            return
        done = threading.Event()
        self._queue.put(done)
        done.wait(seconds)

    def _work(self) -> None:
        try:
            stats = self._begin()
        except Exception as error:  # noqa: BLE001 - whatever is wrong, the task goes on
            _log.warning("No metrics of the IoTDA provider: %r", error)
            stats = None
        self._is_off = stats is None
        self.is_on = not self._is_off
        while True:
            if self._is_off:
                with suppress(Empty):
                    while True:
                        self._pass_on(None, self._queue.get_nowait())
                return
            self._pass_on(stats, self._queue.get())

    def _begin(self) -> Any:
        from airflow.providers.common.compat.sdk import conf

        on = {name for name in _OPTIONS if conf.getboolean("metrics", name, fallback=False)}
        if not on:
            return None
        self._is_statsd = "statsd_on" in on and "statsd_datadog_enabled" not in on
        self._keeps_ids = conf.getboolean("iotda", "metrics_batch_task_id", fallback=False)
        return _stats()

    def _pass_on(self, stats: Any, metric: _Metric | threading.Event) -> None:
        if isinstance(metric, threading.Event):
            metric.set()
        elif stats is not None:
            try:
                self._send(stats, metric)
            except Exception as error:  # noqa: BLE001 - a lost metric is no reason to fail
                _log.debug("A metric of the IoTDA provider was lost: %r", error)

    def _send(self, stats: Any, metric: _Metric) -> None:
        tags = metric.tags
        if not self._keeps_ids:
            tags = {name: text for name, text in tags.items() if name != BATCH_TASK_ID}
        if self._is_statsd:
            tags = {name: _for_statsd(name, text) for name, text in tags.items()}
        if metric.kind == "count":
            stats.incr(metric.name, metric.value, tags=tags)
            return
        key = (metric.name, frozenset(tags.items()))
        parts = self._parts.setdefault(key, {})
        if metric.value is None:
            parts.pop(metric.part, None)
        else:
            parts[metric.part] = metric.value
        if not parts:
            del self._parts[key]
        stats.gauge(metric.name, max(parts.values(), default=0.0), tags=tags)


def _for_statsd(name: str, text: str) -> str:
    """A tag's value that StatsD takes. A part of its digest tells it from others like it."""
    plain, longest = _NOT_IN_STATSD.sub("_", text), _LONGEST_IN_STATSD.get(name, 40)
    if plain == text and len(text) <= longest:
        return text
    return f"{plain[: longest - 9]}-{sha256(text.encode()).hexdigest()[:8]}"


def _stats() -> Any:
    """Airflow's client, the copy that this process has initialised."""
    copies = [sys.modules[name] for name in _COPIES if name in sys.modules]
    for module in copies:
        # Since 3.3 a module has the factory of its client; in 3.2 the client's class has it.
        if getattr(module, "_factory", None) or getattr(module.Stats, "factory", None):
            return module.Stats
    try:
        from airflow.sdk.observability.metrics.stats_utils import get_stats_factory
        from airflow.sdk.observability.stats import Stats
    except ImportError:  # up to 3.1 there is one client, which initialises itself
        from airflow.stats import Stats

        return Stats
    return _initialised(Stats, get_stats_factory)


def _initialised(stats: Any, get_stats_factory: Any) -> Any:
    """The client of a process that has initialised no copy, such as one of ``dag.test()``."""
    from airflow.providers.common.compat.sdk import conf

    try:
        legacy = conf.getboolean("metrics", "legacy_names_on", fallback=False)
        stats.initialize(factory=get_stats_factory(), export_legacy_names=legacy)
    except TypeError:  # 3.2
        stats.initialize(factory=get_stats_factory(stats))
    return stats


_sender = _Sender()


def _begin_anew() -> None:
    """After a fork: the thread has stayed behind."""
    global _sender
    _sender = _Sender()


os.register_at_fork(after_in_child=_begin_anew)
