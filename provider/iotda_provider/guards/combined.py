"""Several sequential tests that share one false-alarm bound."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from iotda_provider.guards.e_values import log_e_of_hazard, log_mean
from iotda_provider.guards.look import Counts
from iotda_provider.guards.rule import ATTEMPTS, Rule
from iotda_provider.guards.sequential import Evidence, EvidenceRule, SequentialFailureTest
from iotda_provider.models import checks


@dataclass(frozen=True)
class Combined(EvidenceRule):
    """Breaks when the weighted evidence of several sequential rules reaches one bound.

    It breaks when Σ w_j·E_j >= 1/alpha. A weighted mean of e-values is an e-value, even if they
    depend on each other. So P(ever stopping a rollout that keeps *every* tolerated rate) <= alpha
    for all rules together. As soon as one E_j reaches 1/(w_j·alpha), the sum has reached 1/alpha.
    A plain list of rules, by contrast, breaks when any of them breaks, and their false-alarm bounds
    add up.

    Use it for several classes of failures, or for failures, failed attempts and overdue devices
    together.

    :param rules: at least one :class:`SequentialFailureTest` or :class:`Overdue`; their own
        ``false_alarm`` and ``hold_at`` have no effect here
    :param weights: for each rule a number above 0, with the sum 1; None: equal weights
    :param false_alarm: alpha of all rules together; None: the alpha that all the rules have
    :param hold_at: evidence at which to hold, above 1 and below 1/alpha; None: never hold
    :raises ValueError: a parameter makes no sense; the message names it
    """

    rules: Sequence[Rule]
    weights: Sequence[float] | None = None
    false_alarm: float | None = None
    hold_at: float | None = None

    failure_class = None

    def __post_init__(self) -> None:
        rules = _evidence_rules(self.rules)
        alarm = self.false_alarm
        if alarm is None:
            alarms = {rule.false_alarm for rule in rules}
            if len(alarms) > 1:
                checks.refuse("false_alarm", "given if the rules have different ones", None)
            (alarm,) = alarms
        alarm = checks.rate("false_alarm", alarm)
        for name, value in {
            "rules": rules,
            "weights": _weights(self.weights, len(rules)),
            "false_alarm": alarm,
            "hold_at": checks.level("hold_at", self.hold_at, below=1 / alarm),
        }.items():
            object.__setattr__(self, name, value)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset(chain.from_iterable(rule.needs for rule in self.rules))

    @property
    def horizons(self) -> frozenset[float]:
        return frozenset(chain.from_iterable(rule.horizons for rule in self.rules))

    @property
    def ages_up_to(self) -> float:
        return max(rule.ages_up_to for rule in self.rules)

    @property
    def shares(self) -> tuple[float, ...]:
        """The weights; equal ones if none were given."""
        return tuple(self.weights or [1 / len(self.rules)] * len(self.rules))

    @property
    def parts(self) -> tuple[EvidenceRule, ...]:
        """The rules, with their exact type."""
        return _evidence_rules(self.rules)

    def log_evidence(self, failed: int, devices: int) -> float:
        logs = (rule.log_evidence(failed, devices) for rule in self.parts)
        return log_mean(self.shares, logs)

    def breaks_on(self, failed: Sequence[int], devices: int, hazards: Iterable[float] = ()) -> bool:
        """Whether it breaks.

        :param failed: for each rule the failures that it counts
        :param hazards: for each rule with ``reporting``, in order, its Λ
        """
        left = iter(hazards)
        logs = []
        for rule, count in zip(self.parts, failed, strict=True):
            knows = isinstance(rule, SequentialFailureTest) and rule.reporting is not None
            hazard = next(left, None) if knows else None
            one = rule.log_evidence(count, devices)
            logs.append(one if hazard is None else log_e_of_hazard(count, hazard))
        return log_mean(self.shares, logs) >= self.log_bound

    def evidence(self, counts: Counts) -> Evidence:
        found = [rule.evidence(counts) for rule in self.parts]
        attempted = {"attempted": counts.attempted} if ATTEMPTS in self.needs else {}
        return Evidence(
            log_mean(self.shares, (part.least for part in found)),
            log_mean(self.shares, (part.most for part in found)),
            next((part.unsure for part in found if part.unsure), None),
            # What speaks most against the rollout comes first.
            [one for part in sorted(found, key=_weight, reverse=True) for one in part.counted],
            {
                "devices": counts.devices,
                "failed": counts.progress.fail,
                **attempted,
                "log_evidences": [None if math.isnan(e.least) else e.least for e in found],
            },
            log_mean(self.shares, (part.whatever_delay for part in found))
            if any(part.any_delay is not None for part in found)
            else None,
        )


def single_rules(rules: Iterable[Rule]) -> Iterator[Rule]:
    """The rules, and in place of each ``Combined`` those that it combines."""
    for rule in rules:
        yield from rule.rules if isinstance(rule, Combined) else (rule,)


def _weight(part: Evidence) -> float:
    return -math.inf if math.isnan(part.least) else part.least


def _evidence_rules(rules: object) -> tuple[EvidenceRule, ...]:
    expected = "a list of at least one SequentialFailureTest or Overdue"
    if isinstance(rules, (str, bytes, dict)) or not isinstance(rules, Sequence) or not rules:
        checks.refuse("rules", expected, rules)
    for rule in rules:
        if not isinstance(rule, EvidenceRule) or isinstance(rule, Combined):
            checks.refuse("rules", expected, rule)
    return tuple(rules)


def _weights(weights: object, count: int) -> tuple[float, ...] | None:
    if weights is None:
        return None
    expected = f"None or {count} numbers above 0 with the sum 1"
    if isinstance(weights, (str, bytes)) or not isinstance(weights, Sequence):
        checks.refuse("weights", expected, weights)
    numbers = tuple(checks.real("weights", one, expected, lambda n: n > 0) for one in weights)
    if len(numbers) != count or abs(math.fsum(numbers) - 1) > 1e-9:
        checks.refuse("weights", expected, weights)
    return numbers
