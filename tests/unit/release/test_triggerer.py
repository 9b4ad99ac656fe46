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
from iotda_provider.release.manifest import Part

PART = Part(1, 1, "release", 1, "aa")


class Hanging:
    """Files that answer once nobody waits for them any more."""

    def __init__(self, path: str = "s3://bucket/waves.json") -> None:
        self.manifest_path = path
        self.given_up = threading.Event()
        self.threads = 0

    def read_members(self, part: Part) -> list[str]:
        self.threads += 1
        assert self.given_up.wait(60)
        return ["device-00001"]

    def recall(self, key: str, log: Any) -> list[Any]:
        assert self.given_up.wait(60)
        return []

    def note(self, key: str, record: Any, log: Any) -> bool:
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
    assert await io.recall(PART.key) is None
    assert await io.note(PART.key, {}) is False
    with pytest.raises(IoTDATransportError, match="files take longer"):
        await io.read_members(PART)


async def test_a_path_that_hangs_holds_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triggerer, "_STORAGE_SECONDS", 0.1)
    nobody: Any = None
    waves: list[Any] = [Hanging() for _ in range(20)]  # each wave has its own object for the file
    elsewhere: Any = Hanging("s3://bucket/other.json")

    async def read(files: Any) -> None:
        io = triggerer.TriggererReleaseIO(nobody, nobody, logging.getLogger(), files=files)
        with pytest.raises(IoTDATransportError):
            await io.read_members(PART)

    await asyncio.gather(*map(read, [*waves, elsewhere]))

    held = sum(files.threads for files in waves)
    for files in (*waves, elsewhere):
        files.given_up.set()
    assert (held, elsewhere.threads) == (1, 1)
