"""Modules that offer names from elsewhere, and import each only when it is asked for.

A DAG's file is parsed again and again, and uses one or two of our operators.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(module: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's ``__getattr__`` (PEP 562).

    :param module: the module's own name
    :param homes: where each name is defined, by the last part of a module beside it
    """
    package = module if hasattr(sys.modules[module], "__path__") else module.rpartition(".")[0]

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[module], name, value)
        return value

    return get
