"""What is common to the steps of a wave that may have to wait: why they wait, and who is told."""

from __future__ import annotations

from datetime import datetime, timezone

from iotda_provider.exceptions import BatchTaskTimeoutError, IoTDAError
from iotda_provider.release.confirm_job import ConfirmJob
from iotda_provider.release.create_job import CreateJob
from iotda_provider.release.release_guard import ReleaseGuard
from iotda_provider.release.release_io import ReleaseIO
from iotda_provider.waiting.outage import Outage, may_pass

#: Seconds between two log lines about the same reason to wait.
_SAY_EVERY = 300.0


class WaveStep:
    """A step of a wave that waits for its window, its guard and the platform, and says why.

    :param job: which wave, and when devices may be confirmed
    :param watch: the release's guard
    """

    def __init__(self, job: CreateJob | ConfirmJob, watch: ReleaseGuard) -> None:
        self.job = job
        self._name = f"Wave {job.wave}"
        self._watch = watch
        self._log = watch.log
        self._clock = watch.clock
        self._said = ("", 0.0)
        self._refusals = Outage(watch.plan.max_outage, watch.plan.poll_interval)

    def closed(self) -> str:
        """Why no device may be confirmed at this time; empty: they may."""
        window, now = self.job.window, datetime.fromtimestamp(self._clock(), timezone.utc)
        if window is None or window.is_open(now):
            return ""
        return (
            f"the maintenance window {window} is closed; it opens at {window.opens(now):%F %R %Z}"
        )

    def seconds_to_next_look(self, why: str, done: str) -> float:
        """The seconds until the next look.

        :param why: why the wave waits
        :param done: what could not be done with the wave, in one word
        :raises BatchTaskTimeoutError: the wave has waited for as long as it may
        """
        job, now = self.job, self._clock()
        if now >= job.deadline and not self._watch.is_stopping:
            raise BatchTaskTimeoutError(
                f"Wave {job.wave} could not be {done} in {job.timeout:.0f} s: {why}. Clear "
                "this task to go on."
            )
        return self._watch.seconds_to_next_look(job.deadline, now)

    def say(self, why: str) -> None:
        """Log why it waits, and again every five minutes."""
        now, kind = self._clock(), why.split(":")[0]
        if kind != self._said[0] or now - self._said[1] >= _SAY_EVERY:
            self._said = (kind, now)
            self._log.info("%s waits: %s.", self._name, why)

    async def refused(
        self, io: ReleaseIO, what: str, error: IoTDAError, *, kind: str = "confirm_failed"
    ) -> str:
        """Note that a call was refused, or has no answer; the reason to wait.

        A person is told if the trouble does not pass by itself, or if it lasts.

        :param what: what does not work, in words
        :param kind: of the alert
        """
        _, tell = self._refusals.note_failure(self._clock(), permanent=not may_pass(error))
        if tell:
            await self._watch.tell(
                io,
                kind,
                f"{self._name} can't go on, and keeps trying while the guard watches: "
                f"{what}: {error}",
            )
        return f"{what}: {error}"

    def answered(self) -> None:
        self._refusals.note_success(self._clock())
