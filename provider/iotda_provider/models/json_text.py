"""JSON from outside: only values that can be printed, written again and used as numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from iotda_provider.models.text import what_is

if TYPE_CHECKING:
    from typing_extensions import Self

#: The most digits of a whole number; a longer one is larger than any float.
MAX_DIGITS = 300
#: The largest number in a trigger's arguments: about 300 years in seconds.
_LARGEST = 1e10
_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "None": (type(None),),
}


def read_json(text: str | bytes, most_levels: int = 64) -> Any:
    """The value of a JSON text.

    :param most_levels: how many levels of lists and objects it may have
    :raises ValueError: it is not JSON, has more levels, or has a number that is not a finite
        float, such as NaN
    """
    try:
        data = json.loads(text, parse_int=_whole, parse_float=_number, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    # Printing or writing nested values needs a deeper stack than reading them.
    level = [data] if isinstance(data, (dict, list)) else []
    for _ in range(most_levels):
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return data
    raise ValueError("it is nested too deeply")


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        _no_number(text)
    return int(text)


def _number(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text[:20]} is no number of JSON that can be counted with")


class PlainJson:
    """Makes a dataclass plain JSON, and reads it again.

    A class says what an error calls it, and what reads the values of fields that are neither text
    nor flags nor numbers.
    """

    title: ClassVar[str] = "job"
    readers: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}

    def to_json(self) -> dict[str, Any]:
        """As plain JSON: its arguments by their names."""
        return plain_arguments(self)

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """The inverse of :meth:`to_json`.

        :raises ValueError: it is not what that returns
        """
        return cls(**checked_fields(cls, data, cls.title, **cls.readers))


def plain_arguments(one: Any) -> dict[str, Any]:
    """The arguments of a dataclass as plain JSON; each value that has a ``to_json`` by that."""
    return {field.name: _plain(getattr(one, field.name)) for field in fields(one) if field.init}


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, Mapping):
        return dict(value)
    return value.to_json() if hasattr(value, "to_json") else value


def checked_fields(
    kind: Any, data: Any, name: str, **readers: Callable[[Any], Any]
) -> dict[str, Any]:
    """The arguments of a dataclass, from plain JSON that another release may have written.

    A field is text without control characters, a flag, or a number from 0 to 10,000,000,000.

    :param kind: the dataclass
    :param name: what an error calls the object
    :param readers: what reads the values of fields of other types; they raise a ValueError, too
    :raises ValueError: a field is missing, unknown, or of another type; the message names it
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"{name} must be an object, got {what_is(data, instead_of='an object')}")
    known = {field.name: field for field in fields(kind) if field.init}
    for key in data:
        if key not in known:
            raise ValueError(f"{name} has a field that this release does not know: {what_is(key)}")
    for key, field in known.items():
        if key not in data:
            if field.default is MISSING and field.default_factory is MISSING:
                raise ValueError(f"{name} lacks {key}")
        elif key not in readers and not _is_a(data[key], str(field.type).split(" | ")):
            raise ValueError(
                f"{name}: {key} must be {field.type}, got "
                f"{what_is(data[key], instead_of='another type')}"
            )
    return {key: readers[key](value) if key in readers else value for key, value in data.items()}


def _is_a(value: Any, types: list[str]) -> bool:
    if isinstance(value, bool):
        return "bool" in types
    if isinstance(value, (int, float)) and not 0 <= value <= _LARGEST:
        return False
    if isinstance(value, str) and not value.isprintable():
        return False
    return any(isinstance(value, _TYPES[one]) for one in types)
