"""What is common to the steps of a wave that may have to wait: why they wait, and who is told."""

from __future__ import annotations

from datetime import datetime, timezone

from iotda_provider.exceptions import IoTDAError
from iotda_provider.release.maintenance_window import MaintenanceWindow
from iotda_provider.release.release_guard import ReleaseGuard
from iotda_provider.release.release_io import ReleaseIO
from iotda_provider.waiting.outage import Outage, is_transient

#: Seconds between two log lines about the same reason to wait.
_SAY_EVERY = 300.0


class WaveStep:
    """A step of a wave that waits for its window, its guard and the platform, and says why.

    :param name: how its lines begin
    :param watch: the release's guard
    :param window: when devices may be confirmed; None: at any time
    """

    def __init__(self, name: str, watch: ReleaseGuard, window: MaintenanceWindow | None) -> None:
        self._name = name
        self._watch = watch
        self._log = watch.log
        self._clock = watch.clock
        self._window = window
        self._said = ("", 0.0)
        self._refusals = Outage(watch.plan.max_outage, watch.plan.poll_interval)

    def closed(self) -> str:
        """Why no device may be confirmed at this time; empty: they may."""
        window, now = self._window, datetime.fromtimestamp(self._clock(), timezone.utc)
        if window is None or window.is_open(now):
            return ""
        return (
            f"the maintenance window {window} is closed; it opens at {window.opens(now):%F %R %Z}"
        )

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
        _, tell = self._refusals.note_failure(self._clock(), permanent=not is_transient(error))
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
