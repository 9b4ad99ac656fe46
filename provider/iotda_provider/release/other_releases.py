"""Which devices are in the groups of other releases of this Airflow. No Airflow, no I/O.

A wave's batch tasks show nothing of the waves after it. So each release leaves a note of what it is
for (``under_way.py``), and a release that begins later leaves the devices of those groups alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from iotda_provider import api
from iotda_provider.api import pagination
from iotda_provider.exceptions import IoTDAConfigError, IoTDAError
from iotda_provider.models import Device
from iotda_provider.models.json_text import PlainJson, checked_fields
from iotda_provider.models.log import Log
from iotda_provider.models.sorted_ids import MarkedIds, SortedIds
from iotda_provider.models.text import one_line
from iotda_provider.procedures import CallsIO
from iotda_provider.waiting.outage import is_gone

#: Seconds for which a note counts since its release's last wave began: 30 days.
LIFETIME = 30 * 86400.0
_LONGEST = 256
_MOST_GROUPS = 1000


@dataclass(frozen=True)
class ReleaseNote(PlainJson):
    """What a release that is under way is for.

    :param release: names the release: the stamp of the task that has planned it
    :param dag_id: with ``run_id``: its DAG run; the note ends with it at the latest
    :param version: what it brings; empty: that is not known
    :param product_id: of its devices; None: that is not known
    :param group_ids: the device groups that it is for
    :param end: until then the note counts, in seconds since 1970
    """

    release: str
    dag_id: str
    run_id: str
    version: str
    product_id: str | None
    group_ids: tuple[str, ...]
    end: float = 0.0

    @classmethod
    def from_json(cls, data: object) -> ReleaseNote:
        """The inverse of :meth:`to_json`.

        :raises ValueError: it is not what that returns
        """
        values = checked_fields(cls, data, "note", group_ids=_read_group_ids)
        for name, value in values.items():
            if isinstance(value, str) and len(value) > _LONGEST:
                raise ValueError(f"note: {name} must be at most {_LONGEST} characters")
        return cls(**values)

    def __str__(self) -> str:
        what = f"version {one_line(self.version, 60)}" if self.version else "another version"
        groups = ", ".join(self.group_ids[:3]) + (", ..." if len(self.group_ids) > 3 else "")
        return (
            f"The release of {what} by {one_line(self.dag_id, 100)}, run "
            f"{one_line(self.run_id, 100)}, to the group(s) {groups}"
        )


def _read_group_ids(data: Any) -> tuple[str, ...]:
    if not isinstance(data, list) or not 0 < len(data) <= _MOST_GROUPS:
        raise ValueError(f"note: group_ids must be a list of 1 to {_MOST_GROUPS} ids")
    try:
        return tuple(api.check_group_ids(data))
    except IoTDAConfigError as error:
        raise ValueError(f"note: {error}") from error


class OtherReleases:
    """Reads the groups of other releases once: call :meth:`step` until ``is_done``.

    :param notes: the releases that have begun before
    :param product_id: of the wanted devices; None: any. Releases for other products are not read
    :param wanted: the devices that are asked about
    :param log: where its lines go
    """

    def __init__(
        self,
        notes: Sequence[ReleaseNote],
        product_id: str | None,
        wanted: SortedIds,
        log: Log,
    ) -> None:
        self._wanted = wanted
        self._log = log
        self._is_first_page = True
        self._lists = deque(
            (note, pagination.Listing(api.list_devices_in_group, group_id))
            for note in notes
            if product_id is None or note.product_id in (None, product_id)
            for group_id in note.group_ids
        )
        #: The wanted devices in the groups of each release, as far as that was read.
        self.held: dict[ReleaseNote, MarkedIds] = {}

    @property
    def is_done(self) -> bool:
        """Whether all of it was read."""
        while self._lists and self._lists[0][1].next is None:
            self._next_list()
        return not self._lists

    @property
    def unread(self) -> str:
        """After an error of :meth:`step`: what can't be read."""
        return f"{self._lists[0][0]} is under way, and its groups can't be read"

    def _next_list(self) -> None:
        self._lists.popleft()
        self._is_first_page = True

    async def step(self, io: CallsIO) -> None:
        """Make the next call.

        :raises IoTDAError: the devices of a group can't be read now
        """
        note, devices = self._lists[0]
        assert devices.next is not None
        try:
            page: api.Page[Device] = await io.perform(devices.next)
        except IoTDAError as error:
            # A group that is deleted while it is being read did have devices.
            if not (self._is_first_page and is_gone(error)):
                raise
            self._log.warning("%s: a group does not exist, so it holds no device: %s", note, error)
            self._next_list()
            return
        self._is_first_page = False
        shared = [d.device_id for d in devices.take(page) if d.device_id in self._wanted]
        if shared:
            self.held.setdefault(note, MarkedIds(self._wanted)).update(shared)

    @property
    def devices(self) -> Iterator[str]:
        """The wanted devices in the groups of any of them."""
        return chain.from_iterable(self.held.values())

    def said(self, and_so: str) -> list[str]:
        """A sentence for each release that has some of the wanted devices in its groups.

        :param and_so: the end of the sentence: what becomes of these devices
        """
        return [
            f"{note} is under way, and has {len(held)} of these devices in its groups, first "
            f"{next(iter(held))}: {and_so}"
            for note, held in self.held.items()
        ]


async def read_to_the_end(io: CallsIO, others: OtherReleases) -> None:
    """Read all of it at once.

    :raises IoTDAError: the devices of a group can't be read
    """
    while not others.is_done:
        await others.step(io)


def notes_in(data: Any) -> tuple[list[ReleaseNote], list[str]]:
    """The notes in a list of plain JSON, in order; and what is wrong with entries that are none."""
    if not isinstance(data, list):
        return [], ["it is no list"] if data is not None else []
    notes, faults = [], []
    for one in data:
        try:
            notes.append(ReleaseNote.from_json(one))
        except (ValueError, IoTDAError) as error:
            faults.append(one_line(str(error), 200))
    return notes, faults


__all__ = ["LIFETIME", "OtherReleases", "ReleaseNote", "notes_in", "read_to_the_end"]
