"""The operator that watches one wave until it may be followed by the next one, or must not."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.guard_worker import load_function
from iotda_provider.guarding.outcome import COMPLETED
from iotda_provider.operators.wave import (
    CONFIRMED,
    PASSED,
    REJECTED,
    UNPROVEN,
    Guarded,
    WaveOperator,
    is_template,
    read_number,
)
from iotda_provider.parameters import positive
from iotda_provider.release.gating import GateReading, as_gate, read_gate

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

GO, WAIT, STOP = "go", "wait", "stop"
Evidence = Callable[[Mapping[str, Any]], Any] | str


class WatchWaveOperator(WaveOperator):
    """Watch a confirmed wave until its gate opens, or can't any more.

    The gate asks for enough success over this wave and all before it; a device that has not
    finished counts as failed. It opens after the bake time at the earliest, never while the guard
    is blind or holds, and in the last wave not before every device has finished or the time is
    over. A wave that has not passed when its time is over, or that can't pass any more once nothing
    is under way, is ``unproven``: a person must decide.

    XComs: the return value ``{"wave", "verdict": "passed" | "unproven" | "rejected" | "breached" |
    "stopped_elsewhere" | "lost" | "surplus", "gate", "progress", "summary"}``.

    :param confirm_task_id: the task of the wave's ``ConfirmWaveOperator``
    :param gate: ``EnoughSuccess(...)``, or the failure rate to rule out (templated)
    :param bake_time: seconds after the wave's last confirmation before which it can't pass
        (templated)
    :param wave_timeout: seconds after it after which the wave is unproven (templated)
    :param evidence: a function, or the dotted path of one, that is asked once the numbers say go:
        it gets ``{"batch_task_id", "wave", "progress", "gate"}`` and answers ``"go"`` (or True),
        ``"wait"`` (or False) or ``"stop"``. An error in it fails this task: nobody goes on
    :param already_current: devices of the batch task that ran the version before (templated)
    """

    template_fields: Sequence[str] = (
        *WaveOperator.template_fields,
        "gate",
        "bake_time",
        "wave_timeout",
        "already_current",
    )

    def __init__(
        self,
        *,
        confirm_task_id: str,
        gate: Any,
        bake_time: Any = 0,
        wave_timeout: Any = 86400,
        evidence: Evidence | None = None,
        already_current: Any = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.confirm_task_id = confirm_task_id
        self.gate = gate
        self.bake_time = bake_time
        self.wave_timeout = wave_timeout
        self.evidence = evidence
        self.already_current = already_current
        if not is_template(gate):
            as_gate(gate)
        if not is_template(bake_time):
            positive(bake_time, "bake_time", zero=True)
        if not is_template(wave_timeout):
            positive(wave_timeout, "wave_timeout")

    def execute(self, context: Context) -> dict[str, Any]:
        plan = self.plan(context)
        if self.wave > len(plan["waves"]):
            return self.surplus()
        ti: Any = context["ti"]
        confirm = ti.xcom_pull(task_ids=self.confirm_task_id)
        if not isinstance(confirm, Mapping):
            raise IoTDAConfigError(f"{self.confirm_task_id} has left no result.")
        if confirm["verdict"] not in (CONFIRMED, COMPLETED):
            return self.told({**confirm, "gate": None})
        with self.guarded(context, plan["batch_task_id"]) as guarded:
            return self.told(self._watch(guarded, plan, float(confirm["confirmed_at"])))

    def _watch(self, guarded: Guarded, plan: Mapping[str, Any], since: float) -> dict[str, Any]:
        watch, gate = guarded.watch, as_gate(self.gate)
        bake = since + read_number(self.bake_time, "bake_time", zero=True)
        end = max(bake, since + read_number(self.wave_timeout, "wave_timeout"))
        current = int(read_number(self.already_current, "already_current", zero=True))
        members = plan["waves"][self.wave - 1]["cumulative"]
        is_last = self.wave == len(plan["waves"])
        said = ""
        while True:
            outcome = guarded.look()
            if outcome is not None and outcome.verdict != COMPLETED:
                return {
                    **self._result(outcome.verdict, None, watch, outcome.summary),
                    "rule": outcome.rule,
                    "stop": outcome.to_result()["stop"],
                }
            ended, now = outcome is not None, time.time()
            why = "" if ended else watch.why_not
            reading = read_gate(gate, watch.progress, members=members, already_current=current)
            over = ended or now >= end
            if not why and now >= bake:
                if reading.passes and (over or not is_last):
                    word = self._ask(plan, watch, reading)
                    if word == GO:
                        return self._result(PASSED, reading, watch)
                    if word == STOP:
                        why = "The external evidence says stop."
                        return self._result(REJECTED, reading, watch, why)
                    why = "the external evidence says wait"
                elif ended or (reading.settled and _nothing_under_way(watch.progress)):
                    return self._result(UNPROVEN, reading, watch)
            if now >= end:
                return self._result(
                    UNPROVEN, reading, watch, f"Its time is over; {why}" if why else ""
                )
            line = f"{reading.sentence} {why}".strip()
            if line != said:
                said = line
                self.log.info("Wave %d: %s", self.wave, line)
            time.sleep(min(watch.interval, max(0.0, end - now)))

    def _ask(self, plan: Mapping[str, Any], watch: Any, reading: GateReading) -> str:
        if self.evidence is None:
            return GO
        ask = load_function(self.evidence) if isinstance(self.evidence, str) else self.evidence
        answer = ask(
            {
                "batch_task_id": plan["batch_task_id"],
                "wave": self.wave,
                "progress": watch.progress.to_dict(),
                "gate": reading.to_json(),
            }
        )
        if answer is True or answer == GO:
            return GO
        if answer is False or answer == WAIT:
            return WAIT
        if answer == STOP:
            return STOP
        raise ValueError(f"evidence must answer 'go', 'wait' or 'stop', not {answer!r}")

    def _result(
        self, verdict: str, reading: GateReading | None, watch: Any, why: str = ""
    ) -> dict[str, Any]:
        said = " ".join(part for part in (reading.sentence if reading else "", why) if part)
        return {
            "wave": self.wave,
            "verdict": verdict,
            "gate": reading.to_json() if reading else None,
            "progress": watch.progress.to_dict(),
            "summary": f"Wave {self.wave} {_WORDS.get(verdict, verdict)}. {said}",
        }


_WORDS = {
    PASSED: "has passed",
    UNPROVEN: "is unproven",
    REJECTED: "is rejected",
    "stopped_elsewhere": "was stopped elsewhere",
    "lost": "is lost",
    "breached": "has breached a rule",
}


def _nothing_under_way(progress: Any) -> bool:
    return not progress.processing and not progress.fail_wait_retry
