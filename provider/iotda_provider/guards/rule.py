"""What all rules have in common: when they are asked at all, and how they are written down."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, ClassVar, cast

from iotda_provider.guards import validation
from iotda_provider.guards.look import Counts, Observed
from iotda_provider.guards.verdict import Decision, Undecided, Verdict
from iotda_provider.models import TaskProgress

CLASSES, CLUSTERS, HISTORY = "classes", "clusters", "history"


class Rule(ABC):
    """A small frozen value that answers one question: what does this look say of the rollout?

    A rule knows no time but the one it is given, does no I/O and remembers nothing. It never
    decides on counts that do not add up, nor while the task is being stopped.
    """

    undecided_means: ClassVar[Decision] = Decision.CONTINUE

    @property
    def name(self) -> str:
        """The name of its class, as it stands in verdicts and in JSON."""
        return type(self).__name__

    @property
    def needs(self) -> frozenset[str]:
        """What it needs beside the counts: ``classes``, ``clusters``, ``history``."""
        return frozenset()

    @property
    def horizons(self) -> frozenset[float]:
        """For how many seconds back it asks how many devices had started."""
        return frozenset()

    @property
    def parameters(self) -> dict[str, Any]:
        """Its parameters as plain JSON."""
        return {field.name: _plain(getattr(self, field.name)) for field in _fields(self)}

    def check(self, progress: TaskProgress, *, observed: Observed | None = None) -> Verdict:
        """Judge one look.

        :param progress: the platform's counts, summed where the rollout is split over tasks
        :param observed: what else is known; :func:`~iotda_provider.guards.evaluate` fills it in
        """
        observed = observed or Observed()
        if observed.being_stopped:
            return self._cannot_tell(
                Undecided.STOPPING, "the task is being stopped or has been stopped"
            )
        if not progress.adds_up:
            return self._cannot_tell(
                Undecided.COUNTS, f"the counts do not add up, read them again ({progress})"
            )
        return self._judge(Counts(progress, observed))

    @abstractmethod
    def _judge(self, counts: Counts) -> Verdict:
        """Judge counts that add up, of a task that is not being stopped."""

    def _cannot_tell(self, why: Undecided, words: str, **evidence: Any) -> Verdict:
        return self._verdict(
            self.undecided_means, f"{self.name} cannot tell: {words}.", why, **evidence
        )

    def _verdict(
        self,
        decision: Decision,
        sentence: str,
        undecided: Undecided | None = None,
        **evidence: Any,
    ) -> Verdict:
        plain = {name: value for name, value in evidence.items() if _is_json(value)}
        return Verdict(
            decision=decision,
            rule=self.name,
            evidence={**plain, "parameters": self.parameters},
            sentence=sentence,
            undecided=undecided,
        )


class ClassedRule(Rule):
    """A rule that counts failures, of every class or of some."""

    failure_class: Sequence[str] | None

    @property
    def needs(self) -> frozenset[str]:
        return frozenset((CLASSES,) if self.failure_class else ())

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The classes of failures that count; None: every one."""
        return cast("tuple[str, ...] | None", self.failure_class)

    def _normalise(self, **values: Any) -> None:
        """Put the checked values in the place of what was given; for ``__post_init__`` only."""
        classes = validation.failure_classes("failure_class", self.failure_class)
        for name, value in {**values, "failure_class": classes}.items():
            object.__setattr__(self, name, value)

    def _failures(self, least: int, most: int) -> str:
        """How a sentence counts the failures that this rule is about."""
        kind = f"{'/'.join(self.classes)} " if self.classes else ""
        many = str(least) if least == most else f"{least} to {most}"
        return f"{many} {kind}failure{'' if many == '1' else 's'}"


def _fields(rule: Rule) -> tuple[Any, ...]:
    return fields(rule)  # type: ignore[arg-type]


def _plain(value: Any) -> Any:
    if isinstance(value, Rule):
        return {"rule": value.name, **value.parameters}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


def _is_json(value: Any) -> bool:
    # JSON has no NaN; a number that is none is left out instead of breaking who reads it.
    return not (isinstance(value, float) and not math.isfinite(value))


def percent(share: float) -> str:
    """A share in words: ``6.5 %``."""
    return f"{100 * share:.3g} %" if share < 0.9995 else f"{100 * share:.4g} %"
