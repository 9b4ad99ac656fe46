"""Parameters checked once, when a rule is made: a bad one is a ValueError that names it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import NoReturn

CLASSES = ("environment", "firmware", "unknown")


def refuse(name: str, expected: str, value: object) -> NoReturn:
    """Raise the ValueError that says which parameter is wrong and what it should be."""
    shown = repr(value)
    if len(shown) > 80:
        shown = shown[:77] + "..."
    raise ValueError(f"{name} must be {expected}, not {shown}")


def whole(name: str, value: object, *, least: int = 0) -> int:
    """A whole number of at least ``least``."""
    expected = f"a whole number of at least {least}"
    # A bool is an int to Python, and a slip of the pen to everybody else.
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        refuse(name, expected, value)
    return int(value)


def pair(name: str, value: object) -> tuple[int, int]:
    """Two counts, as a tuple or as the list that JSON makes of one."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        refuse(name, "a pair of counts", value)
    return whole(name, value[0]), whole(name, value[1])


def real(name: str, value: object, expected: str) -> float:
    """A finite number; what it must be is said in ``expected``."""
    if isinstance(value, bool) or not isinstance(value, Real):
        refuse(name, expected, value)
    try:
        number = float(value)
    except OverflowError:
        refuse(name, expected, value)
    if not math.isfinite(number):
        refuse(name, expected, value)
    return number


def rate(name: str, value: object, *, one_allowed: bool = False) -> float:
    """A share above 0 and below 1 (or up to 1)."""
    below = "at most 1" if one_allowed else "below 1"
    expected = f"a rate above 0 and {below} (5 % is 0.05)"
    number = real(name, value, expected)
    if not (0 < number < 1 or (one_allowed and number == 1)):
        refuse(name, expected, value)
    return number


def share(name: str, value: object) -> float:
    """A share from 0 to 1, both allowed."""
    expected = "a share from 0 to 1"
    number = real(name, value, expected)
    if not 0 <= number <= 1:
        refuse(name, expected, value)
    return number


def seconds(name: str, value: object) -> float:
    """A positive, finite number of seconds."""
    expected = "a number of seconds above 0"
    number = real(name, value, expected)
    if number <= 0:
        refuse(name, expected, value)
    return number


def moment(name: str, value: object) -> float:
    """A time in seconds since the epoch that a calendar can show."""
    expected = "a time in seconds since the epoch"
    number = real(name, value, expected)
    if not 0 <= number < 253_402_300_000:
        refuse(name, expected, value)
    return number


def level(name: str, value: object, *, below: float) -> float | None:
    """A lower level of evidence, or None; it must lie between 1 and the bound that stops."""
    if value is None:
        return None
    expected = f"None or an evidence above 1 and below 1/false_alarm ({below:g})"
    number = real(name, value, expected)
    if not 1 < number < below:
        refuse(name, expected, value)
    return number


def flag(name: str, value: object) -> bool:
    """True or False, and nothing that merely looks like it."""
    if not isinstance(value, bool):
        refuse(name, "True or False", value)
    return value


def choice(name: str, value: object, choices: tuple[str, ...]) -> str:
    """One of a few words."""
    if not isinstance(value, str) or value not in choices:
        refuse(name, f"one of {', '.join(map(repr, choices))}", value)
    return value


def failure_classes(name: str, value: object) -> tuple[str, ...] | None:
    """None for every failure, or the classes that count, each once and in a fixed order."""
    if value is None:
        return None
    words = (value,) if isinstance(value, str) else value
    expected = f"None or some of {', '.join(map(repr, CLASSES))}"
    if isinstance(words, (bytes, dict)) or not isinstance(words, Iterable):
        refuse(name, expected, value)
    given = tuple(words)
    if not given or any(word not in CLASSES for word in given):
        refuse(name, expected, value)
    return tuple(word for word in CLASSES if word in given)
