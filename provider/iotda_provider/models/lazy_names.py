"""Packages that offer names of their modules, and import a module when its name is first used.

Airflow parses a DAG file again and again, and most DAGs use one or two of our operators.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazily(module: str, offered: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """Make the ``__getattr__`` of a module (PEP 562).

    :param module: the name of that module
    :param offered: modules, relative to the package of ``module``, and the names that each defines
    """
    homes = {name: home for home, names in offered.items() for name in names}
    package = module if hasattr(sys.modules[module], "__path__") else module.rpartition(".")[0]

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[module], name, value)
        return value

    return get
