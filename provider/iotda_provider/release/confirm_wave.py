"""Letting the devices of one wave start: whom, when, and what came of it. No Airflow, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any

from iotda_provider.exceptions import (
    BatchTaskTimeoutError,
    IoTDAError,
    NotHeldError,
    StopNotAllowedError,
)
from iotda_provider.models.log import Log
from iotda_provider.release.confirm_chunks import (
    PATIENCE,
    Pauses,
    checked_chunk,
    in_flight,
    next_chunk,
)
from iotda_provider.release.ledger import pack
from iotda_provider.release.release_guard import (
    STARTED_ELSEWHERE,
    ReleaseGuard,
    in_words,
    look_for_others,
    not_held,
)
from iotda_provider.release.release_io import ReleaseIO
from iotda_provider.release.wave_devices import ConfirmJob, WaveDevices
from iotda_provider.rollout_guard import Outcome
from iotda_provider.rollout_guard.outcome import COMPLETED
from iotda_provider.waiting.outage import Outage, is_transient

CONFIRMED = "confirmed"
#: Seconds after its confirmation in which a device that was not online lately holds a place.
LATELY = 180.0
#: Seconds between two log lines about the same reason to wait.
_SAY_EVERY = 300.0


class WaveConfirmation(WaveDevices):
    """The confirmation of one wave, with a look of the guard before every call.

    It can be begun anew at any time: whom to confirm is read from the platform and the ledger. Two
    processes may confirm the same wave, where one of them was only thought to be dead: a device
    that both ask for starts once, and together they exceed ``max_in_flight`` by one call at most.

    :param job: which wave, and within which limits
    :param watch: the release's guard
    :param log: where its lines go
    :param clock: the time in seconds since 1970
    """

    def __init__(
        self,
        job: ConfirmJob,
        watch: ReleaseGuard,
        log: Log,
        *,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(job, log, clock)
        self._watch = watch
        self._said = ("", 0.0)
        self._refusals = Outage(watch.plan.max_outage, watch.plan.poll_interval)
        self._is_stale, self._is_fresh = True, False
        self._pauses = Pauses()
        watch.before_stop = self._note_left

    async def run(self, io: ReleaseIO) -> dict[str, Any]:
        """The operator's result; with ``left``, the devices not let start, packed.

        :raises NotHeldError: devices have started before the first wave has let any
        :raises StopNotAllowedError: the release could not be stopped, so it does not begin
        :raises BatchTaskTimeoutError: it had to wait for longer than it may
        :raises IoTDAError: before anybody was let start, the very first look failed in a way that
            will not pass by itself; or the waves are not those that were planned
        """
        watch = self._watch
        while True:
            trouble = ""
            if self._is_stale and not self._pauses.left(self._clock()):
                # Read before the look, which may send a stop: who waits now has not started.
                trouble = await self._read(io)
            outcome = await self._look(io)
            await self._look_for_others(io, outcome)
            if outcome is not None:
                never = self._never_started()
                await self._keep_left(io, outcome, never)
                return self._result(outcome, never)
            if watch.is_stopping:
                await self._note_left(io)
            if self._is_fresh and watch.sees:
                # Rows move between pages: the list is whole where the counts bear it out.
                self._is_fresh = False
                self._is_complete = watch.progress.waiting <= len(self._rows)
            why: str | None = trouble or watch.blocked_because or self._closed()
            # A stop that this look has sent is seen through here, or nobody knows whose it was.
            if not (self._is_stale or self._queue or self._is_fresh or watch.is_stopping):
                left = self._unreached()
                if not left or (not why and self._pauses.are_over(self._clock())):
                    await self._shared.write_what_is_missing(io)
                    await self._tell_left(io, left)
                    return self._result(None, left)
                if not why:
                    self._is_stale = True
                    self._pauses.begin(self._clock(), watch.interval)
            if why:
                self._pauses.forget()
            elif self._pauses.left(self._clock()):
                why = f"{len(self._unreached())} device(s) can't be confirmed yet"
            else:
                why = await self._go_on(io)
                if why is None:
                    continue
            await self._wait(io, why)

    async def _go_on(self, io: ReleaseIO) -> str | None:
        """Confirm some devices; why that is not possible, or None where it was."""
        was_new, left = not self._shared.was_read, self._ledger.left
        self._ledger.wave = max(self._ledger.wave, self.job.wave)
        if not await self._recall(io):
            # To begin without it would be to ask again, and to write down less than it.
            return "who was confirmed before can't be read"
        if was_new or self._ledger.left != left:
            # What it says, or a stop that another process has begun, is held against a look first.
            self._is_stale = True
            return None
        accepted = self._ledger.accepted
        self._queue = [device for device in self._queue if device not in accepted]
        if not self._queue:
            return None
        await self._rehearse(io)
        chunk = self._next_chunk()
        if not chunk:
            return f"{self.job.max_in_flight} device(s) are under way, as many as may be"
        if not self._shared.is_written:
            # Which wave has begun, for one: whoever begins now finds whose devices these are.
            await self._shared.write(io)
        try:
            await self._confirm(io, chunk)
        except IoTDAError as error:
            self._is_stale = True
            return await self._refused(io, "the platform does not confirm", error)
        self._refusals.note_success(self._clock())
        return None

    async def _rehearse(self, io: ReleaseIO) -> None:
        """See that the release could be stopped, before anybody is let start.

        :raises StopNotAllowedError: it could not
        """
        if not self.job.rehearse_stop or not self._is_untouched or self._watch.has_rehearsed:
            return
        if (refusal := (await self._watch.rehearse(io))) is not None:
            sentence = f"{refusal} So the release does not begin: nobody was let start."
            await self._watch.tell(io, "may_not_stop", sentence)
            raise StopNotAllowedError(sentence)

    async def _read(self, io: ReleaseIO) -> str:
        """Who is in which wave, and who waits; why that can't be read, or nothing."""
        try:
            await self._read_waves(io)
        except IoTDAError as error:
            if not is_transient(error):
                raise
            return await self._refused(io, "the waves can't be read", error)
        try:
            await self._read_queue(io)
        except IoTDAError as error:
            # The task may be gone, or keys refused: the look that follows says what that means.
            what = "the guard is blind: who waits can't be read"
            if is_transient(error) or not self._watch.memory.looks:
                return f"{what}: {error}"
            return await self._refused(io, what, error)
        self._is_stale, self._is_fresh = False, True
        return ""

    async def _refused(self, io: ReleaseIO, what: str, error: IoTDAError) -> str:
        """Note that the platform has refused a call; the reason to wait."""
        _, tell = self._refusals.note_failure(self._clock(), permanent=not is_transient(error))
        if tell:
            await self._watch.tell(
                io,
                "confirm_failed",
                f"Wave {self.job.wave} can't let its devices start, and keeps trying while the "
                f"guard goes on: {what}: {error}",
            )
        return f"{what}: {error}"

    async def _look_for_others(self, io: ReleaseIO, outcome: Outcome | None) -> None:
        """See whether devices have started that no wave has let start.

        :raises NotHeldError: before the first wave has let any, so the task holds nobody
        """
        job, watch, progress = self.job, self._watch, self._watch.progress
        if not self._shared.was_read or not watch.sees:
            return
        is_open = outcome is None or outcome.verdict == COMPLETED
        if self._is_untouched and is_open and watch.started and not watch.is_stopping:
            await self._recall(io)
            if self._is_untouched:
                sentence = not_held(job.batch_task_id, watch.started, progress.total)
                await watch.tell(io, STARTED_ELSEWHERE, sentence)
                raise NotHeldError(sentence)
        before = job.outside
        job.outside = await look_for_others(io, watch, self._exposed, before)
        if job.outside > before:
            self._is_stale = True  # some of those that waited do not any more
            self._ledger.outside = job.outside
            await self._shared.write(io)

    async def _look(self, io: ReleaseIO) -> Outcome | None:
        """A look of the guard; who has not been let start is written down before it stops."""
        self._watch.never_abort = not self._is_untouched
        return await self._watch.poll(io)

    async def _note_left(self, io: ReleaseIO) -> None:
        """Write down who waits: after a stop nobody can see it, nor can another process before."""
        if not self._members or self.job.left is not None:
            return
        was_read = self._shared.was_read
        if was_read:
            await self._recall(io, urgent=True)
        left = self._not_asked()
        if self._watch.started - (self._exposed - len(left)) > self.job.outside:
            left = []  # some have started that still waited when that was read: nobody knows who
        self._ledger.note_left(left)
        self.job.left = pack(self._members, self._ledger.left or ())
        if was_read:
            await self._shared.write_before_stop(io)

    async def _keep_left(self, io: ReleaseIO, outcome: Outcome, left: Sequence[str]) -> None:
        """Write down who had not been let start where somebody else has ended the release."""
        if not self._shared.was_read:
            return
        if self._ledger.left is None and outcome.verdict != COMPLETED:
            self._ledger.note_left(left)
        await self._shared.write_what_is_missing(io)

    def _next_chunk(self) -> list[str]:
        progress = self._watch.progress
        # Devices that are not online would fill every place under way for a day; whoever was
        # confirmed a moment ago may be about to start.
        held = len(self._rows - self._ledger.accepted)
        unstarted = progress.waiting - held
        if self.job.late:
            unstarted = min(unstarted, self._ledger.count_lately(self._clock(), LATELY))
        under_way = in_flight(progress, unstarted)
        return next_chunk(self._queue, under_way, self.job.max_in_flight, self.job.chunk)

    async def _confirm(self, io: ReleaseIO, chunk: Sequence[str]) -> None:
        targets = tuple(checked_chunk(chunk, self._may_start))
        self._has_asked = True
        self._ledger.drop_left()  # no stop has come of an earlier decision
        self.job.left = None
        # Should the answer be lost, they may have started.
        self._queue = self._queue[len(targets) :]
        results = await io.confirm(self.job.batch_task_id, targets)
        self._attempts.update(targets)
        accepted = [row.target for row in results.succeeded]
        self._ledger.add(accepted)
        self._known.update(accepted)
        self._turned_down += [device for device in targets if device not in self._ledger]
        if accepted:
            self._pauses.forget()
        if self.job.late and self.job.max_in_flight is not None:
            self._ledger.note_lately(len(accepted), self._clock(), LATELY)
        if not await self._shared.write(io):
            self._log.warning(
                "Who was confirmed could not be written down; should this process die now, those "
                "that still wait at the platform are asked for once more, which changes nothing."
            )
        self._log.info(
            "Wave %d: %d device(s) confirmed, %d to go; %s.",
            self.job.wave,
            self._confirmed,
            len(self._queue),
            self._watch.progress,
        )

    async def _tell_left(self, io: ReleaseIO, left: Sequence[str]) -> None:
        """Say it to a person where some could not be let start."""
        if not left:
            return
        names = f"{', '.join(left[:10])}{', ...' if len(left) > 10 else ''}"
        await self._watch.tell(
            io,
            "unconfirmed",
            f"{len(left)} device(s) of wave {self.job.wave} or those before it could not be "
            f"confirmed, or wait for their device, after {PATIENCE:.0f} s of asking: "
            f"{names}. The release goes on without them; the next wave asks again.",
        )

    def _closed(self) -> str:
        window, now = self.job.window, datetime.fromtimestamp(self._clock(), timezone.utc)
        if window is None or window.is_open(now):
            return ""
        return (
            f"the maintenance window {window} is closed; it opens at {window.opens(now):%F %R %Z}"
        )

    async def _wait(self, io: ReleaseIO, why: str) -> None:
        now, job = self._clock(), self.job
        if now >= job.deadline and not self._watch.is_stopping:
            raise BatchTaskTimeoutError(
                f"Wave {job.wave} could not be confirmed in {job.timeout:.0f} s: {why}. Clear "
                "this task to go on."
            )
        kind = why.split(":")[0]
        if kind != self._said[0] or now - self._said[1] >= _SAY_EVERY:
            self._said = (kind, now)
            self._log.info("Wave %d waits: %s.", job.wave, why)
        pause = self._pauses.left(now) or float("inf")
        await io.sleep(min(self._watch.seconds_to_next_look(job.deadline, now), pause))

    def _result(self, outcome: Outcome | None, left: Sequence[str]) -> dict[str, Any]:
        watch, requested = self._watch, self.job.members
        refused = sorted(device for device in self._attempts if device not in self._ledger)
        # By whom, and in which try, is nothing to people.
        started = requested - len({*left, *refused})
        what = f"{started} of {requested} device(s) in the waves so far were let start"
        if not self._members and self.job.left is None:
            what = f"at most {requested} device(s) were let start, and who can't be read now"
        if outcome is not None:
            said = f"Wave {self.job.wave}, {what}: {outcome.summary}"
        else:
            could_not = f", {len(left)} could NOT be confirmed" if left else ""
            said = f"Wave {self.job.wave}: {what}{could_not}; {watch.progress}."
        summary = f"{said} {in_words(self.job.outside)}".strip()
        result = {
            "wave": self.job.wave,
            "verdict": CONFIRMED if outcome is None else outcome.verdict,
            "requested": requested,
            "confirmed": self._confirmed,
            "refused": len(refused),
            "unconfirmed": len(left),
            "let_start": self._exposed,
            "started_elsewhere": self.job.outside,
            "confirmed_at": self._clock(),
            "progress": watch.progress_json,
            "summary": summary,
            "left": pack(self._order, frozenset(left)) if left else None,
        }
        if outcome is not None:
            result |= {"rule": outcome.rule, "stop": outcome.to_result()["stop"]}
        return result
