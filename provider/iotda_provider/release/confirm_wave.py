"""Confirms the devices of one wave: which ones, when, with what result. No Airflow, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from iotda_provider.exceptions import IoTDAError, StopNotAllowedError
from iotda_provider.models import SubtaskStatus
from iotda_provider.procedures.target_results import NOT_IN_TASK
from iotda_provider.release.confirm_chunks import (
    PATIENCE,
    Pauses,
    checked_chunk,
    in_flight,
    next_chunk,
)
from iotda_provider.release.confirm_job import ConfirmJob
from iotda_provider.release.ledger import Ledger, SharedLedger
from iotda_provider.release.release_guard import STARTED_ELSEWHERE, ReleaseGuard, in_words
from iotda_provider.release.release_io import ReleaseIO
from iotda_provider.release.wave_ledgers import WaveLedgers
from iotda_provider.rollout_guard import Outcome
from iotda_provider.rollout_guard.outcome import COMPLETED

CONFIRMED = "confirmed"
#: For so many seconds after its confirmation, a device of the late wave counts as under way.
LATELY = 180.0
#: The beginning of the error of a target whose result is unknown.
_UNKNOWN = "unknown: "


class WaveConfirmation(WaveLedgers):
    """The confirmation of one wave, with a look of the guard before every call.

    It confirms one batch task after the other: first those of the wave, then the earlier ones whose
    devices were refused. It can start again at any time: the ledgers say which devices are left.
    Two processes may confirm the same wave, if one of them was wrongly thought to be dead: a device
    that both confirm starts once, and together they exceed ``max_in_flight`` by one call at most.

    :param job: which wave, and within which limits
    :param watch: the release's guard
    """

    job_class = ConfirmJob

    def __init__(self, job: ConfirmJob, watch: ReleaseGuard) -> None:
        super().__init__(job, watch)
        self._turned_down: list[str] = []
        self._unreached: list[str] = []
        self._pauses = Pauses()

    async def run(self, io: ReleaseIO) -> dict[str, Any]:
        """The operator's result.

        :raises StopNotAllowedError: the release could not be stopped, so it does not begin
        :raises BatchTaskTimeoutError: it had to wait for longer than it may
        :raises IoTDAError: before any device was confirmed, the very first look failed in a way
            that will not pass by itself; or the waves are not those that were written down
        """
        watch = self._watch
        while True:
            trouble = await self._next_batch_task(io)
            watch.never_abort = self.job.wave > 1 or not self._is_untouched
            watch.rehearses = self.job.rehearse_stop and self._exposed > 0
            outcome = await watch.poll(io)
            self._note_rehearsal()
            if outcome is None or outcome.verdict == COMPLETED:
                await self._look_for_others(io)
            if outcome is not None:
                await self._write_down(io)
                return self._result(outcome)
            # Complete a stop that this look has sent, or nobody would know whose stop it was.
            if self._is_done and watch.sees and not watch.is_stopping:
                await self._tell_unreached(io)
                return self._result(None)
            why: str | None = trouble or watch.blocked_because or self.closed()
            if why:
                self._pauses.forget()
            elif (why := await self._go_on(io)) is None:
                continue
            pause = self._pauses.left(self._clock()) or float("inf")
            await self._wait(io, why, pause)

    async def _next_batch_task(self, io: ReleaseIO) -> str:
        """Open the next batch task with unconfirmed devices; returns why it could not, or ""."""
        while self._shared is None and not self._is_done:
            if trouble := await self._open_next(io):
                return trouble
            if not self._queue:
                await self._close(io)
        return ""

    async def _close(self, io: ReleaseIO) -> None:
        """Leave a batch task that has no device to confirm now."""
        await self._write_down(io)
        self._shared, self._turned_down = None, []
        self._pauses.forget()

    # --- whom to confirm --------------------------------------------------------------------------

    async def _go_on(self, io: ReleaseIO) -> str | None:
        """Confirm some devices; returns why it could not, or None."""
        shared = self._shared
        assert shared is not None
        await self._rehearse(io)
        try:
            if self._must_see:
                await self._see_who_waits(io, shared, self._queue)
            if not self._queue:
                return await self._ask_again(io, shared)
            chunk = self._next_chunk(shared.ledger)
            if not chunk:
                return f"{self.job.max_in_flight} device(s) are under way, as many as may be"
            return await self._confirm(io, shared, chunk)
        except IoTDAError as error:
            self._must_see = True  # some may have been confirmed
            return await self.refused(io, "the platform does not confirm", error)
        finally:
            self._note_counts()

    def _next_chunk(self, ledger: Ledger) -> list[str]:
        progress = self._watch.progress
        # Devices that are not online would count as under way for a day; those that were confirmed
        # a moment ago may be about to start.
        devices = sum(part.devices for part in self.job.parts)
        unstarted = progress.waiting - (devices - self._exposed)
        if self.job.late:
            unstarted = min(unstarted, ledger.count_lately(self._clock(), LATELY))
        under_way = in_flight(progress, unstarted)
        return next_chunk(self._queue, under_way, self.job.max_in_flight, self.job.chunk)

    async def _confirm(
        self, io: ReleaseIO, shared: SharedLedger, chunk: Sequence[str]
    ) -> str | None:
        """Confirm these devices; returns why it could not, or None.

        :raises IoTDAError: the platform has refused the call, or has not answered
        """
        ledger = shared.ledger
        # If the answer is lost, they may have started: so write them down first.
        ledger.note_asking(chunk)
        if not await shared.write(io):
            ledger.note_answer(chunk, ())
            return "the devices to confirm can't be written down"
        # Another process may have confirmed some of them.
        targets = [device for device in chunk if device not in ledger.accepted]
        if targets:
            part = shared.part
            assert part.batch_task_id is not None
            self._note_counts()
            self._is_written = False
            results = await io.confirm(part.batch_task_id, checked_chunk(targets, chunk))
            accepted = [row.target for row in results.succeeded]
            gone = [row.target for row in results.failed if row.error_code == NOT_IN_TASK]
            # Devices with an unknown result are read again later.
            said = [row.target for row in results if not str(row.error_msg).startswith(_UNKNOWN)]
            ledger.note_answer(said, accepted)
            known = {*accepted, *gone}
            self._turned_down += [device for device in targets if device not in known]
            if accepted:
                self._pauses.forget()
            if self.job.late and self.job.max_in_flight is not None:
                ledger.note_lately(len(accepted), self._clock(), LATELY)
            self.answered()
        self._note_counts()
        done = ledger.accepted.union(chunk)
        self._queue = [device for device in self._queue if device not in done]
        self._log.info(
            "Wave %d: %d device(s) confirmed, %d to go in batch task %s; %s.",
            self.job.wave,
            self._confirmed - (self.job.accepted_before or 0),
            len(self._queue),
            shared.part.batch_task_id,
            self._watch.progress,
        )
        return None

    async def _ask_again(self, io: ReleaseIO, shared: SharedLedger) -> str | None:
        """The queue is empty: for a while, confirm again the devices that were turned down.

        :raises IoTDAError: who waits can't be read
        """
        now = self._clock()
        if self._turned_down and not self._pauses.have_begun:
            self._pauses.begin(now, self._watch.interval)
        if self._turned_down and self._pauses.left(now) and not self._pauses.are_over(now):
            return f"{len(self._turned_down)} device(s) can't be confirmed yet"
        if self._turned_down:
            asked, self._turned_down = self._turned_down, []
            await self._see_who_waits(io, shared, asked)
            if self._pauses.are_over(now):
                self._unreached += self._queue
                self._queue = []
            else:
                self._pauses.begin(now, self._watch.interval)
        if not self._queue:
            await self._close(io)
        return None

    async def _see_who_waits(
        self, io: ReleaseIO, shared: SharedLedger, wanted: Sequence[str]
    ) -> None:
        """Read which of these wait: the queue. Somebody else has confirmed the others.

        :raises IoTDAError: it can't be read
        """
        task_id, ledger = shared.part.batch_task_id, shared.ledger
        assert task_id is not None
        waiting = await io.read_targets(task_id, SubtaskStatus.WAITING)
        removed = await io.read_targets(task_id, SubtaskStatus.REMOVED)
        self._queue = [device for device in wanted if device in waiting]
        ledger.note_seen(self._queue, [d for d in wanted if d not in waiting | removed])
        self._is_written = False
        self._must_see = False

    # --- who else ---------------------------------------------------------------------------------

    async def _look_for_others(self, io: ReleaseIO) -> None:
        """See whether devices have started that this release has not confirmed; tell it once."""
        watch, job = self._watch, self.job
        if self._left is None or not watch.sees or watch.is_stopping:
            return
        if self._count_others() <= job.outside:
            return
        # Another process may have confirmed them: it writes its devices down before it asks.
        if not await self._read_again(io) or (found := self._count_others()) <= job.outside:
            return
        self._must_see = True  # some of those in the queue do not wait any more
        if not job.outside:
            await watch.tell(
                io,
                STARTED_ELSEWHERE,
                f"Wave {job.wave}: {in_words(found)} The guard goes on watching them; stop the "
                "release if they should not have started.",
            )
        job.outside = found

    # --- what people are told ---------------------------------------------------------------------

    async def _rehearse(self, io: ReleaseIO) -> None:
        """See that the release could be stopped, before any device is confirmed.

        :raises StopNotAllowedError: it could not
        """
        if not self.job.rehearse_stop or not self._is_untouched:
            return
        refusal = await self._watch.rehearse(io)
        self._note_rehearsal()
        if refusal is not None:
            sentence = f"{refusal} So the release does not begin: no device was confirmed."
            await self._watch.tell(io, "may_not_stop", sentence)
            raise StopNotAllowedError(sentence)

    def _note_rehearsal(self) -> None:
        self.job.rehearse_stop = self.job.rehearse_stop and not self._watch.has_rehearsed

    async def _tell_unreached(self, io: ReleaseIO) -> None:
        """Tell a person where some could not be confirmed."""
        left = self._unreached
        if left:
            names = f"{', '.join(left[:10])}{', ...' if len(left) > 10 else ''}"
            await self._watch.tell(
                io,
                "unconfirmed",
                f"{len(left)} device(s) of wave {self.job.wave} or those before it could not be "
                f"confirmed after {PATIENCE:.0f} s of asking: {names}. The release goes on without "
                "them; the next wave asks again.",
            )

    async def _wait(self, io: ReleaseIO, why: str, pause: float) -> None:
        pause = min(self.seconds_to_next_look(why, "confirmed"), pause)
        self.say(why)
        await self._write_down(io)
        await io.sleep(pause)

    def _result(self, outcome: Outcome | None) -> dict[str, Any]:
        job, watch = self.job, self._watch
        later = sum(
            self._counts.get(part.key, (0, 0))[1] for part in job.parts if part.wave > job.wave
        )
        exposed = self._exposed - later if self._counts else job.members
        what = f"{exposed} of {job.members} device(s) in the waves so far were confirmed"
        if not self._counts:
            what = f"at most {job.members} device(s) were confirmed (which ones can't be read now)"
        if outcome is not None:
            said = f"{outcome.summary} Wave {job.wave}: {what}."
        else:
            left = len(self._unreached)
            could_not = f", {left} could NOT be confirmed" if left else ""
            said = f"Wave {job.wave}: {what}{could_not}; {watch.progress}."
        result = {
            "wave": job.wave,
            "verdict": CONFIRMED if outcome is None else outcome.verdict,
            "batch_task_ids": list(job.batch_task_ids),
            "requested": job.members,
            "confirmed": self._confirmed - (job.accepted_before or 0),
            "refused": len(self._unreached),
            "unconfirmed": job.members - exposed,
            "let_start": exposed + later,
            "members": job.members + later,
            "started_elsewhere": job.outside,
            "confirmed_at": self._clock(),
            "progress": watch.progress_json,
            "summary": f"{said} {in_words(job.outside)}".strip(),
        }
        if job.rehearse_stop:
            result["rehearse_stop"] = True
        if outcome is not None:
            result |= outcome.cause
        return result


def nobody_to_confirm(job: ConfirmJob) -> dict[str, Any]:
    """The result for a release of which no wave so far has a device."""
    zero = ("requested", "confirmed", "refused", "unconfirmed", "let_start", "members")
    return {
        "wave": job.wave,
        "verdict": CONFIRMED,
        "batch_task_ids": [],
        **dict.fromkeys((*zero, "started_elsewhere"), 0),
        "confirmed_at": 0.0,
        "progress": None,
        "summary": f"Wave {job.wave} has no device, nor has one before it.",
        **({"rehearse_stop": True} if job.rehearse_stop else {}),
    }
