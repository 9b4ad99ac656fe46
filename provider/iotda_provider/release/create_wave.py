"""Creating the batch tasks of one wave, once, behind the guard of those before. No Airflow, no I/O.

Who is in the wave is written down first, then one batch task after the other is created, each under
a name that has one purpose. So a worker that is killed between two of them goes on with the next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from iotda_provider.exceptions import (
    BatchTaskDiffersError,
    IoTDAApiError,
    IoTDAConfigError,
    IoTDAError,
)
from iotda_provider.models import BatchTask, TaskStatus
from iotda_provider.procedures.create_once import create_batch_task_once, differences, find_by_name
from iotda_provider.release.create_job import CreateJob
from iotda_provider.release.manifest import LOOKED, BegunWave, Part, parts_of
from iotda_provider.release.release_guard import ReleaseGuard
from iotda_provider.release.release_io import ReleaseIO
from iotda_provider.release.wave_look import WaveLook
from iotda_provider.release.wave_step import WaveStep
from iotda_provider.rollout_guard import Outcome
from iotda_provider.rollout_guard.outcome import BREACHED, COMPLETED
from iotda_provider.waiting.outage import is_gone, may_pass

CREATED = "created"
#: Seconds after which devices that are in no batch task yet are looked at again.
_OLD = 3600.0


class WaveCreation(WaveStep):
    """The creation of one wave's batch tasks, with the guard of the waves before.

    :param job: which wave
    :param watch: the release's guard; before the first wave it watches nothing
    """

    job: CreateJob
    job_class = CreateJob

    def __init__(self, job: CreateJob, watch: ReleaseGuard) -> None:
        super().__init__(job, watch)
        self._begun: BegunWave | None = None
        self._was_read = False
        self._look: WaveLook | None = None
        self._looked_at: float | None = None
        self._came_again = False
        self._look_again = 0.0

    async def run(self, io: ReleaseIO) -> dict[str, Any]:
        """The operator's result.

        :raises BatchTaskDiffersError: a batch task with this wave's stamp is for something else
        :raises BatchTaskTimeoutError: it had to wait for longer than it may
        :raises IoTDAError: no device was confirmed yet, and the platform has refused the first
            batch task for a reason that does not pass by itself; or the waves are not those planned
        """
        watch = self._watch
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
            pause = self.seconds_to_next_look(why, "created")
            # What was read will be out of date when it goes on.
            if self._look is not None:
                self._look.forget()
            self.say(why)
            await io.sleep(pause)

    async def _go_on(self, io: ReleaseIO) -> str | None:
        """Do one step; returns why it could not, or None."""
        try:
            if not self._was_read:
                self._begun = await io.read_begun(self.job.wave)
                self._was_read = True
            elif self._begun is None or await self._is_old(io, self._begun):
                return await self._begin(io)
        except IoTDAError as error:
            # Once there are batch tasks, a refusal of the platform must not end their guard.
            has_some = bool(self.job.earlier or (self._begun and self._begun.created))
            is_refused = isinstance(error, IoTDAApiError) and has_some
            if not is_refused and not may_pass(error):
                raise
            kind = "create_refused" if is_refused else "confirm_failed"
            return await self.refused(
                io, "the wave's devices can't be read or written", error, kind=kind
            )
        if self._begun is None:
            return None
        missing = next((part for part in self._begun.parts if part.batch_task_id is None), None)
        return None if missing is None else await self._create(io, missing)

    async def _is_old(self, io: ReleaseIO, begun: BegunWave) -> bool:
        """Whether the devices that are in no batch task yet are to be looked at again.

        They are after an hour, unless a batch task may have been created without our knowing it, as
        an answer was lost or a worker has died: it keeps the devices that it was created for.

        :raises IoTDAError: whether there is one can't be read
        """
        missing = next((part for part in begun.parts if part.batch_task_id is None), None)
        if missing is None:
            return False
        if self._look is not None:
            return True
        since = begun.at if self._looked_at is None else self._looked_at
        if self._clock() - since < _OLD:
            return False
        wanted = {**self.job.task, "task_name": missing.task_name}
        return not await find_by_name(io, wanted, not_before=self.job.not_before)

    async def _begin(self, io: ReleaseIO) -> str | None:
        """Write down who is in the wave, or no longer is; returns why it could not, or None.

        A batch task that exists keeps its devices; one that is yet to be created may lose some.
        """
        begun = self._begun
        if self._look is None:
            parts = () if begun is None else begun.parts
            own = [*self.job.batch_task_ids, *(one.batch_task_id or "" for one in parts)]
            left = [one for one in parts if one.batch_task_id is None]
            if begun is None:
                ids = await self._candidates(io)
            else:
                ids = await self._members(io, left)
            self._look = WaveLook(self.job, ids, await io.in_order(ids), own, self._log)
        look = self._look
        try:
            succeeded = self._watch.progress.success
            why = await look.go_on(io, succeeded, lambda: self._clock() >= self._look_again)
        except IoTDAError as error:
            if not look.unread:
                raise
            # Any error: another release's note must not end the guard of the waves before.
            return await self.refused(io, look.unread, error, kind="create_refused")
        if not look.is_done:
            return why or None
        if begun is None or look.left_out:
            new = await self._with_those(io, begun, look)
            if not await io.note(f"begun_{self.job.wave}", new.to_json()):
                look.forget()
                return "who is in the wave can't be written down"
            self._begun = new
        self._look, self._looked_at = None, self._clock()
        if look.counted is not None:
            # If this fails, the next wave's devices are read, too.
            await io.note(LOOKED, look.counted.to_json())
        return None

    async def _with_those(
        self, io: ReleaseIO, before: BegunWave | None, look: WaveLook
    ) -> BegunWave:
        """The wave with the devices that a look has left in it.

        :param before: as it was written down; None: it has not begun
        :raises IoTDAError: lists of devices can't be written now
        """
        job, now = self.job, self._clock()
        was = BegunWave(job.wave, 0, (), at=now) if before is None else before
        created = [part for part in was.parts if part.batch_task_id]
        ids = [*await self._members(io, created), *look.ids]
        parts = [
            replace(part, task_name=job.stamped(part))
            for part in parts_of(job.wave, job.waves, len(ids), job.task_name)
        ]
        # Files that were written before are not changed, because records name them.
        again = "" if before is None else f"_{now:.0f}"
        left_out, counts = dict(was.left_out), Counter(was.counts)
        for why, devices in look.left_out.items():
            key = f"begun_{job.wave}.{why}{again}"
            left_out[why] = await io.hand_over(devices, key, was.left_out.get(why) or ())
            counts[why] += len(devices)
        is_planned = not left_out and not self._came_again
        return replace(
            was,
            devices=len(ids),
            parts=(*created, *parts[len(created) :]),
            ids=None if is_planned else await io.hand_over(ids, f"begun_{job.wave}.ids{again}"),
            left_out=left_out,
            counts=dict(counts),
        )

    async def _members(self, io: ReleaseIO, parts: Sequence[Part]) -> list[str]:
        """The devices of some of the wave's batch tasks, whether they were created or not."""
        found: list[str] = []
        for part in parts:
            found += await io.read_members(replace(part, batch_task_id=part.batch_task_id or "0"))
        return found

    async def _candidates(self, io: ReleaseIO) -> list[str]:
        """The devices of the wave; in the last one also those that earlier ones have left out."""
        ids = await io.read_planned(self.job.wave)
        if self.job.wave == self.job.waves:
            again = await io.read_held(self.job.wave)
            self._came_again = bool(again)
            ids += again
        return ids

    async def _create(self, io: ReleaseIO, part: Part) -> str | None:
        """Create one batch task; returns why it could not, or None."""
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
                if is_gone(task):
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
            result |= outcome.cause
        return result


#: Answers that say that the request itself makes no sense.
_BAD_INPUT = ("IOTDA.000006", "IOTDA.000008")


def _is_bad(error: IoTDAError) -> bool:
    """Whether the platform will never take this request."""
    code = str(getattr(error, "error_code", "") or "")
    return is_gone(error) or code in _BAD_INPUT
