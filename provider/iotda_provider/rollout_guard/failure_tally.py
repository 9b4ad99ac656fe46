"""How many failed subtasks are of which class and in which cluster, in constant memory."""

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
#: The most characters of a device's id that a user's expression sees; the platform allows 128.
_LONGEST_ID = 128
#: Failures of different reasons that people are shown, and the characters of each message.
MOST_REASONS, _LONGEST_MESSAGE = 3, 120


@dataclass
class Tally:
    """Counts failed subtasks as they are read.

    :param fail: the platform's count of failed targets when the reading began
    :param classes: how failures are classed
    :param cluster_of: how a device's cluster is found; None: clusters are not counted
    """

    fail: int
    classes: FailureClasses
    cluster_of: ClusterOf | None = None
    rows: int = 0
    by_class: dict[str, int] = field(default_factory=dict)
    by_cluster: dict[str, int] = field(default_factory=dict)
    first_reasons: list[dict[str, Any]] = field(default_factory=list)

    def add(self, row: Subtask) -> None:
        """Count one subtask, where it has failed; the caller shows each target once."""
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
        if reason not in self.first_reasons:
            self.first_reasons.append(reason)


def _cluster(cluster_of: ClusterOf, target: str) -> str:
    if isinstance(cluster_of, str):
        found = re.search(cluster_of, target[:_LONGEST_ID])
        return (found[1] or _NO_CLUSTER) if found else _NO_CLUSTER
    return cluster_of.get(target, _NO_CLUSTER)


def check_cluster_of(value: object) -> ClusterOf | None:
    """How clusters are found, checked when the DAG is parsed.

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
    """The classes and the clusters of a rollout's tasks together.

    How many devices of a cluster have started is not read (it would take a call for every fifty
    devices), and 0 says so to the rules.
    """
    classes: dict[str, int] = {}
    clusters: dict[str, tuple[int, int]] = {}
    for tally in tallies.values():
        for name, count in tally.by_class.items():
            classes[name] = classes.get(name, 0) + count
        for name, count in tally.by_cluster.items():
            clusters[name] = (clusters.get(name, (0, 0))[0] + count, 0)
    return classes, clusters
