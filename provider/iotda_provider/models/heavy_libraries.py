"""SciPy, imported when a rule or a trial first needs it and never when a DAG is parsed."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any


@cache
def special() -> Any:
    """``scipy.special``."""
    return import_module("scipy.special")


def warm_up() -> None:
    """Import SciPy now instead of at the first look.

    The import takes one or two seconds. Call this in a thread before a first look on an event loop.
    """
    special()
