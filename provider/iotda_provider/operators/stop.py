"""The operator that stops a batch task, or some of its targets, and tells what came of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException, conf

from iotda_provider.exceptions import (
    BatchTaskTimeoutError,
    IoTDAConfigError,
    IoTDAError,
    TargetFailuresError,
    TaskNotStoppableError,
)
from iotda_provider.models import BatchTask, TargetResults
from iotda_provider.operators.base import CONNECTION_FIELDS, IoTDABaseOperator
from iotda_provider.operators.results import (
    check_report_path,
    failed_rows,
    write_report,
    xcom_limit,
)
from iotda_provider.parameters import as_list, one_of, positive
from iotda_provider.waiting import DEFAULT_MAX_OUTAGE, TaskWait

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from iotda_provider.hooks.iotda import IoTDAHook


_NO_RESULTS = TargetResults()


class StopBatchTaskOperator(IoTDABaseOperator):
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

    template_fields: Sequence[str] = ("batch_task_id", "targets", "report_path", *CONNECTION_FIELDS)

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
            **kwargs,
        )
        self.batch_task_id = batch_task_id
        self.targets = targets
        # Said once, here: what a template renders to later can never become "the whole task".
        self._whole_task = targets is None
        self.if_ended = one_of(if_ended, "if_ended", ("succeed", "skip", "fail"))
        self.on_target_failure = one_of(
            on_target_failure, "on_target_failure", ("report", "fail", "skip")
        )
        if isinstance(ignore_error_codes, str):
            raise ValueError(
                f"ignore_error_codes must be a list of codes, got {ignore_error_codes!r}"
            )
        self.ignore_error_codes = tuple(ignore_error_codes)
        self.wait_for_completion = wait_for_completion
        self.poll_interval = positive(poll_interval, "poll_interval")
        self.timeout = positive(timeout, "timeout")
        self.deferrable = deferrable
        self.max_xcom_targets = int(positive(max_xcom_targets, "max_xcom_targets", zero=True))
        self.report_path = report_path

    def execute(self, context: Context) -> dict[str, Any]:
        from iotda_provider.api import check_targets, check_task_id

        task_id = check_task_id(self.batch_task_id)
        self.report_path = check_report_path(self.report_path)
        targets = self._requested_targets(context)
        if targets is not None:
            targets = check_targets(targets)
            if not targets:
                self.log.info("targets is an empty list: batch task %s goes on.", task_id)
                return self._report(context, "stopped", None, requested=0)
        with self.hook() as hook:
            return self._stop(context, hook, hook.get_batch_task(task_id), targets)

    def _requested_targets(self, context: Context) -> list[Any] | None:
        """The targets to stop, or None for the whole task: only where the DAG itself says so."""
        if not self._whole_task:
            return as_list(self.targets, "targets")
        if self.targets is not None or not _dag_leaves_targets_out(self, context):
            raise IoTDAConfigError(
                "targets came out of a mapping, or was set later, as None, or not at all; only the "
                "DAG itself can mean the whole task: pass targets=None to partial() (or leave it "
                "out) to stop everything, or an empty list to stop nothing."
            )
        return None

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
        results = _NO_RESULTS
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
        self._push_targets(context, results)
        if whole and self.wait_for_completion:
            task = self._wait_for_end(context, hook, task, requested, results)
        else:
            task = hook.get_batch_task(task.task_id)
        if joined and targets is not None:
            results = hook.read_stopped_targets(task.task_id, targets)
            self._push_targets(context, results)
        outcome = "stopping" if whole and not task.status.is_terminal else "stopped"
        succeeded = None if len(results) else max(0, task.progress.stopped - stopped_before)
        return self._report(context, outcome, task, requested, results, succeeded)

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
            result = self._tell(context, "stopping", task, requested, results)
            context["ti"].xcom_push(key="return_value", value=result)
            raise

    def _already_ended(self, context: Context, task: BatchTask, requested: int) -> dict[str, Any]:
        result = self._report(context, "already_ended", task, requested)
        message = f"Batch task {task.task_id} had already ended as {task.status}: {task.progress}."
        if self.if_ended == "succeed":
            self.log.info("%s Nothing to stop.", message)
            return result
        context["ti"].xcom_push(key="return_value", value=result)
        if self.if_ended == "skip":
            raise AirflowSkipException(message)
        raise AirflowFailException(f"{message} (if_ended is 'fail')")

    def _push_targets(self, context: Context, results: TargetResults) -> list[dict[str, Any]]:
        failures = failed_rows(results, self.ignore_error_codes)
        limit = xcom_limit(self.max_xcom_targets)
        ti = context["ti"]
        ti.xcom_push(key="failed_targets", value=failures[:limit])
        ti.xcom_push(
            key="succeeded_targets", value=[result.target for result in results.succeeded[:limit]]
        )
        return failures

    def _tell(
        self,
        context: Context,
        outcome: str,
        task: BatchTask | None,
        requested: int = 0,
        results: TargetResults = _NO_RESULTS,
        succeeded: int | None = None,
    ) -> dict[str, Any]:
        """Push, write and log what came of it; the result, not pushed yet."""
        failures = self._push_targets(context, results)
        result = {
            "batch_task_id": self.batch_task_id,
            "outcome": outcome,
            "status": str(task.status) if task else None,
            "requested": requested,
            "succeeded": len(results.succeeded) if succeeded is None else succeeded,
            "failed": len(failures),
            "failed_truncated": len(failures) > xcom_limit(self.max_xcom_targets),
            "progress": task.progress.to_dict() if task else {},
            "report_path": self.report_path,
        }
        self.log.info(
            "Stop of batch task %s: %s; %d of %d target(s) stopped, %d failed%s.",
            self.batch_task_id,
            outcome,
            result["succeeded"],
            requested,
            len(failures),
            f"; now {task.status}: {task.progress}" if task else "",
        )
        for row in failures[:10]:
            self.log.warning(
                "Not stopped: %s (%s %s)", row["target"], row["error_code"], row["error_msg"]
            )
        if self.report_path:
            # A file that can't be written must not hide what the platform has done already.
            context["ti"].xcom_push(key="return_value", value=result)
            write_report(self.report_path, failures)
        return result

    def _report(
        self,
        context: Context,
        outcome: str,
        task: BatchTask | None,
        requested: int = 0,
        results: TargetResults = _NO_RESULTS,
        succeeded: int | None = None,
    ) -> dict[str, Any]:
        """Tell what came of it, and act on failed targets."""
        result = self._tell(context, outcome, task, requested, results, succeeded)
        if not result["failed"] or self.on_target_failure == "report":
            return result
        context["ti"].xcom_push(key="return_value", value=result)
        message = (
            f"{result['failed']} of {requested} target(s) of batch task {self.batch_task_id} were "
            "not stopped"
        )
        if self.on_target_failure == "skip":
            raise AirflowSkipException(f"{message}.")
        first = failed_rows(results, self.ignore_error_codes)[0]
        raise TargetFailuresError(
            f"{message}, first {first['target']}: {first['error_code']} {first['error_msg']}. All "
            f"are in XCom failed_targets{f' and at {self.report_path}' if self.report_path else ''}"
            ".",
            results.failed,
        )


def _unfinished(task: BatchTask) -> int:
    """How many targets a stop may reach, by the platform's counts, which may be a torn read."""
    counts = task.progress
    return max(0, counts.total - counts.finished - counts.stopped - counts.removed)


def _dag_leaves_targets_out(operator: StopBatchTaskOperator, context: Context) -> bool:
    """Whether ``targets`` is left out, or None, in the DAG itself and not in what it maps over."""
    ti: Any = context["ti"]
    if getattr(ti, "map_index", -1) < 0:
        return True
    dag: Any = context["dag"]
    mapped = dag.get_task(ti.task_id)
    partial = getattr(mapped, "partial_kwargs", None)
    if partial is None or "targets" in partial:  # in a mapped task group it is not mapped itself
        return True
    if "targets" in getattr(operator, "_BaseOperator__init_kwargs", {"targets": None}):
        return False
    # expand_kwargs() over an XCom: whether one of its rows names targets is not up to the DAG.
    return isinstance(mapped.expand_input.value, (Mapping, list, tuple))
