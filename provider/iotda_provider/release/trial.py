"""The trial at one wave's gate: its looks, by the clock, and what follows. No Airflow, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from iotda_provider.exceptions import IoTDAError
from iotda_provider.models import SubtaskStatus, TaskProgress
from iotda_provider.models.log import Log
from iotda_provider.models.text import one_line
from iotda_provider.procedures.device_reading import DeviceReading
from iotda_provider.release.manifest import TRIAL
from iotda_provider.release.release_io import EvidenceFailedError, ReleaseIO
from iotda_provider.release.trial_job import TrialJob, TrialPlan, TrialRecord
from iotda_provider.trials import Answer, Group
from iotda_provider.trials.device_trial import ONLINE
from iotda_provider.trials.draw import drawn
from iotda_provider.trials.looks import is_online

#: How many notes of successes are kept for each time that is looked back over.
_NOTES = 20

State = bool | None


class WaveTrial:
    """The looks at the gate after one wave.

    Their times are fixed when the wave begins, so that no look waits until devices fare well. Each
    look has a number, which is written down before the devices' states are read. So no number is
    used twice, even after a kill or a clear.

    :param wave: which wave, from 1
    :param job: the trial
    :param log: where its lines go
    :param clock: the time in seconds since 1970
    """

    def __init__(self, wave: int, job: TrialJob, log: Log, clock: Callable[[], float]) -> None:
        self.job = job
        self._wave = wave
        self._log = log
        self._clock = clock
        self._record: TrialRecord | None = None
        #: Why the records of the trial can't be used now; empty: they can.
        self._unread = ""
        self._is_off = False
        self._reading: DeviceReading | None = None
        self._measured: Mapping[str, State] | None = None
        self._updating: set[str] | None = None
        self._at = 0.0
        self._treated: list[str] = []
        self._control: list[str] = []

    # --- what follows -----------------------------------------------------------------------------

    @property
    def is_worse(self) -> bool:
        """Whether the last look says that updated devices are worse off."""
        return bool(self.job.answer and self.job.answer.get("worse"))

    @property
    def is_reading(self) -> bool:
        """Whether a look is under way."""
        return self._reading is not None

    @property
    def blocks(self) -> str:
        """Why the wave may not pass; empty: the trial has nothing against it."""
        if not self.job.trial.required or self._is_off or self.job.open:
            return ""
        return self._unread or self.job.trouble or self.sentence or "the trial has not looked yet"

    @property
    def can_never_pass(self) -> bool:
        """Whether the groups are too small for any look to show "no worse"."""
        return self._record is not None and not self.job.trial.can_pass(
            len(self._treated), len(self._control)
        )

    @property
    def sentence(self) -> str:
        """The last look's answer for a person; empty: there was none."""
        return str((self.job.answer or {}).get("sentence") or "")

    # --- looking ----------------------------------------------------------------------------------

    async def go_on(
        self,
        io: ReleaseIO,
        batch_task_ids: tuple[str, ...],
        progress: TaskProgress,
        seconds: float,
    ) -> Answer | None:
        """Look if it is time, or go on with a look; its answer once it is complete.

        :param progress: the counts of the waves so far
        :param seconds: the most time for this call; the next call goes on with the same look
        :raises EvidenceFailedError: the metric could not be asked; the look has decided nothing
        """
        self._note_finished(progress)
        if self._is_off or not await self._is_prepared(io):
            return None
        try:
            if self._reading is None and not await self._begin(io, batch_task_ids, progress):
                return None
            reading, until = self._reading, self._clock() + seconds
            assert reading is not None
            while not reading.is_done and self._clock() < until:
                await reading.step(io)
            if not reading.is_done:
                return None
            answer = await self._complete(io, batch_task_ids, progress, reading)
        except EvidenceFailedError as error:
            self.job.trouble = one_line(f"the metric can't be asked: {error}", 300)
            self._end_look()
            raise
        self._end_look()
        return answer

    def _end_look(self) -> None:
        job, self._reading = self.job, None
        # Looks whose times have passed meanwhile are left out.
        job.look = max(job.look + 1, job.schedule.next_at(self._clock()))

    async def _is_prepared(self, io: ReleaseIO) -> bool:
        """Whether it is known who is compared, and which looks there were."""
        if self._record is not None:
            return True
        found, looks = await io.recall(TRIAL), await io.recall(self._key)
        if found is None or looks is None:
            self._unread = "what was written down of the trial can't be read"
            return False
        try:
            record = TrialPlan.from_json(found[0]).record if found else None
            last = max((int(one["look"]) for one in looks), default=0)
        except (KeyError, TypeError, ValueError) as error:
            why = f"what was written down of the trial can't be used: {error}"
            self._unread = one_line(why, 300)
            return False
        if record is None and self.job.trial.required:
            self._unread = "the waves were planned without the trial that is required"
            return False
        if record is None or not record.draw.has_gate(self._wave):
            self._is_off = True
            self._log.info(
                "Wave %d: the trial has no control group, and decides nothing.", self._wave
            )
            return False
        self._record, self._unread = record, ""
        self._treated = record.draw.treated(self._wave)
        self._control = record.draw.control(self._wave)
        self.job.look = max(self.job.look, last + 1)
        return True

    @property
    def _key(self) -> str:
        return f"{TRIAL}_{self._wave}"

    async def _begin(
        self, io: ReleaseIO, batch_task_ids: tuple[str, ...], progress: TaskProgress
    ) -> bool:
        """Begin a look if it is time; whether it has begun."""
        job, record = self.job, self._record
        assert record is not None
        if self._clock() < job.schedule.time_of(job.look):
            return False
        is_own = job.trial.metric != ONLINE
        if is_own:
            await io.measure(())  # the triggerer hands over to a worker here, before it is noted
        if not await io.note(self._key, {"look": job.look}):
            self._unread = "the trial's look can't be written down"
            return False
        self._at, self._unread, self.job.trouble = self._clock(), "", ""
        self._measured = None
        # One order over both groups, so that an outage in the middle hits both alike.
        every = drawn([*self._treated, *self._control], record.draw.seed, f"look {self._wave}")
        self._updating = await self._read_updating(io, batch_task_ids, progress)
        if self._updating is None:
            every = []  # nothing can be decided
        elif is_own:
            self._measured = await io.measure(every)
            every = self._treated  # their versions are read
        since = job.trial.online_within is not None
        self._reading = DeviceReading(every, record.product_id, since=since)
        return True

    async def _read_updating(
        self, io: ReleaseIO, batch_task_ids: tuple[str, ...], progress: TaskProgress
    ) -> set[str] | None:
        """Who is being updated, and may be rebooting; None: too many, or it can't be read."""
        updating: set[str] = set()
        if 10 * progress.processing > progress.total:
            return None
        if progress.processing:
            try:
                for batch_task_id in batch_task_ids:
                    updating |= await io.read_targets(batch_task_id, SubtaskStatus.PROCESSING)
            except IoTDAError as error:
                self._log.warning("Who is being updated can't be read: %s", error)
                return None
        return updating

    async def _complete(
        self,
        io: ReleaseIO,
        batch_task_ids: tuple[str, ...],
        progress: TaskProgress,
        reading: DeviceReading,
    ) -> Answer:
        job, record = self.job, self._record
        assert record is not None
        # Who was being updated at the beginning of the look, or is at its end.
        updating = self._updating
        if updating is not None:
            later = await self._read_updating(io, batch_task_ids, progress)
            updating = None if later is None else updating | later

        def state(device_id: str) -> State:
            if self._measured is not None:
                return self._measured.get(device_id)
            device = reading.found.get(device_id)
            return None if device is None else is_online(device, self._at, job.trial.online_within)

        def group(ids: list[str]) -> Group:
            states = [state(one) for one in ids]
            return Group(states.count(False), states.count(True), states.count(None))

        def of_treated(ids: list[str]) -> Group:
            if updating is None:
                return Group(0, 0, len(ids))
            known = group([one for one in ids if one not in updating])
            return self._without_recent(known, len(ids), progress)

        newest = record.draw.newest(self._wave)
        latest = [one for one in self._treated if one in newest]
        found = (reading.found.get(one) for one in self._treated)
        updated = sum(getattr(one, record.column, None) in record.versions for one in found)
        answer = job.trial.judge(
            of_treated(self._treated),
            group(self._control),
            look=job.look,
            gates=record.draw.gates,
            updated=updated / len(self._treated),
            newest=of_treated(latest) if 0 < len(latest) < len(self._treated) else None,
        )
        job.answer, job.open = answer.to_json(), job.open or answer.no_worse
        self._log.info("Wave %d, look %d: %s", self._wave, job.look, answer.sentence)
        return answer

    # --- devices that have succeeded within the time that is looked back over ---------------------

    def _note_finished(self, progress: TaskProgress) -> None:
        within, now = self.job.trial.online_within, self._clock()
        notes = self.job.finished
        if within is None or (notes and now - notes[-1][0] < within / _NOTES):
            return
        notes.append([now, progress.success])
        del notes[: -2 * _NOTES]

    def _without_recent(self, known: Group, devices: int, progress: TaskProgress) -> Group:
        """A group, less as many devices as have succeeded lately: their ids are not known."""
        within = self.job.trial.online_within
        recent = 0
        if within is not None:
            before = [count for time, count in self.job.finished if time <= self._at - within]
            recent = max(0, progress.success - int(before[-1] if before else 0))
        unhealthy = max(0, known.unhealthy - recent)
        healthy = max(0, known.healthy - recent)
        return Group(unhealthy, healthy, devices - unhealthy - healthy)
