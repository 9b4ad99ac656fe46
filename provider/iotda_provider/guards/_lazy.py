"""Heavy libraries, imported when they are first used and never when a DAG is parsed."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any


@cache
def special() -> Any:
    """``scipy.special``."""
    return import_module("scipy.special")


def warm_up() -> None:
    """Import now what the rules import at their first look.

    That takes up to a second or two: on an event loop, call it in a thread before the first look.
    """
    special()


@cache
def numpy() -> Any:
    """``numpy``, which scipy brings along."""
    return import_module("numpy")
