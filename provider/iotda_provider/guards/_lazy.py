"""Heavy libraries, imported when they are first used and never when a DAG is parsed."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any


@cache
def special() -> Any:
    """``scipy.special``."""
    return import_module("scipy.special")


@cache
def numpy() -> Any:
    """``numpy``, which scipy brings along."""
    return import_module("numpy")
