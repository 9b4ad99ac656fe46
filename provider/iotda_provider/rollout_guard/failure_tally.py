"""Counts failed subtasks by failure class and by cluster, in constant memory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from iotda_provider.guards import FailureClasses
from iotda_provider.guards.failure_classes import LONGEST_EXPRESSION
from iotda_provider.models import Subtask, SubtaskStatus
from iotda_provider.models.text import one_line, what_is

ClusterOf = str | Mapping[str, str]
"""A regular expression with one group, searched for in the device id; or device id → cluster."""

_NO_CLUSTER = "(none)"
#: A user's expression sees at most so many characters of a device id; the platform allows 128.
_LONGEST_ID = 128
#: How many different reasons people are shown, and how many characters of each message.
MOST_REASONS, _LONGEST_MESSAGE = 3, 120


@dataclass
class Tally:
    """Counts the failed subtasks of one batch task while they are read.

    :param fail: the platform's count of failed targets when the reading began
    :param classes: assigns each failure to a class
    :param cluster_of: finds the cluster of a device; None: clusters are not counted
    """

    fail: int
    classes: FailureClasses
    cluster_of: ClusterOf | None = None
    rows: int = 0
    by_class: dict[str, int] = field(default_factory=dict)
    by_cluster: dict[str, int] = field(default_factory=dict)
    first_reasons: list[dict[str, Any]] = field(default_factory=list)

    def add(self, row: Subtask) -> None:
        """Count one subtask if it has failed. The caller passes each target once."""
        if row.status is not SubtaskStatus.FAIL:
            return
        self.rows += 1
        name = self.classes.classify(row.error_code, row.error_msg)
        self.by_class[name] = self.by_class.get(name, 0) + 1
        if len(self.first_reasons) < MOST_REASONS:
            self._note_reason(name, row)
        if self.cluster_of is not None:
            cluster = _cluster(self.cluster_of, row.target)
            self.by_cluster[cluster] = self.by_cluster.get(cluster, 0) + 1

    def _note_reason(self, failure_class: str, row: Subtask) -> None:
        reason = {
            "failure_class": failure_class,
            "error_code": one_line(row.error_code or "", _LONGEST_MESSAGE),
            "error_msg": one_line(row.error_msg or "", _LONGEST_MESSAGE),
        }
        known = [{**other, "targets": None} for other in self.first_reasons]
        if {**reason, "targets": None} not in known:
            self.first_reasons.append({**reason, "targets": [row.target[:_LONGEST_ID]]})


def _cluster(cluster_of: ClusterOf, target: str) -> str:
    if isinstance(cluster_of, str):
        found = re.search(cluster_of, target[:_LONGEST_ID])
        return (found[1] or _NO_CLUSTER) if found else _NO_CLUSTER
    return cluster_of.get(target, _NO_CLUSTER)


def check_cluster_of(value: object) -> ClusterOf | None:
    """Check the parameter ``cluster_of`` when the DAG is parsed, and return it.

    :raises ValueError: it is neither a regular expression with one group nor a mapping
    """
    if value is None:
        return None
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) and isinstance(name, str) for key, name in value.items()):
            raise ValueError("cluster_of must map device ids to names of clusters")
        return dict(value)
    if not isinstance(value, str):
        raise ValueError(
            "cluster_of must be a regular expression or a mapping, got "
            f"{what_is(value, instead_of='a mapping')}"
        )
    if len(value) > LONGEST_EXPRESSION:
        raise ValueError(
            f"cluster_of must have at most {LONGEST_EXPRESSION} characters, got {len(value)}"
        )
    try:
        groups = re.compile(value).groups
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"cluster_of: not a regular expression: {one_line(error, 200)}") from error
    if groups != 1:
        raise ValueError(
            f"cluster_of needs one group, the cluster's name, in {one_line(value, 200)!r}"
        )
    return value


def add_up(tallies: Mapping[str, Tally]) -> tuple[dict[str, int], dict[str, tuple[int, int]]]:
    """Sum the counts of all batch tasks of a rollout.

    :returns: failures by class, and ``(failures, 0)`` by cluster. The 0 stands for the started
        devices of the cluster, which are not read: that would take a call for every fifty devices
    """
    classes: dict[str, int] = {}
    clusters: dict[str, tuple[int, int]] = {}
    for tally in tallies.values():
        for name, count in tally.by_class.items():
            classes[name] = classes.get(name, 0) + count
        for name, count in tally.by_cluster.items():
            clusters[name] = (clusters.get(name, (0, 0))[0] + count, 0)
    return classes, clusters
