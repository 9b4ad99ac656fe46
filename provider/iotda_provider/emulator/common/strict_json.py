"""Reads JSON that can be written again: numbers that a double holds, limited nesting.

Python's own reader accepts ``NaN``, ``1e999`` and deep nesting, which its writer cannot write. The
emulator repeats parts of requests in its answers, which must be JSON.
"""

from __future__ import annotations

import json
import math
from typing import NoReturn

MAX_DEPTH = 32
# Whole numbers of no more digits are below the largest double, 1.8e308.
MAX_DIGITS = 300


def parse(raw: bytes | str) -> object:
    """The value that a JSON text holds.

    :raises ValueError: it is not JSON, nested more than ``MAX_DEPTH`` deep, or has a number that is
        not finite or has more than ``MAX_DIGITS`` digits
    """
    try:
        value = json.loads(raw, parse_constant=_not_a_number, parse_float=_finite, parse_int=_whole)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    _check_depth(value)
    return value


def _not_a_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError("a number is too large")
    return int(text)


def _check_depth(value: object) -> None:
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MAX_DEPTH):
        if not level:
            return
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, (dict, list))
        ]
    if level:
        raise ValueError("it is nested too deep")
