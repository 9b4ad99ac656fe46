"""Checks of the parameters of rules. A wrong one is a ValueError that names it."""

from __future__ import annotations

from collections.abc import Iterable

from iotda_provider.models.checks import (
    choice,
    flag,
    rate,
    real,
    refuse,
    seconds,
    share,
    short_repr,
    whole,
)

__all__ = [
    "choice",
    "failure_classes",
    "flag",
    "level",
    "moment",
    "pair",
    "rate",
    "real",
    "refuse",
    "seconds",
    "share",
    "short_repr",
    "whole",
]

CLASSES = ("environment", "firmware", "unknown")


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
    expected = f"None or some of {', '.join(map(repr, CLASSES))}"
    if isinstance(words, (bytes, dict)) or not isinstance(words, Iterable):
        refuse(name, expected, value)
    given = tuple(words)
    if not given or any(word not in CLASSES for word in given):
        refuse(name, expected, value)
    return tuple(word for word in CLASSES if word in given)
