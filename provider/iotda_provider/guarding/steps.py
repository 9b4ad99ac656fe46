"""What a watch asks its driver to do; the only I/O that a guard has."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from iotda_provider.guarding.tally import Tally

T = TypeVar("T")


class Log(Protocol):
    """A logger of any make: Python's or Airflow's."""

    def info(self, msg: str, /, *args: Any) -> Any: ...
    def warning(self, msg: str, /, *args: Any) -> Any: ...
    def error(self, msg: str, /, *args: Any) -> Any: ...
    def exception(self, msg: str, /, *args: Any) -> Any: ...


@dataclass(frozen=True)
class ReadTasks:
    """Read some batch tasks; answered by a list of ``BatchTask`` or ``IoTDAError``, in order."""

    batch_task_ids: tuple[str, ...]


@dataclass(frozen=True)
class ReadFailed:
    """Show every failed subtask of a task to ``tally.add``; answered by None.

    :raises IoTDAError: it could not be read to the end
    """

    batch_task_id: str
    tally: Tally


@dataclass(frozen=True)
class StopTask:
    """Stop one whole batch task; answered by None once the platform has accepted it.

    :raises IoTDAError: it has not
    """

    batch_task_id: str


@dataclass(frozen=True)
class RehearseStop:
    """Ask for the stop of a target that is in no task; answered by None.

    :raises IoTDAError: with status 403, the guard may not stop this task
    """

    batch_task_id: str


@dataclass(frozen=True)
class Save:
    """Keep the memory where it survives a restart; answered by whether that worked.

    :param routine: nothing hangs on this one, so nothing waits for it
    """

    memory: Mapping[str, Any]
    routine: bool = False


@dataclass(frozen=True)
class Tell:
    """Tell a person; answered by None.

    :param kind: ``hold``, ``blind``, ``stop_failed`` or ``may_not_stop``; of a release in waves
        also ``started_elsewhere``, ``confirm_failed``, ``unconfirmed`` or ``evidence_failed``
    :param sentence: what is the matter
    :param facts: the same as plain JSON
    """

    kind: str
    sentence: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON, in the shape of the XCom ``alert`` and of what ``on_alert`` gets."""
        return {"kind": self.kind, "sentence": self.sentence, **self.facts}


Step = ReadTasks | ReadFailed | StopTask | RehearseStop | Save | Tell
Procedure = Generator[Step, Any, T]
