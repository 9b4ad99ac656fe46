"""The argument of a wave's confirmation: its batch tasks and its limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from iotda_provider.models.json_text import PlainJson, checked_fields
from iotda_provider.release.confirm_chunks import MAX_CHUNK
from iotda_provider.release.maintenance_window import MaintenanceWindow
from iotda_provider.release.manifest import Part
from iotda_provider.task_io.parameters import as_list, as_mapping, whole_number


def _read_counts(data: Any) -> dict[str, Any]:
    counts = as_mapping(data or {}, "job: counts")
    for key, pair in counts.items():
        for one in as_list(pair, f"job: counts: {key}"):
            whole_number(one, "job: counts", zero=True)
    return counts


def read_parts(data: Any) -> tuple[Part, ...]:
    """The batch tasks of waves out of plain JSON.

    :raises ValueError: it is something else
    """
    return tuple(map(Part.from_json, as_list(data, "job: parts")))


def read_window(data: Any) -> MaintenanceWindow | None:
    """A window out of plain JSON.

    :raises ValueError: it is none
    """
    if data is None:
        return None
    return MaintenanceWindow(
        **checked_fields(MaintenanceWindow, data, "window", days=lambda days: days)
    )


@dataclass
class ConfirmJob(PlainJson):
    """Which wave is to be confirmed, and within which limits; a trigger's argument.

    :param wave: which wave, from 1
    :param parts: all batch tasks of the release so far; of a run that was cleared also those of
        waves after this one, whose devices are not confirmed here
    :param late: whether it holds the devices that were not online lately
    :param deadline: when it gives up waiting, in seconds since 1970
    :param timeout: the same as seconds from the start, for the error's text
    :param chunk: the most devices in one call
    :param max_in_flight: the most confirmed devices without an outcome; None: no limit
    :param window: when devices may be confirmed; None: at any time
    :param accepted_before: confirmations that had been accepted when this try began; None: it has
        not begun
    :param counts: of each batch task, how many confirmations were accepted, and how many of its
        devices may have started, as far as that was read
    :param outside: devices that somebody else has started and that a person was told of
    :param rehearse_stop: whether it is unknown if the release can be stopped. This is tried before
        the first confirmation, and then by the guard, until the platform has answered clearly
    """

    wave: int
    parts: tuple[Part, ...]
    late: bool
    deadline: float
    timeout: float
    chunk: int = MAX_CHUNK
    max_in_flight: int | None = None
    window: MaintenanceWindow | None = None
    accepted_before: int | None = None
    counts: dict[str, Any] = field(default_factory=dict)
    outside: int = 0
    rehearse_stop: bool = False

    @property
    def batch_task_ids(self) -> tuple[str, ...]:
        """The batch tasks of the release so far."""
        return tuple(part.batch_task_id for part in self.parts if part.batch_task_id)

    @property
    def members(self) -> int:
        """How many devices are in this wave and those before it."""
        return sum(part.devices for part in self.parts if part.wave <= self.wave)

    readers = {"window": read_window, "parts": read_parts, "counts": _read_counts}

    def __post_init__(self) -> None:
        if self.chunk == 0:
            raise ValueError("job: chunk must be greater than 0")
