"""Creating the batch tasks of one wave, once, behind the guard of those before. No Airflow, no I/O.

Who is in the wave is written down first, then one batch task after the other is created, each under
a name that has one purpose. So a worker that is killed between two of them goes on with the next.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from itertools import chain
from typing import Any

from iotda_provider.exceptions import (
    BatchTaskDiffersError,
    BatchTaskTimeoutError,
    IoTDAApiError,
    IoTDAConfigError,
    IoTDAError,
)
from iotda_provider.models import BatchTask, TaskStatus
from iotda_provider.models.sorted_ids import MarkedIds, SortedIds
from iotda_provider.procedures.create_once import create_batch_task_once, differences
from iotda_provider.release.create_job import CreateJob
from iotda_provider.release.manifest import HELD, LOOKED, BegunWave, Part, parts_of
from iotda_provider.release.other_releases import OtherReleases
from iotda_provider.release.other_upgrades import OtherUpgrades
from iotda_provider.release.package_kinds import COLUMN_OF_TASK_TYPE
from iotda_provider.release.release_guard import ReleaseGuard
from iotda_provider.release.release_io import ReleaseIO
from iotda_provider.release.second_look import Counted, SecondLook
from iotda_provider.release.wave_step import WaveStep
from iotda_provider.rollout_guard import Outcome
from iotda_provider.rollout_guard.outcome import BREACHED, COMPLETED
from iotda_provider.waiting.outage import is_task_gone, is_transient

CREATED = "created"
_LATER = "they are left out, and come again with the last wave, if that run is over by then."
_LAST = "they are left out of this release."


class WaveCreation(WaveStep):
    """The creation of one wave's batch tasks, with the guard of the waves before.

    :param job: which wave
    :param watch: the release's guard; before the first wave it watches nothing
    """

    def __init__(self, job: CreateJob, watch: ReleaseGuard) -> None:
        super().__init__(f"Wave {job.wave}", watch, job.window)
        self.job = job
        self._begun: BegunWave | None = None
        self._was_read = False
        self._ids: list[str] = []
        self._in_order: SortedIds | None = None
        self._others: OtherUpgrades | None = None
        self._releases: OtherReleases | None = None
        self._look: SecondLook | None = None
        self._came_again = False
        self._look_again = 0.0

    async def run(self, io: ReleaseIO) -> dict[str, Any]:
        """The operator's result.

        :raises BatchTaskDiffersError: a batch task with this wave's stamp is for something else
        :raises BatchTaskTimeoutError: it had to wait for longer than it may
        :raises IoTDAError: no device was confirmed yet, and the platform has refused the first
            batch task for a reason that does not pass by itself; or the waves are not those planned
        """
        watch, job = self._watch, self.job
        while True:
            outcome = await watch.poll(io)
            if outcome is not None and outcome.verdict != COMPLETED:
                if outcome.verdict == BREACHED and await self._stop_own_too(io):
                    continue
                return self._result(outcome)
            self._look_again = self._clock() + watch.interval
            why: str | None = watch.blocked_because
            # A wave that has begun is completed whatever the time.
            if not why and self._was_read and self._begun is None:
                why = self.closed()
            why = why or await self._go_on(io)
            if self._begun is not None:
                unready = await self._watch_own(io, self._begun)
                if why is None and self._begun.created == len(self._begun.parts):
                    why = unready
                    if not why:
                        return self._result(None)
            if why is None:
                continue
            now = self._clock()
            if now >= job.deadline and not watch.is_stopping:
                raise BatchTaskTimeoutError(
                    f"Wave {job.wave} could not be created in {job.timeout:.0f} s: {why}. Clear "
                    "this task to go on."
                )
            # What was read of a wave that has not begun is old by the time that it goes on.
            self._others = self._releases = self._look = None
            self.say(why)
            await io.sleep(watch.seconds_to_next_look(job.deadline, now))

    async def _go_on(self, io: ReleaseIO) -> str | None:
        """One step; why that is not possible, or None where it was."""
        try:
            if not self._was_read:
                self._begun = await io.read_begun(self.job.wave)
                self._was_read = True
            elif self._begun is None:
                return await self._begin(io)
        except IoTDAError as error:
            # With devices under way, what the platform refuses must not end their guard.
            is_refused = isinstance(error, IoTDAApiError) and bool(self.job.earlier)
            if not is_refused and not is_transient(error):
                raise
            kind = "create_refused" if is_refused else "confirm_failed"
            return await self.refused(
                io, "what the wave is for can't be read or written", error, kind=kind
            )
        if self._begun is None:
            return None
        missing = next((part for part in self._begun.parts if part.batch_task_id is None), None)
        return None if missing is None else await self._create(io, missing)

    async def _begin(self, io: ReleaseIO) -> str | None:
        """Write down who is in the wave; why that is not possible, or None where it was."""
        job = self.job
        if self._in_order is None:
            self._ids = await self._candidates(io)
            self._in_order = await io.in_order(self._ids)
        if self._look is None:
            copies = await io.recall(LOOKED)
            if copies is None:
                return "what the plan has counted can't be read"
            self._look = self._second_look(copies, self._in_order)
        if self._releases is None:
            # The run of the release that the way back is for may be under way for hours.
            notes = [] if job.is_way_back else await io.other_releases(job.identity, job.note)
            if notes is None:
                return "which other releases are under way can't be read"
            product_id = self._look.counted.product_id
            self._releases = OtherReleases(notes, product_id, self._in_order, self._log)
        while not self._releases.is_done:
            try:
                await self._releases.step(io)
            except IoTDAError as error:
                # Of any kind: the guard of the waves before must not end with somebody else's note.
                return await self.refused(io, self._releases.unread, error, kind="create_refused")
            if self._clock() >= self._look_again:
                return None
        # Before the versions: whose other upgrade is over by then runs what it has brought.
        if self._others is None:
            own = frozenset(job.batch_task_ids)
            self._others = OtherUpgrades(self._in_order, lambda t: t.task_id in own, job.devices)
        while (call := self._others.next) is not None:
            self._others.take(await io.perform(call))
            if self._clock() >= self._look_again:
                return None  # the guard looks meanwhile
        while not self._look.is_done:
            await self._look.step(io, self._watch.progress.success)
            if self._look.must_wait or self._clock() >= self._look_again:
                return None  # the guard looks meanwhile
        if self._others.not_read:
            self._log.warning("%s", self._others.not_read)
        for sentence in self._releases.said(_LAST if job.wave == job.waves else _LATER):
            self._log.warning("%s", sentence)
        ids, left_out = self._ids, dict(self._look.left_out)
        absent, held = MarkedIds(self._in_order), MarkedIds(self._in_order)
        absent.update(self._look.absent)
        others = chain(self._others.devices, self._releases.devices)
        held.update(device for device in others if device not in absent)
        if held:
            left_out[HELD] = [device for device in ids if device in held]
        if left_out:
            ids = [device for device in ids if device not in held and device not in absent]
        is_planned = not left_out and not self._came_again
        names = parts_of(job.wave, job.waves, len(ids), job.task_name)
        begun = BegunWave(
            job.wave,
            len(ids),
            tuple(replace(one, task_name=job.stamped(one)) for one in names),
            None if is_planned else await io.hand_over(ids, f"begun_{job.wave}.ids"),
            {
                why: await io.hand_over(devices, f"begun_{job.wave}.{why}")
                for why, devices in left_out.items()
            },
            {why: len(devices) for why, devices in left_out.items()},
            self._clock(),
        )
        look, self._others, self._releases, self._look = self._look, None, None, None
        if not await io.note(f"begun_{job.wave}", begun.to_json()):
            return "who is in the wave can't be written down"
        self._begun, self._ids, self._in_order = begun, [], None
        if look.left_out and look.counted.devices is not None:
            # Not written down, the next wave's devices are read, too.
            await io.note(LOOKED, look.counted.to_json())
        return None

    def _second_look(self, copies: list[Any], ids: SortedIds) -> SecondLook:
        """The look at the wave's devices; one that is done where nobody knows any version."""
        only = self.job.from_version
        for copy in copies:
            with suppress(ValueError):
                return SecondLook(Counted.from_json(copy), ids, self._log, only)
        column = COLUMN_OF_TASK_TYPE[str(self.job.task["task_type"])]
        unknown = Counted("", column, None)
        if only is not None:
            return SecondLook(unknown, ids, self._log, only)
        self._log.warning("The versions of the wave's devices are not looked at again.")
        return SecondLook(unknown, SortedIds(), self._log)

    async def _candidates(self, io: ReleaseIO) -> list[str]:
        """The devices of the wave; in the last one also those that earlier ones have left out."""
        ids = await io.read_planned(self.job.wave)
        if self.job.wave == self.job.waves:
            again = await io.read_held(self.job.wave)
            self._came_again = bool(again)
            ids += again
        return ids

    async def _create(self, io: ReleaseIO, part: Part) -> str | None:
        """Create one batch task; why that is not possible, or None where it was."""
        job, begun = self.job, self._begun
        assert begun is not None
        try:
            members = await io.read_members(replace(part, batch_task_id="0"))
            made = await create_batch_task_once(
                io,
                not_before=job.not_before,
                task_name=part.task_name,
                targets=members,
                need_confirm=True,
                **job.task,
            )
        except (BatchTaskDiffersError, IoTDAConfigError):
            raise
        except IoTDAError as error:
            if not job.earlier and not begun.created and _is_bad(error):
                raise
            return await self.refused(
                io,
                f"batch task {part.task_name} could not be created",
                error,
                kind="create_refused",
            )
        self.answered()
        for sentence in made.said_of_surplus(part.task_name):
            self._log.error("%s", sentence)
        self._log.info(
            "Wave %d: %s batch task %s (%s) for %d device(s); all of them wait.",
            job.wave,
            "created" if made.created else "found",
            made.task.task_id,
            part.task_name,
            part.devices,
        )
        parts = [
            replace(one, batch_task_id=made.task.task_id) if one == part else one
            for one in begun.parts
        ]
        self._begun = replace(begun, parts=tuple(parts))
        if not await io.note(f"begun_{job.wave}", self._begun.to_json()):
            self._begun = begun
            return "which batch tasks the wave has can't be written down"
        return None

    async def _watch_own(self, io: ReleaseIO, begun: BegunWave) -> str:
        """Let the guard watch the wave's own batch tasks, too: somebody may confirm one at the
        console while the next one can't be created. Why it can't yet; empty: it watches all that
        there are.

        :raises BatchTaskDiffersError: a batch task that an earlier try has created is for something
            else than this one asks for
        """
        watch, why = self._watch, ""
        parts = [part for part in begun.parts if part.batch_task_id]
        parts = [part for part in parts if part.batch_task_id not in watch.plan.batch_task_ids]
        ids = [str(part.batch_task_id) for part in parts]
        for part, task in zip(parts, await io.read_tasks(ids) if ids else (), strict=True):
            if not isinstance(task, BatchTask):
                if is_task_gone(task):
                    watch.include([str(part.batch_task_id)])  # its next look says so
                else:
                    why = await self.refused(io, "its batch tasks can't be read", task)
                continue
            wanted = {**self.job.task, "task_name": part.task_name, "need_confirm": True}
            # Its targets are those that were written down with its id.
            if different := differences(task, {**wanted, "targets": ()}):
                raise BatchTaskDiffersError(
                    f"Batch task {task.task_id} ({task.task_name}, {task.status}), which this run "
                    f"has created before, is for something else: {'; '.join(different)}. It stays "
                    "as it is. Start a new DAG run for what this one asks for now."
                )
            if task.status is TaskStatus.INITIALIZING:
                why = why or f"batch task {task.task_id} is {task.status}"
                continue
            watch.include([task.task_id])
            if task.progress.total != part.devices:
                self._log.warning(
                    "Batch task %s was created for %d device(s), and counts %d.",
                    task.task_id,
                    part.devices,
                    task.progress.total,
                )
        return why

    async def _stop_own_too(self, io: ReleaseIO) -> bool:
        """After a breach: whether the wave has batch tasks that the guard has yet to stop."""
        if not self._was_read:
            with suppress(IoTDAError):  # what was written down can't be read
                self._begun = await io.read_begun(self.job.wave)
                self._was_read = True
        parts = self._begun.parts if self._begun is not None else ()
        return self._watch.include([part.batch_task_id for part in parts if part.batch_task_id])

    def _result(self, outcome: Outcome | None) -> dict[str, Any]:
        job, begun = self.job, self._begun
        parts = begun.parts if begun is not None else ()
        every = [*job.earlier, *(part for part in parts if part.batch_task_id)]
        every.sort(key=lambda part: (part.wave, part.part))
        counts = dict(begun.counts) if begun is not None else {}
        devices = begun.devices if begun is not None else 0
        if outcome is not None:
            said = f"Wave {job.wave} does not begin: {outcome.summary}"
        else:
            said = f"Wave {job.wave} has {devices} device(s) in {len(parts)} batch task(s)"
            for why, count in counts.items():
                said += f"; {count} left out ({why.replace('_', ' ')})"
            said += "."
        result = {
            "wave": job.wave,
            "verdict": CREATED if outcome is None else outcome.verdict,
            "batch_task_ids": [part.batch_task_id for part in every],
            "parts": [part.to_json() for part in parts],
            "all_parts": [part.to_json() for part in every],
            "devices": devices,
            "left_out": counts,
            "progress": self._watch.progress_json,
            "summary": said,
        }
        if outcome is not None:
            result |= {"rule": outcome.rule, "stop": outcome.to_result()["stop"]}
        return result


#: Answers that say that the request itself makes no sense.
_BAD_INPUT = ("IOTDA.000006", "IOTDA.000008")


def _is_bad(error: IoTDAError) -> bool:
    """Whether the platform will never take this request."""
    code = str(getattr(error, "error_code", "") or "")
    return getattr(error, "status_code", None) == 404 or code in _BAD_INPUT
