"""IoTDA on this machine: the batch-task API over a simulated fleet in virtual time.

``iotda-emulator`` serves it, ``Emulator`` runs it in-process, and the pytest plugin gives it to
tests. Importing this package imports no web framework; using ``Emulator`` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from iotda_provider.emulator.common.errors import ScenarioError

if TYPE_CHECKING:
    from iotda_provider.emulator.inprocess import Emulator

__all__ = ["Emulator", "ScenarioError"]

_FRAMEWORK = ("fastapi", "starlette", "uvicorn")


def __getattr__(name: str) -> Any:
    if name != "Emulator":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from iotda_provider.emulator.inprocess import Emulator
    except ModuleNotFoundError as error:
        raise explained(error) from error
    return Emulator


def explained(error: ModuleNotFoundError) -> ModuleNotFoundError:
    """The same error; it says what to install if the web framework is missing."""
    if error.name not in _FRAMEWORK:
        return error
    return ModuleNotFoundError(
        f"The emulator needs {error.name}: pip install 'airflow-provider-iotda[emulator]'",
        name=error.name,
    )
