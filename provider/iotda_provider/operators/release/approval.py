"""The task that asks a person whether a release may go on; for Airflow 3.1 and later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import HITLBranchOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class WaveApprovalOperator(HITLBranchOperator):
    """Ask a person: go on with the next wave, or stop the release.

    Not an ``ApprovalOperator``, whose Reject skips everything downstream, the stop included.
    Without an answer nothing happens, for as long as it takes, unless ``defaults`` and
    ``response_timeout`` say otherwise.

    XComs: those of ``HITLBranchOperator``, and ``answer``: ``{"option", "by"}``, pushed before
    anything is skipped.
    """

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        ti: Any = context["ti"]
        if "error" not in event:
            chosen = list(event.get("chosen_options") or [])
            by = event.get("responded_by_user")
            answer = {"option": chosen[0] if chosen else None, "by": str(by) if by else None}
            ti.xcom_push(key="answer", value=answer)
            self.log.info("The answer is %r.", answer["option"])
        return super().execute_complete(context=context, event=event)
