"""The user's function ``on_alert``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from iotda_provider.exceptions import IoTDAConfigError

#: The user's function that gets an event as plain JSON, or the function's dotted path.
OnAlert = str | Callable[[Mapping[str, Any]], Any]


def imported(path: str, what: str) -> Any:
    """What is at a dotted path.

    :param what: what it is, in words
    :raises IoTDAConfigError: there is nothing
    """
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise IoTDAConfigError(f"{what} can't be imported: {error}") from error


def load_function(path: str, name: str = "on_alert") -> Callable[[Mapping[str, Any]], Any]:
    """The function at a dotted path.

    :param name: the parameter that gives the path
    :raises IoTDAConfigError: there is no such function
    """
    function = imported(path, f"{name}: {path!r}")
    if not callable(function):
        raise IoTDAConfigError(f"{name}: {path!r} is not a function")
    return function  # type: ignore[no-any-return]
