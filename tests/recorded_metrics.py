"""What is measured while a test runs, instead of Airflow's client for metrics."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

from iotda_provider.airflow_support import metrics

Tags = frozenset[tuple[str, str]]


class RecordedMetrics:
    """Takes the place of Airflow's ``Stats``.

    :ivar counts: the sum of each counter, by name and tags
    :ivar gauges: all values of each gauge, by name and tags
    """

    def __init__(self) -> None:
        self.counts: defaultdict[tuple[str, Tags], float] = defaultdict(float)
        self.gauges: defaultdict[tuple[str, Tags], list[float]] = defaultdict(list)

    def incr(self, stat: str, count: float, *, tags: dict[str, str]) -> None:
        """Airflow's method."""
        self.counts[stat, frozenset(tags.items())] += count

    def gauge(self, stat: str, value: float, *, tags: dict[str, str]) -> None:
        """Airflow's method."""
        self.gauges[stat, frozenset(tags.items())].append(value)

    def total(self, name: str) -> float:
        """The sum of a counter over all tags."""
        metrics.flush(30)
        return sum(number for (stat, _), number in self.counts.items() if stat == name)

    @property
    def names(self) -> set[str]:
        """The names of all metrics."""
        metrics.flush(30)
        return {name for name, _ in (*self.counts, *self.gauges)}

    @property
    def tags(self) -> set[Tags]:
        """All combinations of tags."""
        metrics.flush(30)
        return {tags for _, tags in (*self.counts, *self.gauges)}


def record_metrics(patch: pytest.MonkeyPatch, stats: Any = None, **options: str) -> Any:
    """From now on, metrics go to ``stats``.

    :param options: options of Airflow's section ``iotda``
    """
    recorded = RecordedMetrics() if stats is None else stats
    patch.setenv("AIRFLOW__METRICS__STATSD_ON", "True")
    for name, value in options.items():
        patch.setenv(f"AIRFLOW__IOTDA__{name.upper()}", value)
    patch.setattr(metrics, "_stats", lambda: recorded)
    patch.setattr(metrics, "_sender", metrics._Sender())
    return recorded
