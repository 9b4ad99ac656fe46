"""The base of all rules: which counts they judge, and how they become JSON."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, cast

from iotda_provider.guards.look import Counts, Observed
from iotda_provider.guards.verdict import Decision, Undecided, Verdict
from iotda_provider.guards.wording import Counted, how_many, what_failed
from iotda_provider.models import TaskProgress, checks
from iotda_provider.models.json_text import plain_arguments

CLASSES, CLUSTERS, HISTORY, ATTEMPTS = "classes", "clusters", "history", "attempts"


class Rule(ABC):
    """A frozen value that judges a look at a rollout.

    A rule reads no clock, does no I/O and keeps no state. It decides nothing if the counts do not
    add up, or while the task is being stopped.
    """

    undecided_means: ClassVar[Decision] = Decision.CONTINUE

    @property
    def name(self) -> str:
        """The name of the rule's class, for verdicts and JSON."""
        return type(self).__name__

    @property
    def needs(self) -> frozenset[str]:
        """What the rule needs besides the counts.

        ``classes`` or ``clusters`` of the failures; the ``history`` of earlier looks; ``attempts``,
        which are earlier looks and the ids of the devices that wait for a retry.
        """
        return frozenset()

    @property
    def horizons(self) -> frozenset[float]:
        """The ages, in seconds, for which the rule asks how many devices had started by then."""
        return frozenset()

    @property
    def ages_up_to(self) -> float:
        """The age in seconds up to which the rule must know how long ago a device started."""
        return 0.0

    @property
    def parameters(self) -> dict[str, Any]:
        """The rule's parameters as plain JSON."""
        return plain_arguments(self)

    def to_json(self) -> dict[str, Any]:
        """The rule as plain JSON: ``{"rule": "MaxFailures", "count": 5, ...}``."""
        return {"rule": self.name, **self.parameters}

    def check(self, progress: TaskProgress, *, observed: Observed | None = None) -> Verdict:
        """Judge one look.

        :param progress: the platform's counts, summed over the rollout's tasks
        :param observed: what else is known, as :func:`~iotda_provider.guards.evaluate` passes it;
            None: nothing
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
            self.undecided_means, "", f"{self.name} cannot tell: {words}.", why, **evidence
        )

    def _verdict(
        self,
        decision: Decision,
        counts: str,
        reason: str,
        undecided: Undecided | None = None,
        **evidence: Any,
    ) -> Verdict:
        """A verdict whose sentence gives the counts, and then what they mean to this rule."""
        plain = {name: value for name, value in evidence.items() if _is_json(value)}
        return Verdict(
            decision=decision,
            rule=self.name,
            evidence={**plain, "parameters": self.parameters},
            sentence=f"{counts}: {reason}" if counts else reason,
            reason=reason,
            undecided=undecided,
        )


class ClassedRule(Rule):
    """A rule that counts failures, of all classes or of some."""

    failure_class: Sequence[str] | None

    @property
    def needs(self) -> frozenset[str]:
        return frozenset((CLASSES,) if self.failure_class else ())

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The classes of failures that count; None: all classes."""
        return cast("tuple[str, ...] | None", self.failure_class)

    def _normalise(self, **values: Any) -> None:
        """Replace parameters by their checked values; only for ``__post_init__``."""
        classes = checks.failure_classes("failure_class", self.failure_class)
        for name, value in {**values, "failure_class": classes}.items():
            object.__setattr__(self, name, value)

    def _failed(self, least: int, most: int, of: str, **more: Any) -> Counted:
        """The failed devices that this rule counts."""
        return Counted(how_many(least, most), what_failed(self.classes), of, **more)


def _is_json(value: Any) -> bool:
    # JSON has no NaN and no infinity: such a number is left out.
    return not (isinstance(value, float) and not math.isfinite(value))
