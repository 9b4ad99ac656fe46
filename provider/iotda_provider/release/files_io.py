"""How a worker and a triggerer read and write a release's files: what is the same in both."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from iotda_provider.exceptions import IoTDATransportError
from iotda_provider.models.log import Log
from iotda_provider.models.sorted_ids import SortedIds
from iotda_provider.release.device_ids import iter_ids

if TYPE_CHECKING:
    from iotda_provider.release.manifest import BegunWave, Part
    from iotda_provider.release.storage import ReleaseFiles

T = TypeVar("T")


class FilesOfRelease(ABC):
    """The part of ``ReleaseIO`` that reads and writes a release's files.

    It is the same in a worker and in a triggerer, but for how the files are reached.
    """

    _log: Log

    @abstractmethod
    async def stored(self, call: Callable[[ReleaseFiles], T]) -> T:
        """The result of a call of the release's files, which block.

        :raises IoTDATransportError: they take too long
        """

    async def read_planned(self, wave: int) -> list[str]:
        return await self.stored(lambda files: list(files.iter_planned(wave)))

    async def in_order(self, ids: Sequence[str]) -> SortedIds:
        return await self.stored(lambda _: SortedIds(ids))

    async def read_held(self, wave: int) -> list[str]:
        return await self.stored(lambda files: files.read_held(wave))

    async def read_begun(self, wave: int) -> BegunWave | None:
        return await self.stored(lambda files: files.read_begun(wave))

    async def read_members(self, part: Part) -> list[str]:
        return await self.stored(lambda files: files.read_members(part))

    async def hand_over(
        self, ids: Sequence[str], key: str, before: Sequence[str] | str = ()
    ) -> list[str] | str:
        def put(files: ReleaseFiles) -> list[str] | str:
            known = iter_ids(before, "manifest_path") if isinstance(before, str) else before
            return files.hand_over([*known, *ids] if before else ids, key)

        return await self.stored(put)

    async def recall(self, key: str) -> list[Any] | None:
        with suppress(IoTDATransportError):
            return await self.stored(lambda files: files.recall(key, self._log))
        return None

    async def note(self, key: str, record: Mapping[str, Any]) -> bool:
        with suppress(IoTDATransportError):
            return await self.stored(lambda files: files.note(key, record, self._log))
        return False
