"""A storage that hangs must not keep a release's guard from looking."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest

from iotda_provider.exceptions import IoTDATransportError
from iotda_provider.release.steps import Note, ReadWaves, Recall
from iotda_provider.triggers import release_steps


class Hanging:
    """Files that answer too late."""

    def read_waves(self) -> list[list[str]]:
        time.sleep(0.5)
        return [["device-00001"]]

    def read_confirmed(self, log: Any) -> list[Any]:
        time.sleep(0.5)
        return []

    def write_confirmed(self, record: Any, log: Any) -> bool:
        time.sleep(0.5)
        return True


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> release_steps.ReleaseSteps:
    monkeypatch.setattr(release_steps, "_STORAGE_SECONDS", 0.1)
    nobody: Any = None
    files: Any = Hanging()
    return release_steps.ReleaseSteps(nobody, nobody, logging.getLogger(), files=files)


async def test_what_takes_too_long_is_not_waited_for(steps: release_steps.ReleaseSteps) -> None:
    began = time.monotonic()
    assert await steps._do(Recall()) is None
    assert await steps._do(Note({})) is False
    with pytest.raises(IoTDATransportError, match="waves"):
        await steps._do(ReadWaves())
    assert time.monotonic() - began < 0.45
