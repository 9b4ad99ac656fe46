"""What the procedures of a release await, besides what their guard awaits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from iotda_provider.exceptions import IoTDAError
from iotda_provider.models import TargetResults
from iotda_provider.rollout_guard.guard_io import GuardIO

#: The answers of :meth:`ReleaseIO.ask`.
GO, WAIT, STOP = "go", "wait", "stop"


class EvidenceFailedError(IoTDAError):
    """The external evidence could not be asked, or has answered nonsense."""


class ReleaseIO(GuardIO, Protocol):
    """What a release's procedure awaits, and nothing else."""

    async def read_waves(self) -> list[list[str]]:
        """Read who is in which wave: the device ids of each.

        :raises IoTDAError: it could not be read, or is not what was planned
        """

    async def read_waiting(self, batch_task_id: str) -> set[str]:
        """Read who waits in a batch task: their device ids.

        :raises IoTDAError: it could not be read to the end
        """

    async def confirm(self, batch_task_id: str, targets: Sequence[str]) -> TargetResults:
        """Let these devices start, and nobody else.

        :raises IoTDAError: the platform has refused the call, or has not answered
        """

    async def recall(self, *, urgent: bool = False) -> list[Any] | None:
        """Read what was noted of accepted confirmations, as plain JSON.

        None: it can't be read, which is not the same as none.

        :param urgent: a stop waits for it, so it may not take long
        """

    async def note(self, record: Mapping[str, Any], *, urgent: bool = False) -> bool:
        """Write down which confirmations were accepted; whether that worked.

        :param urgent: a stop waits for it, so it may not take long
        """

    async def sleep(self, seconds: float) -> None:
        """Wait."""

    async def ask(self, facts: Mapping[str, Any]) -> str:
        """Ask for the external evidence; ``go``, ``wait`` or ``stop``.

        :raises EvidenceFailedError: it has raised, or answered anything else
        """
