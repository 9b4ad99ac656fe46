"""What rules would have done on recorded looks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from iotda_provider.guards.evaluation import evaluate
from iotda_provider.guards.look import Look
from iotda_provider.guards.rule import HISTORY, Rule
from iotda_provider.guards.verdict import Decision, Undecided, Verdict


@dataclass(frozen=True)
class Event:
    """A look at which a rule held or broke.

    :param after_seconds: the time since the first look
    """

    look: Look
    verdict: Verdict
    after_seconds: float


@dataclass(frozen=True)
class Outcome:
    """What one rule would have done.

    :param held: the first look at which it would have held; None: never
    :param broken: the look at which it would have stopped the rollout; None: never
    :param unsure: the number of looks that it could not judge without classes or clusters
    :param looks: the number of looks up to the stop, or to the end
    :param last: its verdict on the last of them; None: there was no look
    """

    rule: Rule
    held: Event | None
    broken: Event | None
    unsure: int
    looks: int
    last: Verdict | None


def replay(looks: Iterable[Look], rules: Sequence[Rule]) -> list[Outcome]:
    """Judge the looks by each rule separately, from the first look to the one at which it breaks.

    Looks after a stop, by the recorded guard or by somebody else, are not judged: without that stop
    they would have been different.

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
        # Many looks of a quiet night are equal: only rules that use times judge each of them.
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
