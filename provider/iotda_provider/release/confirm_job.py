"""What the confirmation of one wave is told, and what of it outlives a deferral."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from iotda_provider.models.json_text import checked_fields
from iotda_provider.release.confirm_chunks import MAX_CHUNK
from iotda_provider.release.maintenance_window import MaintenanceWindow


@dataclass
class ConfirmJob:
    """Which wave is to be confirmed, and within which limits; a trigger's argument.

    :param wave: which wave, from 1
    :param members: devices in this wave and those before it
    :param before: devices in the waves before it
    :param late: whether it holds the devices that were not online lately
    :param chunk: the most devices in one call
    :param max_in_flight: the most confirmed devices without an outcome; None: no limit
    :param window: when devices may be let start; None: at any time
    :param deadline: when it gives up waiting, in seconds since 1970
    :param timeout: the same in seconds from the beginning, for the error
    :param is_first: whether nobody has worked on this wave before
    :param accepted_before: confirmations that had been accepted when this try began; None: it has
        not begun
    :param left: who had not been let start when the guard's stop was sent, packed
    :param outside: devices that somebody else has let start, as far as a person was told
    :param rehearse_stop: whether to see, before the first confirmation, that the release could be
        stopped
    """

    batch_task_id: str
    wave: int
    members: int
    before: int
    late: bool
    deadline: float
    timeout: float
    chunk: int = MAX_CHUNK
    max_in_flight: int | None = None
    window: MaintenanceWindow | None = None
    is_first: bool = True
    accepted_before: int | None = None
    left: str | None = None
    outside: int = 0
    rehearse_stop: bool = False

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**plain, "window": None if self.window is None else self.window.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ConfirmJob:
        """The inverse of :meth:`to_json`.

        :raises ValueError: it is not what that returns
        """
        values = checked_fields(cls, data, "job", read_by_caller=("window",))
        window = values.get("window")
        if window is not None:
            plain = checked_fields(MaintenanceWindow, window, "window", read_by_caller=("days",))
            window = MaintenanceWindow(**plain)
        if values.get("chunk") == 0:
            raise ValueError("job: chunk must be greater than 0")
        return cls(**{**values, "window": window})
