"""What the procedures of a release ask their driver to do, besides what their guard asks for."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from iotda_provider.exceptions import IoTDAError
from iotda_provider.guarding import Step as GuardStep

T = TypeVar("T")
#: The answers to :class:`Ask`.
GO, WAIT, STOP = "go", "wait", "stop"


class EvidenceFailedError(IoTDAError):
    """The external evidence could not be asked, or has answered nonsense."""


@dataclass(frozen=True)
class ReadWaves:
    """Read who is in which wave; answered by a list of lists of device ids.

    :raises IoTDAError: it could not be read, or is not what was planned
    """


@dataclass(frozen=True)
class ReadWaiting:
    """Read who waits in a batch task; answered by a set of device ids.

    :raises IoTDAError: it could not be read to the end
    """

    batch_task_id: str


@dataclass(frozen=True)
class Confirm:
    """Let these devices start, and nobody else; answered by ``TargetResults``.

    :raises IoTDAError: the platform has refused the call, or has not answered
    """

    batch_task_id: str
    targets: tuple[str, ...]


@dataclass(frozen=True)
class Recall:
    """Read what was noted of accepted confirmations; answered by a list of the JSON found, or None.

    None: it can't be read, which is not the same as none.
    """


@dataclass(frozen=True)
class Note:
    """Write down which confirmations were accepted; answered by whether that worked.

    :param urgent: a stop waits for it, so it may not take long
    """

    record: Mapping[str, Any]
    urgent: bool = False


@dataclass(frozen=True)
class Sleep:
    """Wait; answered by None."""

    seconds: float


@dataclass(frozen=True)
class Ask:
    """Ask for the external evidence; answered by ``go``, ``wait`` or ``stop``.

    :raises EvidenceFailedError: it has raised, or answered anything else
    """

    facts: Mapping[str, Any]


OwnStep = ReadWaves | ReadWaiting | Confirm | Recall | Note | Sleep | Ask
Step = GuardStep | OwnStep
Procedure = Generator[Step, Any, T]
