"""Which wave's batch tasks are to be created: what its procedure is told, as plain JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from iotda_provider.models.json_text import PlainJson
from iotda_provider.procedures.create_once import stamp_of, stamped_name
from iotda_provider.release.confirm_job import read_parts, read_window
from iotda_provider.release.maintenance_window import MaintenanceWindow
from iotda_provider.release.manifest import Part
from iotda_provider.release.other_releases import ReleaseNote
from iotda_provider.task_io.parameters import as_mapping

#: Fields that are stored only if they are set.
_LEFT_OUT = ("note", "is_way_back")


@dataclass
class CreateJob(PlainJson):
    """Which wave's batch tasks are to be created; a trigger's argument.

    :param wave: which wave, from 1
    :param waves: how many waves there are
    :param devices: how many devices the release has
    :param earlier: the batch tasks of the other waves so far
    :param task_name: how the names of the release's batch tasks begin
    :param task: the other arguments of ``create_batch_task``, without the targets
    :param identity: ``installation``, ``dag_id``, ``run_id`` and ``task_id``, for the stamps
    :param not_before: this run's batch tasks are not older, in the platform's form of times
    :param deadline: when it gives up waiting, in seconds since 1970
    :param timeout: the same as seconds from the start, for the error's text
    :param window: when devices may be confirmed: nothing is created outside of it; None: at any
        time
    :param from_version: only for devices that run this version when the wave begins; None: for all
        that do not run the new one
    :param note: the release's note for others; None: it has none
    :param is_way_back: whether it brings the old version back: no other release holds it up
    """

    wave: int
    waves: int
    devices: int
    earlier: tuple[Part, ...]
    task_name: str
    task: dict[str, Any]
    identity: dict[str, Any]
    not_before: str | None
    deadline: float
    timeout: float
    window: MaintenanceWindow | None = None
    from_version: str | None = None
    note: ReleaseNote | None = None
    is_way_back: bool = False

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        plain = super().to_json()
        return {name: one for name, one in plain.items() if one or name not in _LEFT_OUT}

    readers = {
        "window": read_window,
        "earlier": read_parts,
        "task": lambda task: as_mapping(task, "job: task"),
        "identity": lambda identity: as_mapping(identity, "job: identity"),
        "note": lambda note: None if note is None else ReleaseNote.from_json(note),
    }

    @property
    def batch_task_ids(self) -> tuple[str, ...]:
        """The batch tasks of the other waves so far."""
        return tuple(part.batch_task_id for part in self.earlier if part.batch_task_id)

    def stamped(self, part: Part) -> str:
        """The name of one of the wave's batch tasks, with its stamp."""
        ids = self.identity
        owner = (ids["installation"], ids["dag_id"], ids["run_id"], ids["task_id"])
        stamp = stamp_of(*owner, -1, part.part - 1)
        return stamped_name(part.task_name, stamp, of_release=True)
