"""Imports for code that runs on an event loop: in a thread, as each may take a second."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

from iotda_provider.airflow_support.threads import importing
from iotda_provider.transport.places import in_turn
from iotda_provider.transport.single_flight import single_flight

# Not sys.modules: Python puts a module there when its import begins, and whoever imports it then
# waits for the end of that import, event loop or not.
_loaded: set[str] = set()


async def load(*modules: str) -> None:
    """Import modules; from then on an ``import`` of them takes no time.

    Whoever comes while they are imported waits without holding up the event loop.

    :param modules: dotted names
    :raises ImportError: one of them can't be imported
    """
    missing = tuple(module for module in modules if module not in _loaded)
    if missing:
        await single_flight(("import", missing), lambda: importing(_import, missing))
        await in_turn()  # all that have waited would go on in one round of the event loop


def _import(modules: Iterable[str]) -> None:
    for module in modules:
        import_module(module)
        _loaded.add(module)
