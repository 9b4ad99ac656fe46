"""The operator that watches one wave until the next one may follow, or must not."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from airflow.providers.common.compat.sdk import Context

from iotda_provider.operators.release.confirm import started_elsewhere_so_far
from iotda_provider.operators.release.plan import plan_of
from iotda_provider.operators.release.results import TaskResult, number_in
from iotda_provider.operators.release.trial import trial_parameter
from iotda_provider.operators.release.wave import WaveOperator
from iotda_provider.release.confirm_wave import CONFIRMED
from iotda_provider.release.gate import as_gate
from iotda_provider.release.manifest import HELD, Part
from iotda_provider.release.release_io import GO, STOP, WAIT, EvidenceFailedError
from iotda_provider.release.trial_job import TrialJob
from iotda_provider.release.watch_wave import UNPROVEN, WatchJob, WaveDecision
from iotda_provider.release.worker import UsersFunctions
from iotda_provider.rollout_guard.alerts import load_function
from iotda_provider.rollout_guard.outcome import COMPLETED
from iotda_provider.task_io.dag_parameters import airflow_id, function_or_path, is_template
from iotda_provider.task_io.parameters import positive, read_number, read_whole_number, whole_number
from iotda_provider.trials.device_trial import as_trial

Evidence = Callable[[Mapping[str, Any]], Any] | str


class WatchWaveOperator(WaveOperator):
    """Watch a confirmed wave until its gate opens, or can't any more.

    The gate asks for enough success over this wave and all before it; a device that has not
    finished counts as failed. It opens after the bake time at the earliest, never while the guard
    is blind or holds, and in the last wave not before every device has finished or the time is
    over. A wave that has not passed when its time is over, or that can't pass any more once nothing
    is under way, is ``unproven``: a person must decide. A wave of which every device is left out
    shows nothing: it passes only if the waves before it are enough. Where they have no device
    either, or others hold its devices, which would come again with the last wave, it is
    ``unproven``.

    XComs: the return value ``{"wave", "verdict": "passed" | "unproven" | "rejected" | "breached" |
    "stopped_elsewhere" | "lost" | "surplus", "is_last", "batch_task_ids", "gate", "progress",
    "started_elsewhere", "summary"}``; ``is_last``: no wave follows; ``"rehearse_stop": True`` as of
    ``ConfirmWaveOperator``. And ``live``, how it stands, as a guard's.

    :param confirm_task_id: the task of the wave's ``ConfirmWaveOperator``
    :param gate: ``EnoughSuccess(...)``, or the failure rate to rule out (templated)
    :param bake_time: seconds after the wave's last confirmation before which it can't pass
        (templated)
    :param wave_timeout: seconds after that confirmation when the wave becomes unproven (templated)
    :param evidence: a function, or the dotted path of one, that is asked once the numbers say go:
        it gets ``{"batch_task_ids", "wave", "progress", "gate"}`` and answers ``"go"`` (or True),
        ``"wait"`` (or False) or ``"stop"``. It is always called in a worker. An error in it, or
        any other answer, means ``"wait"``: it is logged, and a person is told, once a task
    :param evidence_interval: seconds between two questions for evidence; None: six looks
    :param trial: a :class:`~iotda_provider.trials.DeviceTrial`, or ``off``, ``can stop`` or
        ``required`` (templated); as the plan had it
    :param already_current: devices that ran the new version before the release began (templated)
    """

    template_fields: Sequence[str] = (
        *WaveOperator.template_fields,
        "gate",
        "bake_time",
        "wave_timeout",
        "already_current",
        "trial",
    )

    procedure_class = WaveDecision
    trigger_name = "WatchWaveTrigger"

    def __init__(
        self,
        *,
        confirm_task_id: str,
        gate: Any,
        bake_time: Any = 0,
        wave_timeout: Any = 86400,
        evidence: Evidence | None = None,
        evidence_interval: float | None = None,
        already_current: Any = 0,
        trial: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.trial, self.metric = trial_parameter(trial)
        self.confirm_task_id = airflow_id(confirm_task_id, "confirm_task_id")
        self.gate = gate
        self.bake_time = bake_time
        self.wave_timeout = wave_timeout
        self.evidence = function_or_path(evidence, "evidence")
        self.evidence_interval = (
            6 * self.poll_interval
            if evidence_interval is None
            else positive(evidence_interval, "evidence_interval")
        )
        self.already_current = already_current
        if not is_template(gate):
            as_gate(gate)
        if not is_template(bake_time):
            positive(bake_time, "bake_time", zero=True)
        if not is_template(wave_timeout):
            positive(wave_timeout, "wave_timeout")
        if not is_template(already_current):
            whole_number(already_current, "already_current", zero=True)

    def begin(
        self, context: Context, plan: Mapping[str, Any], parts: Sequence[Part]
    ) -> WatchJob | dict[str, Any]:
        ti: Any = context["ti"]
        confirm = TaskResult(ti.xcom_pull(task_ids=self.confirm_task_id), self.confirm_task_id)
        is_last = self.wave == len(plan["waves"])
        if confirm["verdict"] not in (CONFIRMED, COMPLETED):
            return {**confirm, "gate": None, "is_last": is_last}
        is_empty = not any(part.wave == self.wave for part in parts)
        held = self._held(ti) if is_empty else 0
        if held or not parts:
            # Those that others hold would come again with the last wave, untried by any before.
            said = (
                f"all of its devices are left out, {held} of them as another upgrade or release "
                "has them (held_elsewhere; the log of its create task names it), so nothing was "
                "shown. Start the release anew once that is over."
                if held
                else "all devices of this wave and those before it are left out (left_out of "
                "the create tasks says why), so nothing was shown. Start the release anew."
            )
            asks = confirm.get("rehearse_stop") is True
            return {
                **{key: confirm[key] for key in ("wave", "progress", "batch_task_ids")},
                "verdict": UNPROVEN,
                "is_last": is_last,
                "gate": None,
                "started_elsewhere": confirm["started_elsewhere"],
                **({"rehearse_stop": True} if asks else {}),
                "summary": f"Wave {self.wave} is unproven: {said}",
            }
        since = number_in(confirm, "confirmed_at")
        # Without a device of its own those of the waves before have to be enough.
        bake = since + (0 if is_empty else read_number(self.bake_time, "bake_time", zero=True))
        return WatchJob(
            wave=self.wave,
            batch_task_ids=tuple(str(part.batch_task_id) for part in parts),
            members=int(number_in(confirm, "members")),
            is_last=is_last,
            gate=as_gate(self.gate),
            bake=bake,
            end=max(bake, since + read_number(self.wave_timeout, "wave_timeout")),
            already_current=read_whole_number(self.already_current, "already_current", zero=True),
            asks=self.evidence is not None,
            ask_every=self.evidence_interval,
            unconfirmed=int(confirm.get("unconfirmed") or 0),
            outside=started_elsewhere_so_far(ti, self.after),
            trial=self._trial_job(context, plan, is_last),
            rehearse_stop=confirm.get("rehearse_stop") is True,
        )

    def _held(self, ti: Any) -> int:
        """How many devices were left out of this wave because others hold them."""
        task_id = str(self.create_task_id)
        created = TaskResult(ti.xcom_pull(task_ids=task_id), task_id)
        return int(number_in({HELD: 0, **created["left_out"]}, HELD))

    def _trial_job(
        self, context: Context, plan: Mapping[str, Any], is_last: bool
    ) -> TrialJob | None:
        """The trial of this wave; None: there is none."""
        trial = as_trial(self.trial)
        if trial is None or is_last:
            return None
        planned = plan.get("trial")
        if not trial.required and (not isinstance(planned, Mapping) or planned.get("off")):
            return None
        begun = self.files(context).read_begun(self.wave)
        bake = max(1.0, read_number(self.bake_time, "bake_time", zero=True))
        span = max(1.0, read_number(self.wave_timeout, "wave_timeout"))
        job = TrialJob(trial, begun.at if begun is not None else time.time(), bake, span)
        job.look = job.schedule.next_at(time.time())
        return job

    def without_triggerer(self, context: Context) -> dict[str, Any]:
        plan = plan_of(context["ti"], self.plan_task_id)
        job = self.begin(context, plan, self.guarded(context))
        if isinstance(job, WatchJob) and time.time() < job.end:
            raise self.execution_timeout_error()
        self.log.warning("No triggerer has watched this wave to its end: looking from here.")
        return self.execute(context)

    def asks(self) -> UsersFunctions:
        return UsersFunctions(self._ask, self._measure)

    def _measure(self, device_ids: Sequence[str]) -> Mapping[str, bool | None]:
        """What the trial's own metric says.

        :raises EvidenceFailedError: it has answered nonsense
        """
        assert self.metric is not None
        answer: Any = self.metric(list(device_ids))
        if not isinstance(answer, Mapping):
            kind = type(answer).__name__
            raise EvidenceFailedError(f"it must answer {{device id: True or False}}, not {kind}")
        for one in answer.values():
            if one is not None and not isinstance(one, bool):
                kind = type(one).__name__
                said = f"it must say True, False or None of a device, not {kind}"
                raise EvidenceFailedError(said)
        return answer

    def _ask(self, facts: Mapping[str, Any]) -> str:
        """The external evidence's word.

        :raises EvidenceFailedError: it has answered nonsense; whatever it raises itself comes
            through too
        """
        assert self.evidence is not None
        ask = (
            load_function(self.evidence, "evidence")
            if isinstance(self.evidence, str)
            else self.evidence
        )
        answer = ask(facts)
        if answer is True or answer == GO:
            return GO
        if answer is False or answer == WAIT:
            return WAIT
        if answer == STOP:
            return STOP
        raise EvidenceFailedError(f"evidence must answer 'go', 'wait' or 'stop', not {answer!r}")
