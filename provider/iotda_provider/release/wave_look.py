"""Which devices of a wave can't be released to now, in steps of a few calls. No Airflow, no I/O.

These are the devices in the groups of releases that have begun before, those that other upgrades
hold, and those that a second look leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

from iotda_provider.exceptions import IoTDAError
from iotda_provider.models.log import Log
from iotda_provider.models.sorted_ids import MarkedIds, SortedIds
from iotda_provider.release.create_job import CreateJob
from iotda_provider.release.manifest import HELD, LOOKED
from iotda_provider.release.other_releases import OtherReleases
from iotda_provider.release.other_upgrades import OtherUpgrades
from iotda_provider.release.package_kinds import COLUMN_OF_TASK_TYPE
from iotda_provider.release.release_io import ReleaseIO
from iotda_provider.release.second_look import Counted, SecondLook

_LATER = "they are left out, and come again with the last wave, if that run is over by then."
_LAST = "they are left out of this release."


class WaveLook:
    """One look at those devices of a wave that are in no batch task yet.

    :param job: which wave
    :param ids: its devices, in the order in which they are confirmed
    :param in_order: the same devices
    :param own: the release's batch tasks so far
    :param log: where its lines go
    """

    def __init__(
        self,
        job: CreateJob,
        ids: Sequence[str],
        in_order: SortedIds,
        own: Collection[str],
        log: Log,
    ) -> None:
        self._job = job
        self._every = ids
        self._in_order = in_order
        self._own = own
        self._log = log
        #: After an error of :meth:`go_on`: which other release's groups can't be read, if any.
        self.unread = ""
        self.forget()

    def forget(self) -> None:
        """Forget what was read: it will be out of date when it is used."""
        self._second: SecondLook | None = None
        self._releases: OtherReleases | None = None
        self._others: OtherUpgrades | None = None
        #: Once all is read: the devices that can be released to, and the others by the reason.
        self.ids: Sequence[str] = ()
        self.left_out: dict[str, list[str]] = {}
        #: What the next wave is to expect; None: not to be written down.
        self.counted: Counted | None = None
        self.is_done = False

    async def go_on(self, io: ReleaseIO, succeeded: int, is_time: Callable[[], bool]) -> str:
        """Read on; returns why it could not, or empty text.

        :param succeeded: how many devices this release has given the version, as the guard has just
            seen
        :param is_time: tells whether the guard has to look before anything else is read
        :raises IoTDAError: something can't be read now
        """
        job, self.unread = self._job, ""
        if self._second is None:
            copies = await io.recall(LOOKED)
            if copies is None:
                return "what the plan has counted can't be read"
            self._second = self._second_look(copies)
        if self._releases is None:
            # The way back must not wait for its own release, whose run may last hours.
            notes = [] if job.is_way_back else await io.other_releases(job.identity, job.note)
            if notes is None:
                return "which other releases are under way can't be read"
            product_id = self._second.counted.product_id
            self._releases = OtherReleases(notes, product_id, self._in_order, self._log)
        while not self._releases.is_done:
            try:
                await self._releases.step(io)
            except IoTDAError:
                self.unread = self._releases.unread
                raise
            if is_time():
                return ""
        # Before the versions: a device whose other upgrade ends meanwhile has its version read.
        if self._others is None:
            own = frozenset(self._own)
            self._others = OtherUpgrades(self._in_order, lambda t: t.task_id in own, job.devices)
        while (call := self._others.next) is not None:
            self._others.take(await io.perform(call))
            if is_time():
                return ""
        while not self._second.is_done:
            await self._second.step(io, succeeded)
            if self._second.must_wait or is_time():
                return ""
        self._conclude(self._second, self._releases, self._others)
        return ""

    def _conclude(
        self, second: SecondLook, releases: OtherReleases, upgrades: OtherUpgrades
    ) -> None:
        if upgrades.not_read:
            self._log.warning("%s", upgrades.not_read)
        for sentence in releases.said(_LAST if self._job.wave == self._job.waves else _LATER):
            self._log.warning("%s", sentence)
        ids, left_out = self._every, dict(second.left_out)
        absent, held = MarkedIds(self._in_order), MarkedIds(self._in_order)
        absent.update(second.absent)
        others = chain(upgrades.devices, releases.devices)
        held.update(device for device in others if device not in absent)
        if held:
            left_out[HELD] = [device for device in ids if device in held]
        if left_out:
            ids = [device for device in ids if device not in held and device not in absent]
        self.ids, self.left_out, self.is_done = ids, left_out, True
        if second.left_out and second.counted.devices is not None:
            self.counted = second.counted

    def _second_look(self, copies: Sequence[Any]) -> SecondLook:
        """The look at the devices' versions; already done if no version was counted."""
        only = self._job.from_version
        for copy in copies:
            with suppress(ValueError):
                return SecondLook(Counted.from_json(copy), self._in_order, self._log, only)
        column = COLUMN_OF_TASK_TYPE[str(self._job.task["task_type"])]
        unknown = Counted("", column, None)
        if only is not None:
            return SecondLook(unknown, self._in_order, self._log, only)
        self._log.warning("The versions of the wave's devices are not looked at again.")
        return SecondLook(unknown, SortedIds(), self._log)
