"""JSON from outside: only what can be printed, written again and counted with."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

_MOST_LEVELS = 64
# Of a number; those of more are larger than any float.
_MOST_DIGITS = 300


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
