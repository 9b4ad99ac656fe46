"""The plan of a guard: what it watches, its rules, and what it may do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from iotda_provider.guards import (
    FailureClasses,
    Rule,
    checked_rules,
    needs_of,
    rules_from_json,
    rules_to_json,
)
from iotda_provider.models.json_text import checked_fields, plain_arguments
from iotda_provider.rollout_guard.failure_tally import ClusterOf, check_cluster_of
from iotda_provider.task_io.dag_parameters import one_of
from iotda_provider.task_io.parameters import batch_task_ids
from iotda_provider.waiting.outage import DEFAULT_MAX_OUTAGE

ON_GUARD_LOST = ("fail", "stop")
#: Seconds between two looks at a rollout.
DEFAULT_POLL_INTERVAL = 10.0
#: Seconds to wait, after the platform has accepted a stop, until the batch task is at rest.
DEFAULT_STOP_TIMEOUT = 600.0


@dataclass(frozen=True, kw_only=True)
class GuardPlan:
    """All parameters of a guard; as plain JSON, the argument ``plan`` of its trigger.

    :param batch_task_ids: the batch tasks of the rollout, judged by their summed counts
    :param rules: a rollout is stopped when any of them breaks
    :param failure_classes: assigns each failure to a class
    :param cluster_of: finds the cluster of a failed device
    :param already_current: how many targets ran the new version before the rollout began
    :param stop_on_breach: whether the guard stops the rollout itself
    :param shadow: whether the guard only decides and reports
    :param on_guard_lost: what happens when the guard's time is over: ``fail`` (the guard fails and
        the rollout goes on) or ``stop`` (the rollout is stopped first)
    :param rehearse_stop: whether the guard checks at its start that it may stop the rollout
    :param wait_for_stop: whether the guard waits until a stopped rollout is at rest
    :param stop_timeout: the most seconds of that wait
    :param poll_interval: seconds between two looks
    :param max_outage: seconds without a usable look after which a person is told
    :param deadline: when the guard's time is over, in seconds since the epoch; None: never
    :param audit_limit: the most records of the audit trail
    """

    batch_task_ids: tuple[str, ...]
    rules: tuple[Rule, ...]
    failure_classes: FailureClasses = field(default_factory=FailureClasses)
    cluster_of: ClusterOf | None = None
    already_current: int = 0
    stop_on_breach: bool = False
    shadow: bool = False
    on_guard_lost: str = "fail"
    rehearse_stop: bool = False
    wait_for_stop: bool = True
    stop_timeout: float = DEFAULT_STOP_TIMEOUT
    poll_interval: float = DEFAULT_POLL_INTERVAL
    max_outage: float = DEFAULT_MAX_OUTAGE
    deadline: float | None = None
    audit_limit: int = 500

    @property
    def stops(self) -> bool:
        """Whether a breach makes this guard stop the rollout."""
        return self.stop_on_breach and not self.shadow

    @property
    def stops_when_lost(self) -> bool:
        """Whether this guard stops the rollout when the guard's own time is over."""
        return self.on_guard_lost == "stop" and not self.shadow

    @property
    def label(self) -> str:
        """The rollout in words."""
        ids = self.batch_task_ids
        return f"batch task {ids[0]}" if len(ids) == 1 else f"batch tasks {', '.join(ids)}"

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return {**plain_arguments(self), "rules": rules_to_json(self.rules)}

    @classmethod
    def from_dict(cls, data: Any) -> GuardPlan:
        """Read what :meth:`to_dict` wrote.

        :raises ValueError: the data is something else
        """
        values = checked_fields(
            cls,
            data,
            "plan",
            batch_task_ids=batch_task_ids,
            rules=lambda rules: rules,
            failure_classes=FailureClasses.of,
            cluster_of=check_cluster_of,
            on_guard_lost=lambda word: one_of(word, "on_guard_lost", ON_GUARD_LOST),
        )
        rules = read_rules(values["rules"], values.get("cluster_of"))
        return cls(**{**values, "rules": rules})


def read_rules(rules: Any, cluster_of: ClusterOf | None = None) -> tuple[Rule, ...]:
    """The rules of a guard, from objects or from their JSON.

    :raises ValueError: a rule is invalid, is a class of the user's own, or needs data that this
        guard does not read
    """
    items = rules if isinstance(rules, (list, tuple)) else (rules,)
    is_json = any(isinstance(item, (str, bytes, Mapping)) for item in items)
    found = checked_rules(rules_from_json(rules) if is_json else rules)
    # The triggerer and the audit read a rule from JSON, which knows no class but the package's.
    if tuple(rules_from_json(rules_to_json(found))) != found:
        raise ValueError(f"rules: a subclass of a rule can't be read from JSON: {found}")
    check_needs(found, cluster_of)
    return found


def check_needs(rules: tuple[Rule, ...], cluster_of: ClusterOf | None) -> None:
    """Refuse rules that could never decide, because the guard does not read what they need.

    :raises ValueError: a rule needs clusters and there is no ``cluster_of``
    """
    if "clusters" in needs_of(rules) and cluster_of is None:
        raise ValueError(
            "rules: leave_worst_out needs cluster_of, which says in which cluster a device is"
        )
