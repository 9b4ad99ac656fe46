"""Rules as plain JSON and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from typing import Any, NoReturn

from iotda_provider.guards.combined import Combined
from iotda_provider.guards.enough_success import EnoughSuccess
from iotda_provider.guards.rule import Rule
from iotda_provider.guards.sequential import SequentialFailureTest
from iotda_provider.guards.thresholds import MaxFailureRate, MaxFailures
from iotda_provider.guards.time_rules import Overdue, Stalled
from iotda_provider.models.checks import short_repr

RULES: dict[str, type[Rule]] = {
    rule.__name__: rule
    for rule in (
        MaxFailures,
        MaxFailureRate,
        SequentialFailureTest,
        Stalled,
        Overdue,
        Combined,
        EnoughSuccess,
    )
}

_MOST_RULES = 100
_LONGEST = 100_000


def rules_to_json(rules: Rule | Iterable[Rule]) -> list[dict[str, Any]]:
    """Rules as plain JSON: ``[{"rule": "MaxFailures", "count": 5, ...}, ...]``.

    Every parameter is written, defaults included, so that a later change of a default does not
    change the rule.
    """
    given = (rules,) if isinstance(rules, Rule) else tuple(rules)
    return [rule.to_json() for rule in given]


def rules_from_json(data: object) -> list[Rule]:
    """Read what :func:`rules_to_json` wrote, or its JSON text. Parameters may be missing.

    :raises ValueError: it is something else, a rule or a parameter is unknown, or a value is wrong;
        the message names it
    """
    if isinstance(data, (str, bytes)):
        data = _parse(data)
    if isinstance(data, Mapping):
        data = [data]
    if not isinstance(data, (list, tuple)):
        raise ValueError(f"rules must be a list of objects, not {short_repr(data)}")
    if len(data) > _MOST_RULES:
        raise ValueError(f"rules: {len(data)} of them; at most {_MOST_RULES} make sense")
    return [rule_from_json(item) for item in data]


def rule_from_json(data: object, *, inner: bool = False) -> Rule:
    """Read one rule.

    :param data: an object with ``rule`` and the rule's parameters
    :param inner: whether it is a rule of a :class:`Combined`
    :raises ValueError: as :func:`rules_from_json`
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"a rule must be an object such as {_EXAMPLE}, not {short_repr(data)}")
    name = data.get("rule")
    if not isinstance(name, str) or name not in RULES:
        raise ValueError(f"unknown rule {short_repr(name)}; known are {', '.join(RULES)}")
    if inner and name == "Combined":
        raise ValueError("rules: a Combined cannot stand in another one")
    values = {key: value for key, value in data.items() if key != "rule"}
    if name == "SequentialFailureTest" and values.get("cluster", "") is None:
        del values["cluster"]  # an earlier version wrote this for a rule without a cluster
    if name == "Combined" and isinstance(values.get("rules"), (list, tuple)):
        if len(values["rules"]) > _MOST_RULES:
            raise ValueError(f"rules: at most {_MOST_RULES} make sense in one Combined")
        values["rules"] = tuple(rule_from_json(item, inner=True) for item in values["rules"])
    return make(name, (), values)


_EXAMPLE = '{"rule": "MaxFailures", "count": 5}'


def make(name: str, positional: tuple[Any, ...], named: Mapping[str, Any]) -> Rule:
    """Make the rule of that name, with errors that name the rule and the parameter.

    :raises ValueError: an argument is unknown, missing, given twice or wrong
    """
    rule = RULES[name]
    known = {field.name: field for field in fields(rule)}  # type: ignore[arg-type]
    if len(positional) > len(known):
        raise ValueError(f"{name} takes at most {len(known)} parameters: {', '.join(known)}")
    values = dict(zip(known, positional, strict=False))
    for key, value in named.items():
        if key not in known:
            raise ValueError(
                f"{name} has no parameter {short_repr(key)}; it has {', '.join(known)}"
            )
        if key in values:
            raise ValueError(f"{name}: {key} is given twice")
        values[key] = value
    for key, field in known.items():
        if key not in values and field.default is MISSING:
            raise ValueError(f"{name} needs the parameter {key}")
    try:
        return rule(**values)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _parse(text: str | bytes) -> object:
    if len(text) > _LONGEST:
        raise ValueError(f"rules: {len(text)} characters are too many to be rules")
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"rules are not JSON: {error}") from error


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a number")
