"""pytest fixtures that run an emulated IoTDA for a test and hand out a connection to it.

pytest loads this in every run of every project that has the provider installed, so nothing heavy
is imported before a fixture is used.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from iotda_provider.emulator import Emulator

DEFAULT_SPEED = 60.0


def pytest_configure(config: pytest.Config) -> None:
    """Make the plugin's mark known."""
    config.addinivalue_line(
        "markers",
        "iotda_emulator(scenario=None, **options): what the iotda_emulator fixture emulates;"
        " the options are those of iotda_provider.emulator.Emulator",
    )


@pytest.fixture
def iotda_emulator_factory() -> Iterator[Callable[..., Emulator]]:
    """A function that starts emulators and takes what ``Emulator`` takes; all end with the test."""
    from iotda_provider.emulator import Emulator

    with ExitStack() as stack:

        def start(scenario: dict[str, Any] | None = None, **options: Any) -> Emulator:
            return stack.enter_context(Emulator(scenario, **options))

        yield start


@pytest.fixture
def iotda_emulator(
    request: pytest.FixtureRequest, iotda_emulator_factory: Callable[..., Emulator]
) -> Emulator:
    """A running emulator, as the test's mark ``iotda_emulator`` describes it.

    Unless the mark says otherwise, a virtual minute takes a real second.
    """
    mark = request.node.get_closest_marker("iotda_emulator")
    arguments, options = (mark.args, mark.kwargs) if mark else ((), {})
    return iotda_emulator_factory(*arguments, **{"speed": DEFAULT_SPEED, **options})


@pytest.fixture
def iotda_connection(iotda_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """An Airflow connection to ``iotda_emulator``, which this test uses as ``iotda_default``."""
    connection = iotda_emulator.airflow_connection
    monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(connection))
    return connection
