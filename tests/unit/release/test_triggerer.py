"""A storage that hangs must not keep a release's guard from looking."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from iotda_provider.exceptions import IoTDATransportError
from iotda_provider.release import triggerer


class Hanging:
    """Files that answer once nobody waits for them any more."""

    def __init__(self) -> None:
        self.given_up = threading.Event()

    def read_waves(self) -> list[list[str]]:
        assert self.given_up.wait(60)
        return [["device-00001"]]

    def read_confirmed(self, log: Any) -> list[Any]:
        assert self.given_up.wait(60)
        return []

    def write_confirmed(self, record: Any, log: Any) -> bool:
        assert self.given_up.wait(60)
        return True


@pytest.fixture
def io(monkeypatch: pytest.MonkeyPatch) -> Iterator[triggerer.TriggererReleaseIO]:
    monkeypatch.setattr(triggerer, "_STORAGE_SECONDS", 0.1)
    nobody: Any = None
    files: Any = Hanging()
    yield triggerer.TriggererReleaseIO(nobody, nobody, logging.getLogger(), files=files)
    files.given_up.set()


async def test_what_takes_too_long_is_not_waited_for(io: triggerer.TriggererReleaseIO) -> None:
    assert await io.recall() is None
    assert await io.note({}) is False
    with pytest.raises(IoTDATransportError, match="waves"):
        await io.read_waves()
