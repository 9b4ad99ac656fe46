"""The small SQL of IoTDA's device search, parsed and turned into a test of devices."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from iotda_provider.emulator.common import errors
from iotda_provider.emulator.common.errors import ApiError

MAX_LENGTH = 400
MAX_CONDITIONS = 5
MAX_ROWS = 50
MAX_OFFSET = 500
DEFAULT_ROWS = 10

FIELDS = (
    "app_id",
    "device_id",
    "gateway_id",
    "product_id",
    "device_name",
    "node_id",
    "status",
    "node_type",
    "tag_key",
    "tag_value",
    "sw_version",
    "fw_version",
    "group_id",
    "create_time",
    "marker",
)
_ORDERED = ("create_time", "marker")
_PREFIXED = ("device_name", "node_id", "tag_key", "tag_value")
_NO_LISTS = ("tag_key", "tag_value")

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|(?P<count>count\(\s*[*1]\s*\))"""
    r"""|(?P<word>[A-Za-z_][A-Za-z0-9_.]*)|(?P<number>\d+)|(?P<sign>!=|<>|[=<>(),*]))""",
    re.IGNORECASE,
)
_PREFIX = re.compile(r"[\u4e00-\u9fffA-Za-z0-9_-]{4,}%")

Values = Callable[[int, str], Sequence[str]]


@dataclass(frozen=True)
class Query:
    """A search, read and checked; ``fields`` is None for all of them."""

    fields: tuple[str, ...] | None
    counts: bool
    test: AnyOf
    ascending: bool
    offset: int
    rows: int


@dataclass(frozen=True)
class Condition:
    """One comparison of a field with texts."""

    field: str
    operator: str
    texts: tuple[str, ...]

    def __call__(self, device: int, values: Values) -> bool:
        """Whether it is true for a device; one of a field's several values is enough."""
        found = values(device, self.field)
        operator = self.operator
        if operator in ("=", "in"):
            return any(value in self.texts for value in found)
        if operator in ("!=", "not in"):
            return not any(value in self.texts for value in found)
        if operator == "like":
            return any(value.startswith(self.texts[0][:-1]) for value in found)
        if operator == "<":
            return any(value < self.texts[0] for value in found)
        return any(value > self.texts[0] for value in found)


@dataclass(frozen=True)
class AnyOf:
    """Conditions joined by OR of ones joined by AND."""

    alternatives: tuple[tuple[Condition, ...], ...]

    @cached_property
    def fields(self) -> frozenset[str]:
        """The fields that are compared."""
        return frozenset(c.field for conditions in self.alternatives for c in conditions)

    def texts_of(self, field: str) -> list[str]:
        """The texts that a field is compared with, each once."""
        return list(
            dict.fromkeys(
                text
                for conditions in self.alternatives
                for condition in conditions
                if condition.field == field
                for text in condition.texts
            )
        )

    @property
    def markers(self) -> tuple[str, str | None]:
        """Markers that all wanted devices lie between; None: there is no upper one."""
        lower = [_bounds(conditions, ">") for conditions in self.alternatives]
        upper = [_bounds(conditions, "<") for conditions in self.alternatives]
        return (
            min((max(texts, default="") for texts in lower), default=""),
            max(min(texts) for texts in upper) if upper and all(upper) else None,
        )

    def __call__(self, device: int, values: Values) -> bool:
        """Whether one of the alternatives is true; without conditions every device passes."""
        if not self.alternatives:
            return True
        return any(all(c(device, values) for c in conditions) for conditions in self.alternatives)


def _bounds(conditions: Sequence[Condition], operator: str) -> list[str]:
    return [c.texts[0] for c in conditions if c.field == "marker" and c.operator == operator]


def _refuse(detail: str) -> ApiError:
    return errors.invalid(f"sql: {detail}.")


class _Parser:
    def __init__(self, sql: str) -> None:
        self._tokens: list[tuple[str, str]] = []
        place = 0
        end = len(sql.rstrip())
        while place < end:
            match = _TOKEN.match(sql, place)
            if match is None or match.lastgroup is None:
                raise _refuse(f"cannot be read from {sql[place : place + 20].strip()!r} on")
            self._tokens.append((match.lastgroup, match[match.lastgroup]))
            place = match.end()
        self._at = 0

    def peek(self) -> str:
        """The next token in lower case; empty at the end."""
        return self._tokens[self._at][1].lower() if self._at < len(self._tokens) else ""

    def take(self, kind: str | None = None) -> str:
        """The next token, which must be of this kind."""
        if self._at >= len(self._tokens):
            raise _refuse("ends too early")
        found, text = self._tokens[self._at]
        if kind is not None and found != kind:
            raise _refuse(f"{text!r} is not expected there")
        self._at += 1
        return text

    def accept(self, *words: str) -> bool:
        """Take these words, if they come next."""
        ahead = [text.lower() for _, text in self._tokens[self._at : self._at + len(words)]]
        if ahead != list(words):
            return False
        self._at += len(words)
        return True

    def expect(self, word: str) -> None:
        """Take this word, which must come next."""
        if not self.accept(word):
            raise _refuse(f"{word!r} is missing before {self.peek() or 'the end'!r}")

    def done(self) -> bool:
        """Whether nothing is left."""
        return self._at >= len(self._tokens)

    def text(self) -> str:
        """A quoted text, without its quotes."""
        return re.sub(r"\\(.)", r"\1", self.take("text")[1:-1])


