"""JSON from outside: only what can be printed, written again and counted with."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import MISSING, fields
from typing import Any, NoReturn

from iotda_provider.models.text import what_is

_MOST_LEVELS = 64
# Of a number; those of more are larger than any float.
_MOST_DIGITS = 300
#: Of the numbers of a trigger's arguments: some 300 years in seconds.
_LARGEST = 1e10
_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "None": (type(None),),
}


def read_json(text: str) -> Any:
    """What a text of JSON holds.

    :raises ValueError: it is no JSON, has more than 64 levels of lists and objects, or a number
        that no float can hold, such as NaN
    """
    try:
        data = json.loads(text, parse_int=_whole, parse_float=_number, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    # To print it, or to write it again, takes a deeper stack than to read it.
    level = [data] if isinstance(data, (dict, list)) else []
    for _ in range(_MOST_LEVELS):
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
    if len(text) > _MOST_DIGITS:
        _no_number(text)
    return int(text)


def _number(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text[:20]} is no number of JSON that can be counted with")


def checked_fields(
    kind: Any, data: Any, name: str, *, read_by_caller: Collection[str] = ()
) -> dict[str, Any]:
    """The arguments of a dataclass out of plain JSON, which another release may have written.

    Its fields are text in one line, flags, and numbers from 0 to ten thousand million.

    :param kind: the dataclass
    :param name: what it is called in an error
    :param read_by_caller: fields of other types, whose values the caller has to check
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
        elif key not in read_by_caller and not _is_a(data[key], str(field.type).split(" | ")):
            raise ValueError(
                f"{name}: {key} must be {field.type}, got "
                f"{what_is(data[key], instead_of='another type')}"
            )
    return dict(data)


def _is_a(value: Any, types: list[str]) -> bool:
    if isinstance(value, bool):
        return "bool" in types
    if isinstance(value, (int, float)) and not 0 <= value <= _LARGEST:
        return False
    if isinstance(value, str) and not value.isprintable():
        return False
    return any(isinstance(value, _TYPES[one]) for one in types)
