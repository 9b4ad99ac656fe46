"""A storage that hangs must not keep a release's guard from looking."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from iotda_provider.exceptions import IoTDATransportError
from iotda_provider.release import triggerer


class Hanging:
    """Files that answer once nobody waits for them any more."""

    def __init__(self, path: str = "s3://bucket/waves.json") -> None:
        self.manifest_path = path
        self.given_up = threading.Event()
        self.threads = 0

    def read_waves(self) -> list[list[str]]:
        self.threads += 1
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


async def test_a_path_that_hangs_holds_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triggerer, "_STORAGE_SECONDS", 0.1)
    nobody: Any = None
    waves: list[Any] = [Hanging() for _ in range(20)]  # each wave has its own object for the file
    elsewhere: Any = Hanging("s3://bucket/other.json")

    async def read(files: Any) -> None:
        io = triggerer.TriggererReleaseIO(nobody, nobody, logging.getLogger(), files=files)
        with pytest.raises(IoTDATransportError):
            await io.read_waves()

    await asyncio.gather(*map(read, [*waves, elsewhere]))

    held = sum(files.threads for files in waves)
    for files in (*waves, elsewhere):
        files.given_up.set()
    assert (held, elsewhere.threads) == (1, 1)
