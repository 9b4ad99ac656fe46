"""How many failures stop a rollout: the line that the page draws."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from iotda_provider.guards import Rule, rules_from_json

_POINTS = 40
_LEAST_ROOM = 50
_MOST_DEVICES = 1_000_000


def drawn_to(started: int, devices: int) -> int:
    """How many started devices the curves have room for: at least twice those that have started.

    A large rollout that was stopped early would otherwise be a dot in a corner.
    """
    room = _LEAST_ROOM
    while room < 2 * started:
        room *= 2
    return max(1, started, min(room, devices))


def stop_line(rules: Sequence[dict[str, Any]], started: int, devices: int) -> list[tuple[int, int]]:
    """For growing numbers of started devices, the failures at which a rule breaks.

    Only rules that depend on these two numbers have a line; classes of failures are ignored.

    :param rules: the rules as JSON
    :param started: how many devices have started; the line has a point there
    :param devices: how many devices the rollout has
    :returns: pairs of started devices and failures, at most 41; empty: there is no such rule
    """
    if not 0 < devices <= _MOST_DEVICES:
        return []
    text = json.dumps(rules, sort_keys=True)
    line = {*_line(text, drawn_to(started, devices)), *_at(text, (started,))}
    return sorted(line)


@lru_cache(maxsize=256)
def _line(rules: str, devices: int) -> tuple[tuple[int, int], ...]:
    numbers = {max(1, round(devices * part / _POINTS)) for part in range(1, _POINTS + 1)}
    return _at(rules, tuple(sorted(numbers)))


@lru_cache(maxsize=256)
def _at(rules: str, numbers: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    try:
        found = [rule for rule in rules_from_json(rules) if _has_a_line(rule)]
    except ValueError:  # another version's rules
        return ()
    line = []
    for started in numbers:
        least = min((_least(rule, started) for rule in found), default=started + 1)
        if least <= started:
            line.append((started, least))
    return tuple(line)


def _has_a_line(rule: Rule) -> bool:
    return callable(getattr(rule, "breaks", None)) and getattr(rule, "denominator", None) in (
        None,
        "started",
    )


def _least(rule: Any, started: int) -> int:
    """The fewest failures among so many devices that break the rule; more than all: none do."""
    return bisect_left(range(started + 1), True, key=lambda failed: rule.breaks(failed, started))
