"""The operator that chooses what follows a wave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from iotda_provider.exceptions import IoTDAConfigError, IoTDANotFoundError, IoTDAParameterError
from iotda_provider.operators.batch_task.stop import StopBatchTaskOperator
from iotda_provider.operators.branch import BranchOperator
from iotda_provider.operators.release.plan import plan_of
from iotda_provider.operators.release.wave import PASSED, REJECTED, UNPROVEN
from iotda_provider.release.gate import ALWAYS, APPROVALS, NEVER
from iotda_provider.task_io.dag_parameters import airflow_id, one_of
from iotda_provider.task_io.parameters import whole_number

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


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
        self.wave = whole_number(wave, "wave")
        self.plan_task_id = airflow_id(plan_task_id, "plan_task_id")
        self.watch_task_id = airflow_id(watch_task_id, "watch_task_id")
        self.if_passed = airflow_id(if_passed, "if_passed")
        self.if_ask = airflow_id(if_ask, "if_ask", optional=True)
        self.if_stop = airflow_id(if_stop, "if_stop")
        self.if_over = airflow_id(if_over, "if_over")
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


class StopReleaseOperator(StopBatchTaskOperator):
    """Stop the batch task of a release in waves, and let what follows wait for its end.

    Devices that are installing may take hours to end, and the platform calls the task ``Stopping``
    until then; the release is over as soon as the stop was taken. A batch task that somebody has
    deleted lets nobody start any more, and needs no stop.

    XComs: those of ``StopBatchTaskOperator``, whose arguments it takes; of a batch task that is
    gone, the return value ``{"batch_task_id", "outcome": "gone"}``.
    """

    def __init__(self, **kwargs: Any) -> None:
        if "wait_for_completion" in kwargs:
            raise IoTDAParameterError(
                "wait_for_completion can't be given: StopReleaseOperator never waits for devices "
                "that are installing. WaitUntilAtRestOperator does."
            )
        super().__init__(wait_for_completion=False, **kwargs)

    def execute(self, context: Context) -> dict[str, Any]:
        try:
            return super().execute(context)
        except IoTDANotFoundError as error:
            self.log.warning("There is nothing left to stop: %s", error)
            return {"batch_task_id": self.batch_task_id, "outcome": "gone"}
