"""Packages that offer names of their modules, and import a module when its name is first used.

Airflow parses a DAG file again and again, and most DAGs use one or two of our operators.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(module: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Make the ``__getattr__`` of a module (PEP 562).

    :param module: the name of that module
    :param homes: for each name the module that defines it, relative to the package of ``module``
    """
    package = module if hasattr(sys.modules[module], "__path__") else module.rpartition(".")[0]

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[module], name, value)
        return value

    return get
