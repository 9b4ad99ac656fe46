"""Watching one wave until it may be followed by the next one, or must not. No Airflow, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from iotda_provider.exceptions import BatchTaskTimeoutError, IoTDAError
from iotda_provider.guards import EnoughSuccess, rules_from_json, rules_to_json
from iotda_provider.models import TaskProgress
from iotda_provider.models.json_text import checked_fields
from iotda_provider.models.log import Log
from iotda_provider.release.gate import GateReading, read_gate_by_bounds
from iotda_provider.release.ledger import SharedLedger
from iotda_provider.release.release_guard import ReleaseGuard, in_words, look_for_others
from iotda_provider.release.release_io import GO, STOP, WAIT, EvidenceFailedError, ReleaseIO
from iotda_provider.rollout_guard.outcome import COMPLETED

PASSED, UNPROVEN, REJECTED = "passed", "unproven", "rejected"
#: Looks between two times that it is read who waits.
_LOOKS_BETWEEN = 6
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
        """The inverse of :meth:`to_json`.

        :raises ValueError: it is not what that returns
        """
        values = checked_fields(cls, data, "job", read_by_caller=("gate",))
        rules = rules_from_json(values["gate"])
        if len(rules) != 1 or not isinstance(rules[0], EnoughSuccess):
            raise ValueError("job: gate must be one EnoughSuccess")
        return cls(**{**values, "gate": rules[0]})


class WaveDecision:
    """The watch over one confirmed wave; it can be begun anew at any time.

    :param job: which wave, and what it must show
    :param watch: the release's guard
    :param log: where its lines go
    :param clock: the time in seconds since 1970
    """

    def __init__(
        self,
        job: WatchJob,
        watch: ReleaseGuard,
        log: Log,
        *,
        clock: Callable[[], float],
    ) -> None:
        self.job = job
        self._watch = watch
        self._log = log
        self._clock = clock
        self._said = ""
        self._why_wait = "the external evidence says wait"
        self._shared: SharedLedger | None = None
        self._members: frozenset[str] = frozenset()
        self._waiting = 0
        self._read_again = 0.0

    async def run(self, io: ReleaseIO) -> dict[str, Any]:
        """The operator's result."""
        job, watch = self.job, self._watch
        while True:
            outcome = await watch.poll(io)
            await self._look_for_others(io, self._exposed)
            if outcome is not None and outcome.verdict != COMPLETED:
                return {
                    **self._result(outcome.verdict, None, outcome.summary),
                    "rule": outcome.rule,
                    "stop": outcome.to_result()["stop"],
                }
            ended, now = outcome is not None, self._clock()
            why = "" if ended else watch.blocked_because
            reading = self._reading(self._waiting)
            over = ended or now >= job.end
            if not why and now >= job.bake:
                if self._reading(0).passes and (over or not job.is_last):
                    word = await self._may_pass(io, now)
                    reading = self._reading(self._waiting)
                    if word == GO:
                        return self._result(PASSED, reading)
                    if word == STOP:
                        return self._result(REJECTED, reading, "The external evidence says stop.")
                    why = self._why_wait
                elif ended or (reading.settled and self._has_come_to_rest()):
                    return self._result(UNPROVEN, reading)
            # A stop that is under way is seen through, or a person is asked about a broken release.
            if now >= job.end and not watch.is_stopping:
                why = f"Its time is over; {why.rstrip('.')}." if why else ""
                return self._result(UNPROVEN, reading, why)
            line = f"{reading.sentence} {why}".strip()
            if line != self._said:
                self._said = line
                self._log.info("Wave %d: %s", job.wave, line)
            await io.sleep(watch.seconds_to_next_look(job.end, now))

    @property
    def _exposed(self) -> int:
        """The most devices that may have started by the waves so far."""
        return max(self.job.members, self.job.let_start)

    def _reading(self, waiting: int) -> GateReading:
        """What the gate says.

        :param waiting: devices of the waves so far that are known to wait still
        """
        return read_gate_by_bounds(
            self.job.gate,
            self._watch.bounds,
            members=self._exposed,
            already_current=self.job.already_current,
            waiting=waiting,
        )

    async def _may_pass(self, io: ReleaseIO, now: float) -> str:
        """Whether a wave passes whose counts say so; otherwise there is a reason to wait."""
        if self.job.asks and now < min(self.job.ask_after, self.job.end):
            return WAIT
        trouble = await self._read_waiting(io, now)
        if trouble:
            self._why_wait = trouble
            return WAIT
        reading = self._reading(self._waiting)
        if not reading.passes:
            self._why_wait = f"{self._waiting} device(s) that were let start have not started yet"
            return WAIT
        return await self._ask(io, reading)

    async def _read_waiting(self, io: ReleaseIO, now: float) -> str:
        """See who of the waves so far waits still; why that can't be read, or nothing.

        Others may have started instead, which the counts do not show.
        """
        progress = self._watch.progress
        if not progress.waiting:
            self._waiting = 0
            return ""
        if now < min(self._read_again, self.job.end):
            return ""
        try:
            shared = await self._open(io)
            if not await shared.read(io):
                return "who was confirmed can't be read"
            rows: set[str] = await io.read_waiting(self.job.batch_task_id)
        except IoTDAError as error:
            return f"who waits can't be read: {error}"
        self._read_again = now + _LOOKS_BETWEEN * self._watch.interval
        mine = self._members | shared.ledger.accepted
        own = len(mine & rows)
        # Those that the list lacks have started since the look, or moved between its pages.
        self._waiting = own + max(0, progress.waiting - len(rows))
        await self._look_for_others(io, len(mine) - own)
        return ""

    async def _look_for_others(self, io: ReleaseIO, known: int) -> None:
        """See whether others have started, and write it down; it outlives this task.

        :param known: the most devices that have started by the waves so far
        """
        job, before = self.job, self.job.outside
        job.outside = await look_for_others(io, self._watch, known, before)
        if job.outside <= before:
            return
        try:
            shared = await self._open(io)
        except IoTDAError as error:
            self._log.warning("That others have started can't be written down: %s", error)
            return
        shared.ledger.outside = max(job.outside, shared.ledger.outside)
        await shared.write(io)

    async def _open(self, io: ReleaseIO) -> SharedLedger:
        """What is written down of confirmations.

        :raises IoTDAError: who is in which wave can't be read
        """
        if self._shared is None:
            waves: list[list[str]] = await io.read_waves()
            everybody = (device for wave in waves for device in wave)
            self._shared = SharedLedger(everybody, self._log)
            self._members = frozenset(d for wave in waves[: self.job.wave] for d in wave)
        return self._shared

    async def _ask(self, io: ReleaseIO, reading: GateReading) -> str:
        """The external evidence's word."""
        job = self.job
        if not job.asks:
            return GO
        facts = {
            "batch_task_id": job.batch_task_id,
            "wave": job.wave,
            "progress": self._watch.progress_json,
            "gate": reading.to_json(),
        }
        word = WAIT
        try:
            word = await io.ask(facts)
            self._why_wait = "the external evidence says wait"
        except EvidenceFailedError as error:
            # Whatever is wrong with it lets nobody go on, and must not end the guard.
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
        """Whether every device that was let start has started, and none is under way any more."""
        return all(self._is_at_rest(progress) for progress in self._watch.bounds)

    def _is_at_rest(self, progress: TaskProgress) -> bool:
        gone = progress.started + progress.stopped + progress.removed
        under_way = progress.processing + progress.fail_wait_retry
        return not under_way and gone >= self._exposed - self.job.unconfirmed

    def _result(self, verdict: str, reading: GateReading | None, why: str = "") -> dict[str, Any]:
        parts = (reading.sentence if reading else "", why, in_words(self.job.outside))
        said = " ".join(part for part in parts if part)
        return {
            "wave": self.job.wave,
            "verdict": verdict,
            "gate": reading.to_json() if reading else None,
            "progress": self._watch.progress_json,
            "started_elsewhere": self.job.outside,
            "summary": f"Wave {self.job.wave} {_WORDS.get(verdict, verdict)}. {said}",
        }


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
        watch: ReleaseGuard,
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
            await io.sleep(watch.seconds_to_next_look(deadline, now))

    def _result(self, verdict: str, summary: str) -> dict[str, Any]:
        return {
            "wave": self._wave,
            "verdict": verdict,
            "progress": self._watch.progress_json,
            "summary": summary,
        }
