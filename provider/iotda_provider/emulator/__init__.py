"""IoTDA on this machine: the batch-task API over a simulated fleet in virtual time.

``iotda-emulator`` serves it, ``Emulator`` runs it in-process, and the pytest plugin gives it to
tests. Importing this package imports no web framework; using ``Emulator`` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iotda_provider.emulator.server import Emulator

__all__ = ["Emulator"]


def __getattr__(name: str) -> Any:
    if name == "Emulator":
        from iotda_provider.emulator.server import Emulator

        return Emulator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
