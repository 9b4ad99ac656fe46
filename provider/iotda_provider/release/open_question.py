"""The guard's watch while a person is asked whether a release may go on. No Airflow, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from iotda_provider.models.json_text import PlainJson
from iotda_provider.release.gate import STOP
from iotda_provider.release.release_guard import ReleaseGuard
from iotda_provider.release.release_io import ReleaseIO
from iotda_provider.rollout_guard.outcome import COMPLETED
from iotda_provider.task_io import parameters

#: The verdict where somebody has answered, or nobody in time.
ANSWERED = "answered"
THE_GUARD = "the guard"


class QuestionIO(ReleaseIO, Protocol):
    """What the watch awaits in addition, in the triggerer; neither method ever fails."""

    async def read_answer(self, ti_id: str) -> Mapping[str, Any] | None:
        """The answer, ``{"option", "by"}``; None: there is none yet, or it can't be read now."""

    async def close_question(self, ti_id: str, option: str, because: str) -> None:
        """Answer the question in the person's place, unless one has."""


@dataclass
class QuestionJob(PlainJson):
    """A question that is open; a trigger's argument.

    :param wave: after which wave it is asked, from 1
    :param batch_task_ids: the batch tasks so far
    :param ti_id: the task instance that asks
    :param until: when silence means a stop, in seconds since 1970; None: never
    """

    wave: int
    batch_task_ids: tuple[str, ...]
    ti_id: str
    until: float | None = None

    readers = {"batch_task_ids": partial(parameters.batch_task_ids, empty=True)}


class OpenQuestion:
    """The watch over all devices confirmed so far, until the question is answered.

    A breach is stopped as in a wave, and closes the question. If a breach and an answer come at the
    same moment, the breach counts. While the guard is blind, or holds, the question stays open, and
    an answer is taken: the next step waits until the guard sees.

    :param job: the question
    :param watch: the release's guard
    """

    job_class = QuestionJob

    def __init__(self, job: QuestionJob, watch: ReleaseGuard) -> None:
        self.job = job
        self._watch = watch
        self._log = watch.log
        self._clock = watch.clock
        self._blocked = ""

    async def run(self, io: QuestionIO) -> dict[str, Any]:
        """The answer, or what the guard has seen.

        ``{"wave", "verdict": "answered" | "breached" | "stopped_elsewhere" | "lost", "option",
        "by", "rule", "stop", "progress", "summary"}``
        """
        job, watch = self.job, self._watch
        while True:
            outcome = await watch.poll(io)
            if outcome is not None and outcome.verdict != COMPLETED:
                closed = f"So the guard has closed the question after wave {job.wave}."
                why = f"{outcome.summary} {closed}"
                await io.close_question(job.ti_id, STOP, why)
                return self._result(outcome.verdict, STOP, THE_GUARD, why, **outcome.cause)
            now = self._clock()
            # This guard may have begun a stop before its triggerer was restarted.
            if not watch.is_stopping and not (watch.awaits_memory and watch.needs_memory):
                answer = await io.read_answer(job.ti_id)
                if answer is not None:
                    said = f"The answer after wave {job.wave} is {answer['option']!r}."
                    return self._result(ANSWERED, answer["option"], answer["by"], said)
                if job.until is not None and now >= job.until:
                    said = f"Nobody has answered in time after wave {job.wave}: {STOP!r}."
                    await io.close_question(job.ti_id, STOP, said)
                    return self._result(ANSWERED, STOP, None, said)
            why = watch.blocked_because
            if why.split(":")[0] != self._blocked:
                self._blocked = why.split(":")[0]
                self._log.info("The question is open; %s.", why or "the guard sees")
            await io.sleep(self._seconds(now))

    def _seconds(self, now: float) -> float:
        if self.job.until is None:
            return self._watch.interval
        return self._watch.seconds_to_next_look(self.job.until, now)

    def _result(
        self, verdict: str, option: str | None, by: str | None, summary: str, **more: Any
    ) -> dict[str, Any]:
        return {
            "wave": self.job.wave,
            "verdict": verdict,
            "option": option,
            "by": by,
            "rule": None,
            "stop": None,
            "progress": self._watch.progress_json,
            "summary": summary,
            **more,
        }
