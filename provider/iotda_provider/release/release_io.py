"""What the procedures of a release await, besides what their guard awaits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from iotda_provider.exceptions import IoTDAError
from iotda_provider.models import SubtaskStatus, TargetResults
from iotda_provider.models.sorted_ids import SortedIds
from iotda_provider.procedures import CallsIO
from iotda_provider.release.manifest import BegunWave, Part
from iotda_provider.release.other_releases import ReleaseNote
from iotda_provider.rollout_guard.guard_io import GuardIO

#: The answers of :meth:`ReleaseIO.ask`.
GO, WAIT, STOP = "go", "wait", "stop"


class EvidenceFailedError(IoTDAError):
    """The external evidence could not be asked, or has answered nonsense."""


class ReleaseIO(GuardIO, CallsIO, Protocol):
    """What a release's procedure awaits, and nothing else."""

    async def read_planned(self, wave: int) -> list[str]:
        """Read the device ids of one wave as it was planned.

        :raises IoTDAError: they could not be read, or are not what was planned
        """

    async def in_order(self, ids: Sequence[str]) -> SortedIds:
        """Put device ids in order, which takes a second for a million.

        :raises IoTDAError: that took too long
        """

    async def read_held(self, wave: int) -> list[str]:
        """Read the ids of devices that earlier waves left out because other upgrades held them.

        :raises IoTDAError: they could not be read
        """

    async def read_begun(self, wave: int) -> BegunWave | None:
        """Read what a wave is for, and its batch tasks; None: it has not begun.

        :raises IoTDAError: it could not be read
        """

    async def other_releases(
        self, run: Mapping[str, Any], note: ReleaseNote | None
    ) -> list[ReleaseNote] | None:
        """Note this release anew, then read which other releases have begun before it.

        :param run: ``dag_id`` and ``run_id`` of this release
        :param note: its note; None: it has none
        :return: None: they can't be read; empty: there are none
        """

    async def read_members(self, part: Part) -> list[str]:
        """Read the device ids of one batch task, as they were written down.

        :raises IoTDAError: they could not be read, or are not what was written down
        """

    async def hand_over(
        self, ids: Sequence[str], key: str, before: Sequence[str] | str = ()
    ) -> list[str] | str:
        """What a record holds of device ids: the ids, or the reference of a file with them.

        :param before: an earlier result of this method, whose ids come before these
        :raises IoTDAError: there are too many for a record, or they could not be written
        """

    async def read_targets(self, batch_task_id: str, status: SubtaskStatus) -> set[str]:
        """Read who has a status in a batch task: their device ids.

        :raises IoTDAError: it could not be read to the end
        """

    async def confirm(self, batch_task_id: str, targets: Sequence[str]) -> TargetResults:
        """Confirm exactly these devices.

        :raises IoTDAError: the platform has refused the call, or has not answered
        """

    async def recall(self, key: str) -> list[Any] | None:
        """Read what was written down under a key, as plain JSON: each copy.

        None: it can't be read; an empty list: nothing was written down.
        """

    async def note(self, key: str, record: Mapping[str, Any]) -> bool:
        """Write something down under a key; whether that worked."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""

    async def ask(self, facts: Mapping[str, Any]) -> str:
        """Ask for the external evidence; ``go``, ``wait`` or ``stop``.

        :raises EvidenceFailedError: it has raised, or answered anything else
        """

    async def measure(self, device_ids: Sequence[str]) -> Mapping[str, bool | None]:
        """Ask the trial's own metric which of these devices are healthy; of none: nothing.

        :raises EvidenceFailedError: it has raised, or answered nonsense
        """


class ReleaseProcedure(Protocol):
    """What is carried out over a :class:`ReleaseIO`, in a worker or in a triggerer."""

    async def run(self, io: Any) -> dict[str, Any]:
        """The operator's result."""