def parse(sql: object) -> Query:
    """Read a search.

    :raises ApiError: it is not one, or above a limit of the platform
    """
    if not isinstance(sql, str) or not sql.strip():
        raise _refuse("is required")
    if len(sql) > MAX_LENGTH:
        raise _refuse(f"must not exceed {MAX_LENGTH} characters")
    parser = _Parser(sql)
    parser.expect("select")
    fields, counts = _selected(parser)
    parser.expect("from")
    parser.expect("device")
    test = _conditions(parser) if parser.accept("where") else AnyOf(())
    ascending = False
    if parser.accept("order", "by"):
        if parser.take("word") != "marker":
            raise _refuse("can be ordered by marker only")
        ascending = not parser.accept("desc") and (parser.accept("asc") or True)
    offset, rows = 0, DEFAULT_ROWS
    if parser.accept("limit"):
        rows = int(parser.take("number"))
        if parser.accept(","):
            offset, rows = rows, int(parser.take("number"))
    if not parser.done():
        raise _refuse(f"{parser.peek()!r} is not expected there")
    if rows > MAX_ROWS or offset > MAX_OFFSET:
        raise _refuse(f"limit takes at most {MAX_ROWS} rows and an offset of {MAX_OFFSET}")
    return Query(fields, counts, test, ascending, offset, rows)


def parse_rule(rule: object) -> AnyOf:
    """Read the rule of a dynamic group: the part of a search after ``where``.

    :raises ApiError: it is not one
    """
    if not isinstance(rule, str) or not rule.strip():
        raise _refuse("dynamic_group_rule is required")
    parser = _Parser(rule)
    test = _conditions(parser)
    if not parser.done():
        raise _refuse(f"{parser.peek()!r} is not expected there")
    return test


def _selected(parser: _Parser) -> tuple[tuple[str, ...] | None, bool]:
    if parser.accept("*"):
        return None, False
    if parser.peek().startswith("count("):
        parser.take("count")
        return None, True
    fields = [parser.take("word")]
    while parser.accept(","):
        fields.append(parser.take("word"))
    return tuple(fields), False


def _conditions(parser: _Parser) -> AnyOf:
    alternatives = [[_condition(parser)]]
    while True:
        if parser.accept("and"):
            alternatives[-1].append(_condition(parser))
        elif parser.accept("or"):
            alternatives.append([_condition(parser)])
        else:
            break
    if sum(map(len, alternatives)) > MAX_CONDITIONS:
        raise _refuse(f"takes at most {MAX_CONDITIONS} conditions")
    return AnyOf(tuple(map(tuple, alternatives)))


def _condition(parser: _Parser) -> Condition:
    field = parser.take("word")
    if field not in FIELDS:
        raise _refuse(f"{field!r} is not a field that can be searched by")
    if parser.accept("not", "in") or parser.accept("in"):
        operator = "not in" if parser._tokens[parser._at - 2][1].lower() == "not" else "in"
        if field in _NO_LISTS:
            raise _refuse(f"{field} does not take {operator}")
        return Condition(field, operator, _list(parser))
    if parser.accept("like"):
        prefix = parser.text()
        if field not in _PREFIXED or not _PREFIX.fullmatch(prefix):
            raise _refuse("like takes names and node ids, and a prefix of 4 characters and %")
        return Condition(field, "like", (prefix,))
    operator = parser.take("sign")
    operator = "!=" if operator == "<>" else operator
    if operator in ("<", ">") and field not in _ORDERED:
        raise _refuse(f"{field} does not take {operator}")
    if operator not in ("=", "!=", "<", ">"):
        raise _refuse(f"{operator!r} is not a comparison")
    text = parser.text()
    if not text:
        raise _refuse("does not match empty texts")
    return Condition(field, operator, (text,))


def _list(parser: _Parser) -> tuple[str, ...]:
    parser.expect("(")
    texts = [parser.text()]
    while parser.accept(","):
        texts.append(parser.text())
    parser.expect(")")
    return tuple(texts)


def chosen(row: Mapping[str, object], fields: Sequence[str] | None) -> dict[str, object]:
    """A result's row with the selected fields only."""
    return dict(row) if fields is None else {f: row[f] for f in fields if f in row}
