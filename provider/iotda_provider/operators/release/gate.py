"""The operator that chooses what follows a wave."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from airflow.providers.common.compat.sdk import Context

from iotda_provider.notifications.telling_task import TellingTask
from iotda_provider.operators.branch import BranchOperator
from iotda_provider.operators.release.results import TaskResult
from iotda_provider.operators.release.wave import PASSED, REJECTED, UNPROVEN
from iotda_provider.release.gate import ALWAYS, APPROVALS, NEVER
from iotda_provider.task_io.dag_parameters import airflow_id, one_of, text_or_template


class WaveGateOperator(TellingTask, BranchOperator):
    """Follow the path that a wave's result opens.

    ``passed`` leads to the next wave, after a person's answer if ``approval`` is ``before every
    wave``. ``unproven`` leads to that question or, if nobody is to be asked, to the stop.
    ``rejected`` leads to the stop. A release that is over already goes to its end. Only ``passed``
    leads to the next wave without a person.

    It tells people of a wave that has passed, and of a question that is open.

    XCom: ``branch``, the task ids that were followed.

    :param watch_task_id: the wave's ``WatchWaveOperator``
    :param if_passed: the next wave's first task
    :param if_ask: the task that asks a person; None: nobody is asked
    :param if_stop: the task that stops the release
    :param if_over: the end of the release
    :param approval: when to ask: ``never``, ``when unproven``, ``before every wave`` (templated)
    :param question: what a person is asked (templated)
    :param notifiers: Airflow's notifiers that tell people
    :param iotda_conn_id: the connection, for the notifiers (templated)
    """

    template_fields: Sequence[str] = ("approval", "question", "iotda_conn_id")

    def __init__(
        self,
        *,
        watch_task_id: str,
        if_passed: str,
        if_ask: str | None,
        if_stop: str,
        if_over: str,
        approval: str = NEVER,
        question: str = "May the release go on?",
        notifiers: Iterable[Any] | None = None,
        iotda_conn_id: str = "iotda_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.watch_task_id = airflow_id(watch_task_id, "watch_task_id")
        self.if_passed = airflow_id(if_passed, "if_passed")
        self.if_ask = airflow_id(if_ask, "if_ask", optional=True)
        self.if_stop = airflow_id(if_stop, "if_stop")
        self.if_over = airflow_id(if_over, "if_over")
        self.approval = approval
        self.question = text_or_template(question, "question")
        self.iotda_conn_id = text_or_template(iotda_conn_id, "iotda_conn_id")
        self._tell_to(notifiers, deferrable=False)

    def execute(self, context: Context) -> Any:
        self.refuse_mapped(context)
        ti: Any = context["ti"]
        result = TaskResult(ti.xcom_pull(task_ids=self.watch_task_id), self.watch_task_id)
        approval = one_of(self.approval, "approval", APPROVALS)
        verdict = result["verdict"]
        if verdict == PASSED and result["is_last"]:
            path = self.if_over
        elif verdict == PASSED and approval != ALWAYS:
            path = self.if_passed
        elif verdict in (PASSED, UNPROVEN):
            # Nobody is asked: what is unproven does not go on.
            path = self.if_stop if approval == NEVER or self.if_ask is None else self.if_ask
        else:
            path = self.if_stop if verdict == REJECTED else self.if_over
        if verdict == PASSED:
            self._tell(context, "wave_passed", result, result["summary"])
        if path == self.if_ask:
            asked = f"{self.question} {result['summary']} Answer at Airflow's Required Actions."
            self.log.info("%s", asked)
            self._tell(context, "question_open", result, asked)
        return self.follow(context, [path], str(result["summary"]).rstrip("."))

    def _tell(self, context: Context, kind: str, result: Mapping[str, Any], said: str) -> None:
        facts = {"batch_task_ids": result.get("batch_task_ids"), "progress": result.get("progress")}
        self.tell(context, kind, said, **facts)
