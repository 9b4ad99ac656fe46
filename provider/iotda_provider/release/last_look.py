"""One more look of the guard, where not the numbers end a release. No Airflow, no I/O."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from iotda_provider.exceptions import BatchTaskTimeoutError
from iotda_provider.models.log import Log
from iotda_provider.release.release_guard import WaveWatch
from iotda_provider.release.release_io import ReleaseIO
from iotda_provider.release.watch_wave import PASSED
from iotda_provider.rollout_guard.outcome import COMPLETED


class LastLook:
    """The look after a person's yes to the last wave, which no wave's guard follows.

    The person may have taken days, and the devices may have failed meanwhile, or somebody may have
    stopped the batch task. It waits until the guard sees; a breach is stopped, and seen through.

    :param wave: the last wave, from 1
    :param deadline: when it gives up, in seconds since 1970
    :param watch: the release's guard
    :param log: where its lines go
    :param clock: the time in seconds since 1970
    """

    def __init__(
        self,
        wave: int,
        watch: WaveWatch,
        log: Log,
        *,
        deadline: float,
        clock: Callable[[], float],
    ) -> None:
        self._wave = wave
        self._deadline = deadline
        self._watch = watch
        self._log = log
        self._clock = clock

    async def run(self, io: ReleaseIO) -> dict[str, Any]:
        """``{"wave", "verdict", "progress", "summary"}``; ``passed`` where nothing is against it.

        :raises BatchTaskTimeoutError: the guard was blind for too long
        """
        watch, deadline = self._watch, self._deadline
        while True:
            outcome = await watch.poll(io)
            if outcome is not None and outcome.verdict != COMPLETED:
                return self._result(outcome.verdict, outcome.summary)
            if outcome is not None or (watch.sees and not watch.is_stopping):
                return self._result(PASSED, f"The last look: {watch.progress}.")
            now = self._clock()
            if now >= deadline and not watch.is_stopping:
                raise BatchTaskTimeoutError(
                    f"Nothing can be announced: {watch.blocked_because}. Clear this task to look "
                    "again."
                )
            self._log.info("The last look has to wait: %s.", watch.blocked_because)
            await io.sleep(watch.until(deadline, now))

    def _result(self, verdict: str, summary: str) -> dict[str, Any]:
        return {
            "wave": self._wave,
            "verdict": verdict,
            "progress": self._watch.progress.to_dict(),
            "summary": summary,
        }
