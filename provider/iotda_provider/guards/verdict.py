"""What a rule says about one look: a decision, the evidence for it, and a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class _Word(str, Enum):
    def __str__(self) -> str:
        return str(self.value)


class Decision(_Word):
    """What to do. A gate says ``WAIT`` or ``GO``, a guard one of the others."""

    CONTINUE = "continue"
    HOLD = "hold"
    BREACH = "breach"
    WAIT = "wait"
    GO = "go"


class Undecided(_Word):
    """Why a look could not be judged for certain."""

    COUNTS = "counts"
    """The counts do not add up: read them again."""
    STOPPING = "stopping"
    """Somebody is stopping the task or has stopped it: its counts do not judge the firmware."""
    CLASSES = "classes"
    """The verdict depends on the classes of the failures: read the failed subtasks."""
    CLUSTERS = "clusters"
    """The verdict depends on the clusters of the failures, and they are not known."""
    HISTORY = "history"
    """The rule compares with earlier looks, and none are known."""
    EVIDENCE = "evidence"
    """The evidence could not be computed in double precision."""


@dataclass(frozen=True)
class Verdict:
    """A rule's verdict on one look.

    :param decision: what to do
    :param rule: the name of the rule's class
    :param evidence: plain JSON: ``measure`` (what was measured), its ``value`` and its ``bound``,
        the counts behind them, and the rule's ``parameters``
    :param sentence: the same, in one sentence for a person
    :param reason: the sentence without the counts that it begins with; empty: not known apart
    :param undecided: why the look could not be judged for certain; None: it could
    :param parts: if several rules were asked, the verdict of each
    """

    decision: Decision
    rule: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    sentence: str = ""
    undecided: Undecided | None = None
    parts: tuple[Verdict, ...] = field(default=(), repr=False)
    reason: str = field(default="", repr=False, compare=False)

    @property
    def breached(self) -> bool:
        """Whether the rollout must be stopped."""
        return self.decision is Decision.BREACH

    @property
    def share_of_bound(self) -> float:
        """The value as a share of its bound: at 1 or more, the bound is reached."""
        value, bound = self.evidence.get("value"), self.evidence.get("bound")
        return value / bound if value is not None and bound else 0.0

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON without ``reason``; ``undecided`` and ``parts`` are left out if empty."""
        data: dict[str, Any] = {
            "decision": str(self.decision),
            "rule": self.rule,
            "evidence": dict(self.evidence),
            "sentence": self.sentence,
        }
        if self.undecided:
            data["undecided"] = str(self.undecided)
        if self.parts:
            data["parts"] = [part.to_dict() for part in self.parts]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Verdict:
        """Read what :meth:`to_dict` wrote.

        :raises ValueError: it is not a verdict
        """
        try:
            undecided = data.get("undecided")
            return cls(
                decision=Decision(data["decision"]),
                rule=str(data["rule"]),
                evidence=dict(data.get("evidence") or {}),
                sentence=str(data.get("sentence") or ""),
                undecided=Undecided(undecided) if undecided else None,
                parts=tuple(cls.from_dict(part) for part in data.get("parts") or ()),
            )
        except (AttributeError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"not a verdict: {error!r}") from error
