"""Watching one wave until it may be followed by the next one, or must not. No Airflow, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from iotda_provider.exceptions import BatchTaskTimeoutError
from iotda_provider.guards import EnoughSuccess, rules_from_json, rules_to_json
from iotda_provider.models import TaskProgress
from iotda_provider.models.json_text import PlainJson
from iotda_provider.release.gate import GateReading, read_gate_in_all_cases
from iotda_provider.release.release_guard import ReleaseGuard, in_words
from iotda_provider.release.release_io import GO, STOP, WAIT, EvidenceFailedError, ReleaseIO
from iotda_provider.release.trial import WaveTrial
from iotda_provider.release.trial_job import TrialJob
from iotda_provider.rollout_guard.outcome import COMPLETED
from iotda_provider.task_io import parameters
from iotda_provider.trials import DeviceTrial

PASSED, UNPROVEN, REJECTED = "passed", "unproven", "rejected"
_WORDS = {
    PASSED: "has passed",
    UNPROVEN: "is unproven",
    REJECTED: "is rejected",
    "stopped_elsewhere": "was stopped elsewhere",
    "lost": "is lost",
    "breached": "has breached a rule",
}


def _read_gate(data: Any) -> EnoughSuccess:
    rules = rules_from_json(data)
    if len(rules) != 1 or not isinstance(rules[0], EnoughSuccess):
        raise ValueError("job: gate must be one EnoughSuccess")
    return rules[0]


@dataclass
class WatchJob(PlainJson):
    """Which wave is watched, and what it must show; a trigger's argument.

    :param wave: which wave, from 1
    :param batch_task_ids: the batch tasks of this wave and those before it
    :param members: devices in these
    :param is_last: whether no other wave follows
    :param bake: the earliest time at which it can pass, in seconds since 1970
    :param end: when it becomes unproven, in seconds since 1970
    :param already_current: devices of these that ran the new version before the release began
    :param asks: whether there is external evidence to ask for
    :param ask_every: the fewest seconds between two questions for it
    :param ask_after: the earliest time of the next question
    :param evidence_told: whether a person was told that the question fails
    :param unconfirmed: devices of these that could not be confirmed
    :param outside: devices that somebody else has started
    :param trial: compares its devices with those of later waves; None: there is none
    :param rehearse_stop: whether the guard still has to find out if the release could be stopped
    """

    wave: int
    batch_task_ids: tuple[str, ...]
    members: int
    is_last: bool
    gate: EnoughSuccess
    bake: float
    end: float
    already_current: int = 0
    asks: bool = False
    ask_every: float = 60.0
    ask_after: float = 0.0
    evidence_told: bool = False
    unconfirmed: int = 0
    outside: int = 0
    trial: TrialJob | None = None
    rehearse_stop: bool = False

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {**super().to_json(), "gate": rules_to_json([self.gate])}

    readers = {
        "gate": _read_gate,
        "batch_task_ids": parameters.batch_task_ids,
        "trial": lambda trial: None if trial is None else TrialJob.from_json(trial),
    }

    @property
    def deadline(self) -> float:
        """When the wave's time is over, in seconds since 1970."""
        return self.end


