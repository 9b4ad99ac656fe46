"""Watching one wave until it may be followed by the next one, or must not. No Airflow, no I/O."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from iotda_provider.guarding.outcome import COMPLETED
from iotda_provider.guarding.steps import Log
from iotda_provider.guards import EnoughSuccess, rules_from_json, rules_to_json
from iotda_provider.models import TaskProgress
from iotda_provider.release.gating import GateReading, read_gate
from iotda_provider.release.others import in_words, look_for_others
from iotda_provider.release.steps import (
    GO,
    STOP,
    WAIT,
    Ask,
    EvidenceFailedError,
    Procedure,
    Sleep,
)
from iotda_provider.release.watching import WaveWatch

PASSED, UNPROVEN, REJECTED = "passed", "unproven", "rejected"
_WORDS = {
    PASSED: "has passed",
    UNPROVEN: "is unproven",
    REJECTED: "is rejected",
    "stopped_elsewhere": "was stopped elsewhere",
    "lost": "is lost",
    "breached": "has breached a rule",
}


@dataclass
class WatchJob:
    """Which wave is watched, and what it must show; a trigger's argument.

    :param wave: which wave, from 1
    :param members: devices in this wave and those before it
    :param is_last: whether no other wave follows
    :param bake: before when it can't pass, in seconds since 1970
    :param end: when it is unproven
    :param already_current: devices of these that ran the version before
    :param asks: whether there is external evidence to ask for
    :param ask_every: seconds between two questions for it, at least
    :param ask_after: before when it is not asked for again
    :param evidence_told: whether a person was told that it can't be asked for
    :param let_start: the most devices that may have started by the waves so far; 0: ``members``
    :param unconfirmed: devices of these that could not be let start
    :param outside: devices that somebody else has let start, as far as a person was told
    """

    batch_task_id: str
    wave: int
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
    let_start: int = 0
    unconfirmed: int = 0
    outside: int = 0

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**plain, "gate": rules_to_json([self.gate])}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> WatchJob:
        """The inverse of :meth:`to_json`."""
        (gate,) = rules_from_json(data["gate"])
        return cls(**{**data, "gate": gate})


class WaveWatching:
    """The watch over one confirmed wave; it can be begun anew at any time.

    :param job: which wave, and what it must show
    :param watch: the release's guard
    :param log: where its lines go
    :param clock: the time in seconds since 1970
    """

    def __init__(
        self,
        job: WatchJob,
        watch: WaveWatch,
        log: Log,
        *,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.job = job
        self._watch = watch
        self._log = log
        self._clock = clock or time.time
        self._said = ""
        self._why_wait = "the external evidence says wait"

    def run(self) -> Procedure[dict[str, Any]]:
        """The operator's result."""
        job, watch = self.job, self._watch
        while True:
            outcome = yield from watch.poll()
            known = max(job.members, job.let_start)
            job.outside = yield from look_for_others(watch, known, job.outside)
            if outcome is not None and outcome.verdict != COMPLETED:
                return {
                    **self._result(outcome.verdict, None, outcome.summary),
                    "rule": outcome.rule,
                    "stop": outcome.to_result()["stop"],
                }
            ended, now = outcome is not None, self._clock()
            why = "" if ended else watch.why_not
            reading = read_gate(
                job.gate, watch.progress, members=job.members, already_current=job.already_current
            )
            over = ended or now >= job.end
            if not why and now >= job.bake:
                if reading.passes and (over or not job.is_last):
                    word = yield from self._ask(reading, now)
                    if word == GO:
                        return self._result(PASSED, reading)
                    if word == STOP:
                        return self._result(REJECTED, reading, "The external evidence says stop.")
                    why = self._why_wait
                elif ended or (reading.settled and self._has_come_to_rest(watch.progress)):
                    return self._result(UNPROVEN, reading)
            # A stop that is under way is seen through, or a person is asked about a broken release.
            if now >= job.end and not watch.is_stopping:
                return self._result(UNPROVEN, reading, f"Its time is over; {why}" if why else "")
            line = f"{reading.sentence} {why}".strip()
            if line != self._said:
                self._said = line
                self._log.info("Wave %d: %s", job.wave, line)
            yield Sleep(watch.until(job.end, now))

    def _ask(self, reading: GateReading, now: float) -> Procedure[str]:
        """The external evidence's word; between two questions it is that of the last one: wait."""
        job = self.job
        if not job.asks:
            return GO
        if now < min(job.ask_after, job.end):
            return WAIT
        facts = {
            "batch_task_id": job.batch_task_id,
            "wave": job.wave,
            "progress": self._watch.progress.to_dict(),
            "gate": reading.to_json(),
        }
        word = WAIT
        try:
            word = yield Ask(facts)
            self._why_wait = "the external evidence says wait"
        except EvidenceFailedError as error:
            # Whatever is wrong with it lets nobody go on, and must not end the guard.
            self._why_wait = f"the external evidence can't be asked: {error}"
            if not job.evidence_told:
                job.evidence_told = True
                yield self._watch.alert(
                    "evidence_failed",
                    f"Wave {job.wave} does not go on, as {self._why_wait}. It is asked again every "
                    f"{job.ask_every:.0f} s until the wave's time is over; the guard goes on.",
                )
        job.ask_after = self._clock() + job.ask_every
        return word

    def _has_come_to_rest(self, progress: TaskProgress) -> bool:
        """Whether every device that was let start has started, and none is under way any more."""
        gone = progress.started + progress.stopped + progress.removed
        under_way = progress.processing + progress.fail_wait_retry
        return not under_way and gone >= self.job.members - self.job.unconfirmed

    def _result(self, verdict: str, reading: GateReading | None, why: str = "") -> dict[str, Any]:
        parts = (reading.sentence if reading else "", why, in_words(self.job.outside))
        said = " ".join(part for part in parts if part)
        return {
            "wave": self.job.wave,
            "verdict": verdict,
            "gate": reading.to_json() if reading else None,
            "progress": self._watch.progress.to_dict(),
            "started_elsewhere": self.job.outside,
            "summary": f"Wave {self.job.wave} {_WORDS.get(verdict, verdict)}. {said}",
        }
