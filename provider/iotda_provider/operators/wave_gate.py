"""Operators that choose what follows a wave, and that say how the whole release has ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, BaseOperator

from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.operators.branch import BranchOperator
from iotda_provider.operators.wave import PASSED, REJECTED, SURPLUS, UNPROVEN
from iotda_provider.operators.wave_plan import plan_of
from iotda_provider.parameters import one_of
from iotda_provider.release_files import ReleaseFiles

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

NEVER, WHEN_UNPROVEN, ALWAYS = APPROVALS = ("never", "when unproven", "before every wave")
RELEASED, REFUSED = "released", "refused"
#: What a person may answer.
GO_ON, STOP = "Go on", "Stop the release"


class WaveGateOperator(BranchOperator):
    """Follow the path that a wave's result opens.

    ``passed`` goes on (past a person where ``approval`` is ``before every wave``), ``unproven``
    asks a person or, where nobody is to be asked, stops; ``rejected`` stops; and a release that is
    over already goes to the end. Nothing but ``passed`` ever goes on by itself.

    XCom: ``branch``, the task ids that were followed.

    :param wave: which wave, from 1
    :param plan_task_id: the task that has planned the waves
    :param watch_task_id: the wave's ``WatchWaveOperator``
    :param if_passed: the next wave's first task
    :param if_ask: the task that asks a person; None: nobody is asked
    :param if_stop: the task that stops the release
    :param if_over: the end of the release
    :param approval: when to ask: ``never``, ``when unproven``, ``before every wave`` (templated)
    """

    template_fields: Sequence[str] = ("approval",)

    def __init__(
        self,
        *,
        wave: int,
        plan_task_id: str,
        watch_task_id: str,
        if_passed: str,
        if_ask: str | None,
        if_stop: str,
        if_over: str,
        approval: str = NEVER,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.wave = wave
        self.plan_task_id = plan_task_id
        self.watch_task_id = watch_task_id
        self.if_passed = if_passed
        self.if_ask = if_ask
        self.if_stop = if_stop
        self.if_over = if_over
        self.approval = approval

    def execute(self, context: Context) -> Any:
        self.refuse_mapped(context)
        ti: Any = context["ti"]
        result = ti.xcom_pull(task_ids=self.watch_task_id)
        if not isinstance(result, Mapping):
            raise IoTDAConfigError(f"{self.watch_task_id} has left no result.")
        approval = one_of(self.approval, "approval", APPROVALS)
        verdict, waves = result["verdict"], len(plan_of(ti, self.plan_task_id)["waves"])
        if verdict == PASSED and self.wave >= waves:
            path = self.if_over
        elif verdict == PASSED and approval != ALWAYS:
            path = self.if_passed
        elif verdict in (PASSED, UNPROVEN):
            # Nobody to ask: what is not shown does not go on.
            path = self.if_stop if approval == NEVER or self.if_ask is None else self.if_ask
        else:
            path = self.if_stop if verdict == REJECTED else self.if_over
        return self.follow(context, [path], str(result["summary"]).rstrip("."))


class RolloutOutcomeOperator(BaseOperator):
    """Say how a staged rollout has ended.

    ``released`` only where every wave has passed by its numbers or by a person's word. XComs: the
    return value ``{"batch_task_id", "verdict": "released" | "breached" | "refused" | "unproven" |
    "rejected" | "stopped_elsewhere" | "lost", "wave", "waves", "begun", "exposed",
    "approved_by_person", "unconfirmed_from", "summary"}``. ``wave`` is the last one that began, and
    ``exposed`` counts the devices that were let start.

    :param plan_task_id: the task that has planned the waves
    :param steps: for each wave the task ids ``{"confirm", "watch", "gate", "ask", "stop"}``
    """

    ui_color = "#e3eef4"

    def __init__(
        self,
        *,
        plan_task_id: str,
        steps: Sequence[Mapping[str, str | None]],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.plan_task_id = plan_task_id
        self.steps = [dict(step) for step in steps]

    def execute(self, context: Context) -> dict[str, Any]:
        ti: Any = context["ti"]
        plan = plan_of(ti, self.plan_task_id)
        # It is the keeper of a copy, which Airflow has just deleted with the rest of its XComs.
        ReleaseFiles.of(plan, ti, self.plan_task_id, ti.task_id).copy_confirmed(self.log)
        verdict, summary, begun, by_person = "", "", 0, []
        unconfirmed, unconfirmed_from = 0, None
        for place, step in enumerate(self.steps[: len(plan["waves"])], start=1):
            result = ti.xcom_pull(task_ids=step["watch"])
            if not isinstance(result, Mapping) or result["verdict"] == SURPLUS:
                break
            begun, summary, verdict = place, str(result["summary"]), str(result["verdict"])
            confirm = ti.xcom_pull(task_ids=step["confirm"]) or {}
            unconfirmed = int(confirm.get("unconfirmed") or 0)
            unconfirmed_from = step["confirm"] if unconfirmed else None
            branch = ti.xcom_pull(task_ids=step["gate"], key="branch") or []
            asked = step["ask"] is not None and step["ask"] in branch
            answer = ti.xcom_pull(task_ids=step["ask"], key="answer") if asked else None
            said_no = isinstance(answer, Mapping) and answer.get("option") == STOP
            if asked and (said_no or ti.xcom_pull(task_ids=step["stop"]) is not None):
                verdict = REFUSED
                summary += " A person has said no (or nobody has answered in time)."
            elif asked:
                by_person.append(place)
                verdict = PASSED
            if verdict != PASSED:
                break
        if verdict == PASSED and begun == len(plan["waves"]):
            verdict = RELEASED
        elif verdict in ("", PASSED):
            raise AirflowFailException(
                f"Wave {begun} is the last that has ended, of {len(plan['waves'])}, and nothing "
                "says why: this release is not announced. Clear the waves that are missing."
            )
        members = plan["waves"][begun - 1]["cumulative"] if begun else 0
        level = self.log.info if verdict == RELEASED else self.log.warning
        level("The release is %s. %s", verdict, summary)
        return {
            "batch_task_id": plan["batch_task_id"],
            "verdict": verdict,
            "wave": begun,
            "waves": len(plan["waves"]),
            "exposed": members - unconfirmed,
            "approved_by_person": by_person,
            "unconfirmed_from": unconfirmed_from,
            "summary": summary,
        }
