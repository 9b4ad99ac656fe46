"""Rules as text: ``SequentialFailureTest(0.02), MaxFailures(5)``, or JSON."""

from __future__ import annotations

import ast
import json
from typing import Any

from iotda_provider.guards.reporting_delay import ReportingDelay
from iotda_provider.guards.rule import Rule
from iotda_provider.guards.serialization import RULES, make, rules_from_json

_LONGEST = 20_000


def parse_rules(text: str) -> list[Rule]:
    """Read rules in Python's notation, separated by commas or one on each line, or as JSON.

    The text is parsed and never executed.

    :raises ValueError: it is neither, or a rule or a parameter is unknown or wrong
    """
    text = text.strip()
    if not text:
        raise ValueError("no rules given; write for example SequentialFailureTest(0.02)")
    if len(text) > _LONGEST:
        raise ValueError(f"{len(text)} characters are too many to be rules")
    if text[0] in "[{":
        try:
            return rules_from_json(json.loads(text))
        except json.JSONDecodeError as error:
            # A list of rules in Python's notation also begins with a bracket.
            if "(" not in text:
                raise ValueError(f"rules are not JSON: {error}") from error
        except RecursionError as error:
            raise ValueError("rules are nested too deeply") from error
    return [_rule(node) for node in _nodes(text)]


def _nodes(text: str) -> list[ast.expr]:
    """The expressions in the text, separated by commas or one on each line."""
    try:
        try:
            body = ast.parse(f"({text}\n)", mode="eval").body
        except SyntaxError:
            lines = ast.parse(text).body
            if not all(isinstance(line, ast.Expr) for line in lines):
                raise
            return [line.value for line in lines if isinstance(line, ast.Expr)]
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ValueError(f"cannot read the rules {_short(text)}: {reason}") from error
    return body.elts if isinstance(body, (ast.Tuple, ast.List)) else [body]


def notation(rule: Rule, *, whole: bool = False) -> str:
    """A rule in Python's notation, without the parameters that have their default value.

    :param whole: write a reporting delay with all its ages, even if they are many
    """
    named: list[str] = []
    for name, value in rule.parameters.items():
        if value == getattr(type(rule), name, _REQUIRED):
            continue
        if name == "rules":
            inner: Any = rule.rules  # type: ignore[attr-defined]
            shown = f"[{', '.join(notation(one, whole=whole) for one in inner)}]"
        elif name == "reporting":
            delay: ReportingDelay = rule.reporting  # type: ignore[attr-defined]
            shown = str(delay) if whole or len(delay.knots) <= 6 else "ReportingDelay(...)"
        else:
            shown = repr(value)
        required = getattr(type(rule), name, _REQUIRED) is _REQUIRED
        named.append(shown if required and not named else f"{name}={shown}")
    return f"{rule.name}({', '.join(named)})"


_REQUIRED = object()


def _rule(node: ast.expr) -> Rule:
    known = ", ".join(RULES)
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise ValueError(f"{_source(node)} is not a rule; write for example MaxFailures(5)")
    name = node.func.id
    if name not in RULES:
        raise ValueError(f"unknown rule {name}; known are {known}")
    named: dict[str, Any] = {}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise ValueError(f"{name}: ** is not understood here")
        if keyword.arg in named:
            raise ValueError(f"{name}: {keyword.arg} is given twice")
        named[keyword.arg] = _value(keyword.value, name)
    return make(name, tuple(_value(item, name) for item in node.args), named)


def _value(node: ast.expr, name: str) -> Any:
    if isinstance(node, (ast.List, ast.Tuple)):
        return tuple(_value(item, name) for item in node.elts)
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name) and node.func.id == ReportingDelay.__name__:
            return _delay(node)
        if name != "Combined":
            raise ValueError(f"{name}: {_source(node)} is not a value")
        return _rule(node)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"{name}: {_source(node)} is not a plain value") from error


def _delay(node: ast.Call) -> ReportingDelay:
    name = ReportingDelay.__name__
    named = {word.arg: _value(word.value, name) for word in node.keywords if word.arg}
    known = ReportingDelay.__dataclass_fields__
    if len(node.args) > 1 or not set(named) <= set(known) or ("shares" in named) == bool(node.args):
        raise ValueError(
            f"{_source(node)} is not understood; write for example {name}({{600: 0.5, 3600: 1}})"
        )
    try:
        return ReportingDelay(*(_value(item, name) for item in node.args), **named)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _source(node: ast.expr) -> str:
    return _short(ast.unparse(node))


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
