"""What other rules would have done on looks that were recorded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from iotda_provider.guards.evaluation import evaluate
from iotda_provider.guards.look import Look
from iotda_provider.guards.rule import HISTORY, Rule
from iotda_provider.guards.verdict import Decision, Undecided, Verdict


@dataclass(frozen=True)
class Event:
    """A look at which a rule decided something.

    :param after_seconds: since the first look
    """

    look: Look
    verdict: Verdict
    after_seconds: float


@dataclass(frozen=True)
class Outcome:
    """What one rule would have done.

    :param held: the first look that it would have held at, or None
    :param broken: the first look that it would have stopped at, or None
    :param unsure: looks that it could not judge for want of classes or clusters
    :param looks: looks up to the end, or to the stop
    :param last: what it said of the last of them
    """

    rule: Rule
    held: Event | None
    broken: Event | None
    unsure: int
    looks: int
    last: Verdict | None


def replay(looks: Iterable[Look], rules: Sequence[Rule]) -> list[Outcome]:
    """Show the looks to each rule by itself, from the first look on, up to where it breaks.

    Where the recorded guard, or somebody else, stopped the rollout, no later look is judged: what
    a rule would have done after that, nobody can know.

    :raises ValueError: something is not a stopping rule
    """
    seen = list(looks)
    return [_replay(seen, rule) for rule in rules]


def _replay(looks: Sequence[Look], rule: Rule) -> Outcome:
    state = None
    held: Event | None = None
    unsure = count = 0
    before: dict[str, object] | None = None
    last: Verdict | None = None
    for look in looks:
        count += 1
        facts = {name: value for name, value in vars(look).items() if name != "time"}
        # A quiet night is thousands of equal looks; only rules with a clock care how many.
        if facts == before and HISTORY not in rule.needs and last is not None:
            unsure += _is_unsure(last)
            continue
        before = facts
        state, last = evaluate(rule, state, look)
        unsure += _is_unsure(last)
        event = Event(look, last, look.time - looks[0].time)
        if last.decision is Decision.HOLD and held is None:
            held = event
        if last.decision is Decision.BREACH:
            return Outcome(rule, held, event, unsure, count, last)
    return Outcome(rule, held, None, unsure, count, last)


def _is_unsure(verdict: Verdict) -> bool:
    return verdict.undecided in (Undecided.CLASSES, Undecided.CLUSTERS)
