"""Checks of parameters and of the fields of rules. A wrong one is a ValueError that names it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from numbers import Integral, Real
from typing import NoReturn

FAILURE_CLASSES = ("environment", "firmware", "unknown")


def refuse(name: str, expected: str, value: object) -> NoReturn:
    """Raise the ValueError that says which parameter is wrong and what it should be."""
    raise ValueError(f"{name} must be {expected}, not {short_repr(value)}")


def short_repr(value: object) -> str:
    """``repr`` of a value, cut to 80 characters."""
    try:
        shown = repr(value)
    except ValueError:  # a whole number of thousands of digits
        shown = f"a {type(value).__name__} that is too long to show"
    return shown if len(shown) <= 80 else shown[:77] + "..."


def whole(name: str, value: object, *, least: int = 0, most: int | None = None) -> int:
    """A whole number of at least ``least``, and at most ``most`` if that is given."""
    limits = f"of at least {least}" if most is None else f"from {least} to {most}"
    expected = f"a whole number {limits}"
    # Python takes True for 1; a user who writes True here has made a mistake.
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        refuse(name, expected, value)
    if most is not None and int(value) > most:
        refuse(name, expected, value)
    return int(value)


def real(
    name: str, value: object, expected: str, fits: Callable[[float], bool] = math.isfinite
) -> float:
    """A finite number.

    :param expected: what it must be, in words that complete "must be"
    :param fits: whether a finite number is allowed
    """
    if not isinstance(value, bool) and isinstance(value, Real):
        with suppress(OverflowError):  # an int that no float can hold
            number = float(value)
            if math.isfinite(number) and fits(number):
                return number
    refuse(name, expected, value)


def rate(name: str, value: object, *, one_allowed: bool = False) -> float:
    """A share above 0 and below 1 (or up to 1)."""
    below = "at most 1" if one_allowed else "below 1"
    expected = f"a rate above 0 and {below} (5 % is 0.05)"
    return real(name, value, expected, lambda n: 0 < n < 1 or (one_allowed and n == 1))


def share(name: str, value: object) -> float:
    """A share from 0 to 1, both allowed."""
    return real(name, value, "a share from 0 to 1", lambda n: 0 <= n <= 1)


def seconds(name: str, value: object) -> float:
    """A positive, finite number of seconds."""
    return real(name, value, "a number of seconds above 0", lambda n: n > 0)


def flag(name: str, value: object) -> bool:
    """True or False; 0, 1 and texts are refused."""
    if not isinstance(value, bool):
        refuse(name, "True or False", value)
    return value


def choice(name: str, value: object, choices: tuple[str, ...]) -> str:
    """One of a few words."""
    if not isinstance(value, str) or value not in choices:
        refuse(name, f"one of {', '.join(map(repr, choices))}", value)
    return value


def pair(name: str, value: object) -> tuple[int, int]:
    """Two counts, in a tuple, or in a list as JSON makes of a tuple."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        refuse(name, "a pair of counts", value)
    return whole(name, value[0]), whole(name, value[1])


def moment(name: str, value: object) -> float:
    """A time in seconds since the epoch, before the year 10000."""
    expected = "a time in seconds since the epoch"
    return real(name, value, expected, lambda n: 0 <= n < 253_402_300_000)


def level(name: str, value: object, *, below: float) -> float | None:
    """A level of evidence at which to hold: above 1 and below the bound; or None."""
    if value is None:
        return None
    expected = f"None or an evidence above 1 and below 1/false_alarm ({below:g})"
    return real(name, value, expected, lambda n: 1 < n < below)


def failure_classes(name: str, value: object) -> tuple[str, ...] | None:
    """None for every failure, or the classes that count, each once and in a fixed order."""
    if value is None:
        return None
    words = (value,) if isinstance(value, str) else value
    expected = f"None or some of {', '.join(map(repr, FAILURE_CLASSES))}"
    if isinstance(words, (bytes, dict)) or not isinstance(words, Iterable):
        refuse(name, expected, value)
    given = tuple(words)
    if not given or any(word not in FAILURE_CLASSES for word in given):
        refuse(name, expected, value)
    return tuple(word for word in FAILURE_CLASSES if word in given)