class WaveDecision:
    """The watch over one confirmed wave; it can be begun anew at any time.

    :param job: which wave, and what it must show
    :param watch: the release's guard
    """

    job_class = WatchJob

    def __init__(self, job: WatchJob, watch: ReleaseGuard) -> None:
        self.job = job
        self._watch = watch
        self._log = watch.log
        self._clock = watch.clock
        self._said = ""
        self._why_wait = "the external evidence says wait"
        self._trial = (
            None if job.trial is None else WaveTrial(job.wave, job.trial, watch.log, watch.clock)
        )
        # If no device was confirmed, the next wave rehearses before its first confirmation.
        watch.rehearses = job.rehearse_stop and job.members > job.unconfirmed
        if job.trial is not None:
            watch.trial = job.trial.answer

    async def run(self, io: ReleaseIO) -> dict[str, Any]:
        """The operator's result."""
        job, watch = self.job, self._watch
        while True:
            outcome = await watch.poll(io)
            job.rehearse_stop = job.rehearse_stop and not watch.has_rehearsed
            if outcome is not None and outcome.verdict != COMPLETED:
                return {**self._result(outcome.verdict, None, outcome.summary), **outcome.cause}
            if await self._is_worse(io):
                return {**self._result(REJECTED, self._reading()), "rule": DeviceTrial.__name__}
            ended, now = outcome is not None, self._clock()
            why = watch.blocked_because
            reading = self._reading()
            over = ended or now >= job.end
            if not why and now >= job.bake:
                if reading.passes and (over or not job.is_last):
                    if (why := self._unproven_because) and self._can_never_be_proven:
                        return self._result(UNPROVEN, reading, why)
                    word = WAIT if why else await self._ask(io, reading)
                    if word == GO:
                        return self._result(PASSED, reading)
                    if word == STOP:
                        return self._result(REJECTED, reading, "The external evidence says stop.")
                    why = why or self._why_wait
                elif ended or (reading.settled and self._has_come_to_rest()):
                    return self._result(UNPROVEN, reading)
            elif ended and now >= job.bake:  # what blocks it will not pass any more
                return self._result(UNPROVEN, reading, f"{why.rstrip('.')}.")
            # Complete a stop first, or a person would be asked about a broken release.
            if now >= job.end and not watch.is_stopping:
                why = f"Its time is over; {why.rstrip('.')}." if why else ""
                return self._result(UNPROVEN, reading, why)
            line = f"{reading.sentence} {why}".strip()
            if line != self._said:
                self._said = line
                self._log.info("Wave %d: %s", job.wave, line)
            if self._trial is None or not self._trial.is_reading:
                await io.sleep(watch.seconds_to_next_look(job.end, now))

    async def _is_worse(self, io: ReleaseIO) -> bool:
        """Let the trial look if it is time; whether it says that the devices are worse off."""
        job, trial = self.job, self._trial
        if trial is None or self._watch.is_stopping or not self._watch.sees:
            return False
        try:
            ids, progress = job.batch_task_ids, self._watch.progress
            answer = await trial.go_on(io, ids, progress, self._watch.interval)
        except EvidenceFailedError:
            if not trial.job.told:
                trial.job.told = True
                said = f"The trial of wave {job.wave} has decided nothing, as {trial.job.trouble}."
                await self._watch.tell(io, "trial_failed", said)
            return False
        if answer is not None:
            self._watch.trial = answer.to_json()
        return trial.is_worse

    @property
    def _unproven_because(self) -> str:
        """Why the trial does not let the wave pass; empty: it does, or is not required."""
        if self._trial is None:
            return ""
        if self._trial.is_reading:
            return "the trial is looking"
        return self._trial.blocks

    @property
    def _can_never_be_proven(self) -> bool:
        trial = self._trial
        return trial is not None and not trial.is_reading and trial.can_never_pass

    def _reading(self) -> GateReading:
        """What the gate says."""
        return read_gate_in_all_cases(
            self.job.gate,
            self._watch.extreme_cases,
            members=self.job.members,
            already_current=self.job.already_current,
        )

    async def _ask(self, io: ReleaseIO, reading: GateReading) -> str:
        """The external evidence's word."""
        job = self.job
        if not job.asks:
            return GO
        if self._clock() < min(job.ask_after, job.end):
            return WAIT
        facts = {
            "batch_task_ids": list(job.batch_task_ids),
            "wave": job.wave,
            "progress": self._watch.progress_json,
            "gate": reading.to_json(),
        }
        word = WAIT
        try:
            word = await io.ask(facts)
            self._why_wait = "the external evidence says wait"
        except EvidenceFailedError as error:
            # No trouble with it may let the wave pass, or end the guard.
            self._why_wait = f"the external evidence can't be asked: {error}"
            if not job.evidence_told:
                job.evidence_told = True
                await self._watch.tell(
                    io,
                    "evidence_failed",
                    f"Wave {job.wave} does not go on, as {self._why_wait}. It is asked again every "
                    f"{job.ask_every:.0f} s until the wave's time is over; the guard goes on.",
                )
        job.ask_after = self._clock() + job.ask_every
        return word

    def _has_come_to_rest(self) -> bool:
        """Whether every confirmed device has started, and none is under way any more."""
        return all(self._is_at_rest(progress) for progress in self._watch.extreme_cases)

    def _is_at_rest(self, progress: TaskProgress) -> bool:
        gone = progress.started + progress.stopped + progress.removed
        under_way = progress.processing + progress.fail_wait_retry
        return not under_way and gone >= self.job.members - self.job.unconfirmed

    def _result(self, verdict: str, reading: GateReading | None, why: str = "") -> dict[str, Any]:
        tried = "" if self._trial is None or self._trial.sentence in why else self._trial.sentence
        parts = (reading.sentence if reading else "", tried, why, in_words(self.job.outside))
        said = " ".join(part for part in parts if part)
        return {
            "wave": self.job.wave,
            "verdict": verdict,
            "is_last": self.job.is_last,
            "batch_task_ids": list(self.job.batch_task_ids),
            "gate": reading.to_json() if reading else None,
            "trial": None if self._trial is None else self._trial.job.answer,
            "progress": self._watch.progress_json,
            "started_elsewhere": self.job.outside,
            **({"rehearse_stop": True} if self.job.rehearse_stop else {}),
            "summary": f"Wave {self.job.wave} {_WORDS.get(verdict, verdict)}. {said}",
        }


class LastLook:
    """The look after a person has accepted the last wave: no other wave's guard looks then.

    The person may have taken days, and the devices may have failed meanwhile, or somebody may have
    stopped the batch task. It waits until the guard sees; a breach is stopped, and the stop is
    completed.

    :param wave: the last wave, from 1
    :param deadline: when it gives up, in seconds since 1970
    :param watch: the release's guard
    """

    def __init__(self, wave: int, watch: ReleaseGuard, *, deadline: float) -> None:
        self._wave = wave
        self._deadline = deadline
        self._watch = watch
        self._log = watch.log
        self._clock = watch.clock

    async def run(self, io: ReleaseIO) -> dict[str, Any]:
        """``{"wave", "verdict", "progress", "summary"}``; ``passed``: nothing is against it.

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
            await io.sleep(watch.seconds_to_next_look(deadline, now))

    def _result(self, verdict: str, summary: str) -> dict[str, Any]:
        return {
            "wave": self._wave,
            "verdict": verdict,
            "progress": self._watch.progress_json,
            "summary": summary,
        }
