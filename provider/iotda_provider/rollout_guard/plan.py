"""What a guard watches, by which rules, and what it may do."""

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
from iotda_provider.models.json_text import checked_fields
from iotda_provider.rollout_guard.failure_tally import ClusterOf, check_cluster_of
from iotda_provider.task_io.parameters import batch_task_ids, one_of
from iotda_provider.waiting.outage import DEFAULT_MAX_OUTAGE

ON_GUARD_LOST = ("fail", "stop")
#: Seconds between two looks at a rollout.
DEFAULT_POLL_INTERVAL = 10.0
#: Seconds to wait for the end of a stop that the platform has accepted.
DEFAULT_STOP_TIMEOUT = 600.0


@dataclass(frozen=True, kw_only=True)
class GuardPlan:
    """Everything that a guard is told; as plain JSON it is a trigger's argument.

    :param batch_task_ids: the tasks of the rollout, judged by their summed counts
    :param rules: a rollout is to be stopped when any of them breaks
    :param failure_classes: how failures are classed
    :param cluster_of: how a failed device's cluster is found
    :param already_current: targets that ran the version before
    :param stop_on_breach: whether the guard stops the rollout itself
    :param shadow: whether it only decides and reports
    :param on_guard_lost: what becomes of the rollout when the guard's time is over: ``fail`` (the
        rollout goes on, the guard fails) or ``stop`` (it is stopped first)
    :param rehearse_stop: whether it finds out, when it begins, that it may stop the rollout
    :param wait_for_stop: whether it waits for the end of a stop that was accepted
    :param stop_timeout: for how many seconds at most
    :param poll_interval: seconds between two looks
    :param max_outage: seconds without a usable look after which a person is told
    :param deadline: when the guard's time is over, in seconds since the epoch; None: never
    :param audit_limit: records that the audit trail may have
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
        """Whether the end of its time makes this guard stop the rollout."""
        return self.on_guard_lost == "stop" and not self.shadow

    @property
    def label(self) -> str:
        """The rollout in words."""
        ids = self.batch_task_ids
        return f"batch task {ids[0]}" if len(ids) == 1 else f"batch tasks {', '.join(ids)}"

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return plain | {
            "batch_task_ids": list(self.batch_task_ids),
            "rules": rules_to_json(self.rules),
            "failure_classes": self.failure_classes.to_json(),
            "cluster_of": dict(self.cluster_of)
            if isinstance(self.cluster_of, Mapping)
            else self.cluster_of,
        }

    @classmethod
    def from_dict(cls, data: Any) -> GuardPlan:
        """The inverse of :meth:`to_dict`.

        :raises ValueError: it is not what :meth:`to_dict` returns
        """
        read_here = ("batch_task_ids", "rules", "failure_classes", "cluster_of")
        values = checked_fields(cls, data, "plan", read_by_caller=read_here)
        return cls(
            **{
                **values,
                "batch_task_ids": batch_task_ids(values["batch_task_ids"]),
                "rules": read_rules(values["rules"], values.get("cluster_of")),
                "failure_classes": FailureClasses.of(values.get("failure_classes")),
                "cluster_of": check_cluster_of(values.get("cluster_of")),
                "on_guard_lost": one_of(
                    values.get("on_guard_lost", "fail"), "on_guard_lost", ON_GUARD_LOST
                ),
            }
        )


def read_rules(rules: Any, cluster_of: ClusterOf | None = None) -> tuple[Rule, ...]:
    """The rules of a guard, from objects or JSON of them.

    :raises ValueError: one makes no sense, or needs what a guard does not read
    """
    items = rules if isinstance(rules, (list, tuple)) else (rules,)
    is_json = any(isinstance(item, (str, bytes, Mapping)) for item in items)
    found = checked_rules(rules_from_json(rules) if is_json else rules)
    check_needs(found, cluster_of)
    return found


def check_needs(rules: tuple[Rule, ...], cluster_of: ClusterOf | None) -> None:
    """Refuse rules that would wait for ever for what a guard does not read.

    :raises ValueError: a rule is about clusters that nobody can tell it of
    """
    if "clusters" in needs_of(rules) and cluster_of is None:
        raise ValueError(
            "rules: leave_worst_out needs cluster_of, which says in which cluster a device is"
        )
