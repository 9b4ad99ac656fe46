"""Checks of parameters. A wrong one is a ValueError that names it."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from numbers import Integral, Real
from typing import NoReturn


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


def whole(name: str, value: object, *, least: int = 0) -> int:
    """A whole number of at least ``least``."""
    expected = f"a whole number of at least {least}"
    # Python takes True for 1; a user who writes True here has made a mistake.
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
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
