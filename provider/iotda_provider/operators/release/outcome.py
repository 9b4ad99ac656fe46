"""The operator that says how a whole release has ended."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException, Context

from iotda_provider.models.text import what_is
from iotda_provider.notifications.messages import with_outcome
from iotda_provider.operators.release.plan import plan_of
from iotda_provider.operators.release.wave import PASSED, SURPLUS, GuardedOperator
from iotda_provider.release import under_way
from iotda_provider.release.gate import GO_ON, STOP
from iotda_provider.release.open_question import ANSWERED
from iotda_provider.release.other_releases import ReleaseNote
from iotda_provider.release.storage import ReleaseFiles
from iotda_provider.release.watch_wave import LastLook
from iotda_provider.task_io.dag_parameters import text_or_template
from iotda_provider.task_io.parameters import positive

RELEASED, REFUSED = "released", "refused"


class RolloutOutcomeOperator(GuardedOperator):
    """Say how a staged rollout has ended.

    ``released`` only if every wave has passed, by its numbers or by a person's answer. The answer
    to the last wave may have taken days. So after it the guard looks once more, in this task's
    worker: a release that has broken a rule meanwhile, or was stopped, is not ``released``.
    Then the release's note for other releases ends, too.

    XComs: the return value ``{"batch_task_ids", "verdict": "released" | "breached" | "refused" |
    "unproven" | "rejected" | "stopped_elsewhere" | "lost", "rule", "wave", "waves", "devices",
    "exposed", "started_elsewhere", "approved_by_person", "summary"}``. ``wave`` is the last one
    that began, ``devices`` counts all of the release, and ``exposed`` those that were confirmed, by
    an earlier pass of a cleared run too, with the ``started_elsewhere`` that somebody else has
    started.

    :param plan_task_id: the task that has planned the waves
    :param steps: for each wave the task ids ``{"watch", "gate", "ask", "stop"}``
    :param released_as: the event of a release that has reached its end: ``released``, or
        ``rolled_back`` of one that brings the old version back
    :param timeout: seconds that the last look may wait for a platform that does not answer
    """

    ui_color = "#e3eef4"

    def __init__(
        self,
        *,
        steps: Any,
        timeout: float = 86400,
        released_as: str = "released",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(steps, Sequence) or not all(isinstance(one, Mapping) for one in steps):
            raise ValueError(
                f"steps must be a list of mappings, got {what_is(steps, instead_of='a list')}"
            )
        self.steps = [dict(step) for step in steps]
        self.timeout = positive(timeout, "timeout")
        self.released_as = text_or_template(released_as, "released_as")

    def execute(self, context: Context) -> dict[str, Any]:
        ti: Any = context["ti"]
        plan = plan_of(ti, self.plan_task_id)
        # It is the keeper of copies, which Airflow has just deleted with the rest of its XComs.
        files = ReleaseFiles.of(plan, ti, self.plan_task_id, ti.task_id)
        files.copy_all(self.log)
        result = self._ended(ti, plan)
        self._count(files, result)
        if result["verdict"] == RELEASED and result["wave"] in result["approved_by_person"]:
            look = self._look(context, result)
            if look["verdict"] != PASSED:
                result["verdict"] = look["verdict"]
                result["summary"] += (
                    f" But the last look, after a person has said yes: {look['summary']}"
                )
        kind = self.released_as if result["verdict"] == RELEASED else f"not_{self.released_as}"
        said = f"{result['exposed']} of {result['devices']} devices were confirmed. "
        if result["verdict"] != RELEASED:
            said = f"The release has ended as {result['verdict']}. {said}"
        sentence = with_outcome(kind, f"{said}{result['summary']}")
        level = self.log.info if result["verdict"] == RELEASED else self.log.warning
        level("%s", sentence)
        if plan.get("note") is not None:
            # Later releases need not wait for what this DAG run still does, such as a report.
            under_way.leave(ReleaseNote.from_json(plan["note"]).release, self.log)
        self.tell(context, kind, sentence, batch_task_ids=result["batch_task_ids"])
        return result

    def _ended(self, ti: Any, plan: Mapping[str, Any]) -> dict[str, Any]:
        """How it has ended by what its waves have left behind.

        :raises AirflowFailException: they do not say so
        """
        verdict, summary, begun, by_person = "", "", 0, []
        outside, is_last, rule = 0, False, None
        for place, step in enumerate(self.steps, start=1):
            result = ti.xcom_pull(task_ids=step["watch"])
            if is_last or not isinstance(result, Mapping) or result["verdict"] == SURPLUS:
                break
            begun, summary, verdict = place, str(result["summary"]), str(result["verdict"])
            is_last, rule = bool(result["is_last"]), result.get("rule")
            outside = max(outside, int(result.get("started_elsewhere") or 0))
            branch = ti.xcom_pull(task_ids=step["gate"], key="branch") or []
            if step["ask"] is not None and step["ask"] in branch:
                answer = ti.xcom_pull(task_ids=step["ask"], key="answer")
                answer = answer if isinstance(answer, Mapping) else {}
                if answer.get("verdict", ANSWERED) != ANSWERED:  # of the guard meanwhile
                    verdict, rule = str(answer["verdict"]), answer.get("rule")
                    summary += f" {answer.get('summary')}"
                elif _is_no(ti, step, answer):
                    verdict = REFUSED
                    summary += " A person has said no (or nobody has answered in time)."
                else:
                    by_person.append(place)
                    verdict = PASSED
            if verdict != PASSED:
                break
        if verdict == PASSED and is_last:
            verdict = RELEASED
        elif verdict in ("", PASSED):
            raise AirflowFailException(
                f"Wave {begun} is the last that has ended, of {len(plan['waves'])}, and nothing "
                "says why: this release is not announced. Clear the waves that are missing."
            )
        return {
            "verdict": verdict,
            "rule": rule,
            "wave": begun,
            "waves": len(plan["waves"]),
            "devices": plan["devices"],
            "started_elsewhere": outside,
            "approved_by_person": by_person,
            "summary": summary,
        }

    def _count(self, files: ReleaseFiles, result: dict[str, Any]) -> None:
        """Count the confirmed devices by what was written down.

        :raises IoTDATransportError: it can't be read
        """
        parts = files.created_parts()
        exposed = elsewhere = 0
        for part in parts:
            ledger = files.read_ledger(part, self.log)
            exposed += len(ledger.exposed)
            elsewhere += len(ledger.elsewhere)
        result["batch_task_ids"] = [part.batch_task_id for part in parts]
        result["exposed"] = exposed + max(0, result["started_elsewhere"] - elsewhere)

    def _look(self, context: Context, result: Mapping[str, Any]) -> dict[str, Any]:
        """One more look of the guard, which stops what has broken a rule."""
        memory = self.memory_of(context, tuple(result["batch_task_ids"]))
        watch = self.watch_over(memory)
        deadline = time.time() + self.timeout
        last = LastLook(result["wave"], watch, deadline=deadline)
        look = self.carry_out(context, last, watch)
        self.leave_memory(context, memory)
        self.settle_memory(context, memory)
        return look


def _is_no(ti: Any, step: Mapping[str, str | None], answer: Mapping[str, Any]) -> bool:
    """Whether the answer to a wave's question, or the silence after it, has stopped the release."""
    option = answer.get("option")
    if option == GO_ON:  # a stop may be that of an earlier pass, before the run was cleared
        return False
    return option == STOP or ti.xcom_pull(task_ids=step["stop"]) is not None
