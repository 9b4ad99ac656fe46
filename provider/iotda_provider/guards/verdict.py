"""What a rule says about one look: a decision, the evidence for it, and a sentence to read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class _Word(str, Enum):
    def __str__(self) -> str:
        return str(self.value)


class Decision(_Word):
    """What is to be done. ``WAIT`` and ``GO`` are the words of a gate, the others of a guard."""

    CONTINUE = "continue"
    HOLD = "hold"
    BREACH = "breach"
    WAIT = "wait"
    GO = "go"


class Undecided(_Word):
    """Why a look could not be judged, and so changed nothing."""

    COUNTS = "counts"
    """The counts do not add up: read them again."""
    STOPPING = "stopping"
    """Somebody is stopping the task, or has stopped it: its counts say nothing of the firmware."""
    CLASSES = "classes"
    """The verdict hangs on which class the failures are of: read the failed subtasks."""
    CLUSTERS = "clusters"
    """The verdict hangs on which clusters the failures are in."""
    HISTORY = "history"
    """The rule compares with earlier looks, and none was given."""
    EVIDENCE = "evidence"
    """The arithmetic gave no number."""


@dataclass(frozen=True)
class Verdict:
    """A rule's answer to one look.

    :param decision: what is to be done
    :param rule: the name of the rule's class
    :param evidence: plain JSON: ``measure`` (what was measured), its ``value`` and its ``bound``,
        the counts behind them, and the rule's ``parameters``
    :param sentence: the same, in one sentence for a person
    :param undecided: why nothing could be decided, where it could not
    :param parts: where several rules were asked, what each of them said
    """

    decision: Decision
    rule: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    sentence: str = ""
    undecided: Undecided | None = None
    parts: tuple[Verdict, ...] = field(default=(), repr=False)

    @property
    def breached(self) -> bool:
        """Whether the rollout is to be stopped."""
        return self.decision is Decision.BREACH

    @property
    def share_of_bound(self) -> float:
        """How near to its bound the value is: 0 or less is far, 1 or more has reached it."""
        value, bound = self.evidence.get("value"), self.evidence.get("bound")
        return value / bound if value is not None and bound else 0.0

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON; ``undecided`` and ``parts`` only where there are any."""
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
