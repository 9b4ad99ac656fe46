"""The operator that stops a batch task, or some of its targets, and tells what came of each."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException, conf

from iotda_provider.exceptions import BatchTaskTimeoutError, IoTDAError, TaskNotStoppableError
from iotda_provider.models import BatchTask, TargetResults
from iotda_provider.operators.results import check_report_path
from iotda_provider.operators.targets import NO_RESULTS, TargetsOperator
from iotda_provider.parameters import one_of, positive
from iotda_provider.waiting import DEFAULT_MAX_OUTAGE, TaskWait

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from iotda_provider.hooks.iotda import IoTDAHook


class StopBatchTaskOperator(TargetsOperator):
    """Stop a firmware or software upgrade: the whole batch task, or some of its devices.

    Asking twice is harmless: a task that is stopping already is joined. A whole task is stopped
    only where ``targets`` was left out or is literally None in the DAG; a template that renders to
    None, ``"None"`` or empty text is an error, and an empty list stops nothing.

    XComs: the return value ``{"batch_task_id", "outcome": "stopped" | "already_ended" | "stopping",
    "status", "requested", "succeeded", "failed", "failed_truncated", "progress", "report_path"}``;
    ``failed_targets``, rows of ``{"target", "error_code", "error_msg", "failure_class"}``; and
    ``succeeded_targets``, device ids. For a whole task ``requested`` counts the devices that were
    not finished when the stop was sent, ``succeeded`` those that it stopped.

    Stopping does not reach into a device that is installing: it may still end as Success.

    :param batch_task_id: the task to stop (templated)
    :param targets: device ids to stop; None stops the whole task (templated)
    :param iotda_conn_id: the connection (templated)
    :param project_id: instead of the connection's (templated)
    :param instance_id: instead of the connection's (templated)
    :param if_ended: what a task that has ended already means: ``succeed``, ``skip`` or ``fail``
    :param on_target_failure: what targets that could not be stopped mean: ``report`` (XComs only),
        ``fail`` (no retries) or ``skip``
    :param ignore_error_codes: error codes of targets that do not count as failures
    :param wait_for_completion: wait until a stopped task has ended
    :param poll_interval: seconds between two looks while waiting
    :param timeout: seconds to wait at most
    :param deferrable: wait in the triggerer instead of in the worker
    :param max_xcom_targets: the most targets that a list in XCom holds; Airflow's own limit holds
        too
    :param report_path: URL of a file that gets every failed target, one JSON object a line
        (templated)
    :param max_outage: seconds that the wait outlives trouble at the API
    """

    verb = "stop"
    done = "stopped"

    def __init__(
        self,
        *,
        batch_task_id: str,
        targets: Any = None,
        iotda_conn_id: str = "iotda_default",
        project_id: str | None = None,
        instance_id: str | None = None,
        if_ended: str = "succeed",
        on_target_failure: str = "report",
        ignore_error_codes: Sequence[str] = (),
        wait_for_completion: bool = True,
        poll_interval: float = 10,
        timeout: float = 3600,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        max_xcom_targets: int = 1000,
        report_path: str | None = None,
        max_outage: float = DEFAULT_MAX_OUTAGE,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            iotda_conn_id=iotda_conn_id,
            project_id=project_id,
            instance_id=instance_id,
            max_outage=max_outage,
            batch_task_id=batch_task_id,
            targets=targets,
            on_target_failure=on_target_failure,
            ignore_error_codes=ignore_error_codes,
            max_xcom_targets=max_xcom_targets,
            report_path=report_path,
            **kwargs,
        )
        self.if_ended = one_of(if_ended, "if_ended", ("succeed", "skip", "fail"))
        self.wait_for_completion = wait_for_completion
        self.poll_interval = positive(poll_interval, "poll_interval")
        self.timeout = positive(timeout, "timeout")
        self.deferrable = deferrable

    def execute(self, context: Context) -> dict[str, Any]:
        from iotda_provider.api import check_task_id

        task_id = check_task_id(self.batch_task_id)
        self.report_path = check_report_path(self.report_path)
        targets = self.requested_targets(context)
        if targets == []:
            self.log.info("targets is an empty list: batch task %s goes on.", task_id)
            return self.report(context, "stopped", None)
        with self.hook() as hook:
            return self._stop(context, hook, hook.get_batch_task(task_id), targets)

    def _stop(
        self, context: Context, hook: IoTDAHook, task: BatchTask, targets: list[str] | None
    ) -> dict[str, Any]:
        from iotda_provider.procedures import not_stoppable

        now = f"{task.status}: {task.progress}"
        self.log.info("Batch task %s (%s) is %s.", task.task_id, task.task_name, now)
        requested = _unfinished(task) if targets is None else len(targets)
        if task.status.is_terminal:
            return self._already_ended(context, task, requested)
        if (error := not_stoppable(task)) is not None:
            raise error
        results = NO_RESULTS
        if task.status.is_stop:
            self.log.info("It is being stopped already: joining that stop.")
        else:
            what = "the whole task" if targets is None else f"{len(targets)} target(s)"
            self.log.info("Stopping %s.", what)
            try:
                results = hook.stop_batch_task(task.task_id, targets)
            except TaskNotStoppableError:
                # It ended between the look and the stop.
                task = hook.get_batch_task(task.task_id)
                if not task.status.is_terminal:
                    raise
                return self._already_ended(context, task, requested)
        joined = task.status.is_stop and targets is not None
        whole = targets is None or joined
        stopped_before = task.progress.stopped
        self.push_targets(context, results)
        if whole and self.wait_for_completion:
            task = self._wait_for_end(context, hook, task, requested, results)
        else:
            task = hook.get_batch_task(task.task_id)
        if joined and targets is not None:
            results = hook.read_stopped_targets(task.task_id, targets)
            self.push_targets(context, results)
        outcome = "stopping" if whole and not task.status.is_terminal else "stopped"
        succeeded = None if len(results) else max(0, task.progress.stopped - stopped_before)
        return self.report(context, outcome, task, requested, results, succeeded)

    def _wait_for_end(
        self,
        context: Context,
        hook: IoTDAHook,
        task: BatchTask,
        requested: int,
        results: TargetResults,
    ) -> BatchTask:
        """Wait for the end of a stop; where that fails, what is known of it is pushed first."""
        try:
            return self.wait_in_worker(
                hook,
                TaskWait(task.task_id),
                poll_interval=self.poll_interval,
                timeout=self.timeout,
            )
        except IoTDAError as error:
            if isinstance(error, BatchTaskTimeoutError):
                with suppress(IoTDAError):
                    task = hook.get_batch_task(task.task_id)
                if task.status.is_terminal:
                    return task
            result = self.tell(context, "stopping", task, requested, results)
            context["ti"].xcom_push(key="return_value", value=result)
            raise

    def _already_ended(self, context: Context, task: BatchTask, requested: int) -> dict[str, Any]:
        result = self.report(context, "already_ended", task, requested)
        message = f"Batch task {task.task_id} had already ended as {task.status}: {task.progress}."
        if self.if_ended == "succeed":
            self.log.info("%s Nothing to stop.", message)
            return result
        context["ti"].xcom_push(key="return_value", value=result)
        if self.if_ended == "skip":
            raise AirflowSkipException(message)
        raise AirflowFailException(f"{message} (if_ended is 'fail')")


def _unfinished(task: BatchTask) -> int:
    """How many targets a stop may reach, by the platform's counts, which may be a torn read."""
    counts = task.progress
    return max(0, counts.total - counts.finished - counts.stopped - counts.removed)
