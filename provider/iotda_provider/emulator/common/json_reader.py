"""Reads a JSON object field by field, so that whatever is wrong with it is one line with a name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from iotda_provider.emulator.common.randomness import LONGEST, Distribution

_T = TypeVar("_T")
_MISSING = object()
_MAX_SIGMA = 10.0
# Beyond every number of a scenario, and what a float still holds.
LARGEST = 1e300
_SHOWN = 60

_DISTRIBUTION_FIELDS = {
    "constant": ("value",),
    "uniform": ("min", "max"),
    "exponential": ("mean",),
    "lognormal": ("median", "sigma"),
}


class ScenarioError(ValueError):
    """A scenario that cannot be used: one line that names the field."""


class Reader:
    """Takes the fields of one object; ``done`` refuses those that nobody asked for.

    :param data: the object as JSON gave it
    :param path: where the object stands in the scenario, for messages; empty at the top
    """

    def __init__(self, data: object, path: str = "") -> None:
        if not isinstance(data, Mapping):
            raise ScenarioError(f"{path or 'the scenario'} must be an object, not {_kind(data)}")
        self._data: Mapping[str, Any] = data
        self._path = path
        self._asked: list[str] = []

    def __contains__(self, name: str) -> bool:
        return name in self._data

    def name(self, name: str) -> str:
        """The field's full name."""
        return f"{self._path}.{name}" if self._path else name

    def fail(self, name: str, what: str) -> ScenarioError:
        """An error about one field."""
        return ScenarioError(f"{self.name(name)} {what}")

    def raw(self, name: str, default: Any = None) -> Any:
        """The field as it is."""
        self._asked.append(name)
        return self._data.get(name, default)

    def number(
        self, name: str, default: _T, low: float = -LARGEST, high: float = LARGEST
    ) -> float | _T:
        """A number from ``low`` to ``high``."""
        value = self.raw(name, _MISSING)
        if value is _MISSING or (value is None and default is None):
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
            raise self.fail(name, f"must be a number, not {_kind(value)}")
        if not low <= value <= high:
            raise self.fail(name, f"must be {_range(low, high)}, not {_shown(value)}")
        return float(value)

    def whole(self, name: str, default: _T, low: int = 0, high: float = LARGEST) -> int | _T:
        """A whole number from ``low`` to ``high``."""
        value = self.raw(name, _MISSING)
        if value is _MISSING or (value is None and default is None):
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.fail(name, f"must be a whole number, not {_kind(value)}")
        if not low <= value <= high:
            raise self.fail(name, f"must be {_range(low, high)}, not {_shown(value)}")
        return value

    def text(self, name: str, default: _T, pattern: str | None = None) -> str | _T:
        """A text, of this form if given."""
        value = self.raw(name, _MISSING)
        if value is _MISSING or (value is None and default is None):
            return default
        if not isinstance(value, str):
            raise self.fail(name, f"must be a text, not {_kind(value)}")
        if pattern is not None and not re.fullmatch(pattern, value):
            raise self.fail(name, f"is not of the form {pattern}: {_shown(repr(value))}")
        return value

    def flag(self, name: str, default: bool) -> bool:
        """true or false."""
        value = self.raw(name, default)
        if not isinstance(value, bool):
            raise self.fail(name, f"must be true or false, not {_kind(value)}")
        return value

    def choice(self, name: str, default: str, choices: Sequence[str]) -> str:
        """One of these words."""
        value = self.raw(name, default)
        if not isinstance(value, str) or value not in choices:
            raise self.fail(name, f"must be one of {', '.join(choices)}, not {_shown(repr(value))}")
        return str(value)

    def texts(self, name: str, pattern: str | None = None) -> tuple[str, ...] | None:
        """A list of texts, or None where it is left out."""
        value = self.raw(name)
        if value is None:
            return None
        if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
            raise self.fail(name, "must be a list of texts")
        for text in value:
            if pattern is not None and not re.fullmatch(pattern, text):
                shown = _shown(repr(text))
                raise self.fail(name, f"holds {shown}, which is not of the form {pattern}")
        return tuple(value)

    def objects(self, name: str, read: Callable[[Reader], _T]) -> tuple[_T, ...]:
        """A list of objects, each read by ``read`` and then checked for unknown fields."""
        value = self.raw(name, ())
        if not isinstance(value, (list, tuple)):
            raise self.fail(name, f"must be a list, not {_kind(value)}")
        result = []
        for place, item in enumerate(value):
            reader = Reader(item, f"{self.name(name)}[{place}]")
            result.append(read(reader))
            reader.done()
        return tuple(result)

    def inner(self, name: str) -> Reader:
        """The object in this field (an empty one where it is left out)."""
        return Reader(self.raw(name, {}), self.name(name))

    def distribution(self, name: str, default: _T) -> Distribution | _T:
        """Seconds: a number, or an object that names a distribution."""
        value = self.raw(name, _MISSING)
        if value is _MISSING or (value is None and default is None):
            return default
        if isinstance(value, Mapping):
            return _read_distribution(Reader(value, self.name(name)))
        seconds = self.number(name, 0.0, 0.0, LONGEST)
        return Distribution("constant", seconds)

    def done(self) -> None:
        """Refuse the fields that nobody asked for."""
        for name in self._data:
            if name not in self._asked:
                near = difflib.get_close_matches(str(name), self._asked, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise ScenarioError(f"{self.name(str(name))} is not a known field{hint}")


def _read_distribution(reader: Reader) -> Distribution:
    kind = reader.choice("distribution", "", tuple(_DISTRIBUTION_FIELDS))
    numbers = []
    for field in _DISTRIBUTION_FIELDS[kind]:
        number = reader.number(field, None, 0.0, _MAX_SIGMA if field == "sigma" else LONGEST)
        if number is None:
            raise reader.fail(field, "is missing")
        numbers.append(number)
    if kind == "uniform" and numbers[1] < numbers[0]:
        raise reader.fail("max", "must not be below min")
    most = LONGEST
    if kind in ("exponential", "lognormal"):
        most = reader.number("max", LONGEST, 0.0, LONGEST)
    reader.done()
    first, second = (*numbers, 0.0)[:2]
    return Distribution(cast(Any, kind), first, second, most)


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text {_shown(repr(value))}"
    if isinstance(value, (int, float)):
        return f"the number {_shown(value)}"
    return "a list" if isinstance(value, (list, tuple)) else "an object"


def _shown(value: object) -> str:
    try:
        text = str(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        return "one of very many digits"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _range(low: float, high: float) -> str:
    if high == LARGEST:
        return f"at least {low:g}"
    return f"from {low:g} to {high:g}"
