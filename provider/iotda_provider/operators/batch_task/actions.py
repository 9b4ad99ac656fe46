"""The operators that confirm, retry, delete and list batch tasks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException, Context

from iotda_provider.exceptions import IoTDAConfigError, IoTDANotFoundError
from iotda_provider.models import BatchTask, TargetResult, TargetResults
from iotda_provider.operators.base import CONNECTION_FIELDS, IoTDABaseOperator
from iotda_provider.operators.batch_task.targets import TargetsOperator, in_batches
from iotda_provider.task_io.dag_parameters import id_or_template, one_of, text_or_template
from iotda_provider.task_io.parameters import as_text, whole_number
from iotda_provider.task_io.reports import own_report_path, write_report, xcom_limit
from iotda_provider.waiting.outage import is_gone

if TYPE_CHECKING:
    from iotda_provider.hooks.iotda import IoTDAHook


class CallForTargetsOperator(TargetsOperator):
    """Makes one kind of call for targets, and does not wait for them; subclasses make the call."""

    @abstractmethod
    def affected(self, task: BatchTask) -> int:
        """How many targets a call for the whole task reaches, at most."""

    @abstractmethod
    def ask(self, hook: IoTDAHook, task_id: str, targets: list[str] | None) -> TargetResults:
        """Make the call.

        :param targets: None for the whole task
        """

    def execute(self, context: Context) -> dict[str, Any]:
        from iotda_provider.api import check_task_id

        task_id = check_task_id(self.batch_task_id)
        self.report_path = own_report_path(self, context)
        targets = self.requested_targets(context)
        if targets == []:
            return self.nothing_asked(context)
        with self.hook() as hook:
            before = hook.get_batch_task(task_id)
            self.log.info("Batch task %s is %s: %s.", task_id, before.status, before.progress)
            requested = self.affected(before) if targets is None else len(targets)
            ask = partial(self.ask, hook, task_id)
            results: Iterable[TargetResult]
            results = ask(None) if targets is None else in_batches(ask, targets, self.log)
            counts = self.push_targets(context, self.done, before, requested, results)
            after = hook.get_batch_task(task_id)
        # The answer to a call for the whole task may have no rows.
        succeeded = requested if targets is None and not counts.rows else None
        return self.report(context, self.done, after, requested, counts, succeeded)


class ConfirmBatchTaskOperator(CallForTargetsOperator):
    """Confirm targets of a batch task that was created with ``need_confirm``, so that they start.

    All waiting targets are confirmed only if ``targets`` is left out or is literally None in the
    DAG. An empty list confirms nothing. Confirming twice is harmless.

    XComs: the return value ``{"batch_task_id", "outcome": "confirmed", "status", "requested",
    "succeeded", "failed", "failed_truncated", "progress", "report_path"}``, ``failed_targets`` and
    ``succeeded_targets``. For a whole task ``requested`` counts the targets that were waiting.

    The parameters are those of ``TargetsOperator``.
    """

    verb = "confirm"
    done = "confirmed"

    def affected(self, task: BatchTask) -> int:
        return task.progress.waiting

    def ask(self, hook: IoTDAHook, task_id: str, targets: list[str] | None) -> TargetResults:
        return hook.confirm_batch_task(task_id, targets)


class RetryBatchTaskOperator(CallForTargetsOperator):
    """Start failed and stopped targets of a batch task again.

    All of them are started only if ``targets`` is left out or is literally None in the DAG. An
    empty list starts nothing. The platform refuses to retry a task that was stopped as a whole:
    create a new task for its targets instead. The call is not repeated when its answer is lost.

    XComs: the return value ``{"batch_task_id", "outcome": "retried", "status", "requested",
    "succeeded", "failed", "failed_truncated", "progress", "report_path"}``, ``failed_targets`` and
    ``succeeded_targets``. For a whole task ``requested`` counts the targets that had failed or were
    stopped.

    The parameters are those of ``TargetsOperator``.
    """

    verb = "retry"
    done = "retried"

    def affected(self, task: BatchTask) -> int:
        return task.progress.fail + task.progress.fail_wait_retry + task.progress.stopped

    def ask(self, hook: IoTDAHook, task_id: str, targets: list[str] | None) -> TargetResults:
        return hook.retry_batch_task(task_id, targets)


class DeleteBatchTaskOperator(IoTDABaseOperator):
    """Delete a batch task that has ended, with its record of what happened to each device.

    By default a task that does not exist counts as deleted, so a retry after a lost answer
    succeeds.

    XCom: the return value ``{"batch_task_id", "outcome": "deleted" | "already_gone"}``.

    :param batch_task_id: the task (templated)
    :param if_missing: what to do if the task does not exist: ``succeed``, ``skip`` or ``fail``
    :param iotda_conn_id: the connection (templated)
    :param project_id: instead of the connection's (templated)
    :param instance_id: instead of the connection's (templated)
    """

    template_fields: Sequence[str] = ("batch_task_id", *CONNECTION_FIELDS)

    def __init__(self, *, batch_task_id: str, if_missing: str = "succeed", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batch_task_id = id_or_template(batch_task_id)
        self.if_missing = one_of(if_missing, "if_missing", ("succeed", "skip", "fail"))

    def execute(self, context: Context) -> dict[str, Any]:
        from iotda_provider.api import check_task_id

        task_id = check_task_id(self.batch_task_id)
        with self.hook() as hook:
            try:
                task = hook.get_batch_task(task_id)
                if not task.status.is_terminal:
                    raise IoTDAConfigError(
                        f"Batch task {task_id} is {task.status} ({task.progress}): only a task "
                        "that has ended can be deleted. Stop it first, or wait for its end."
                    )
                hook.delete_batch_task(task_id)
            except IoTDANotFoundError as error:
                if self.if_missing == "fail" or not is_gone(error):
                    raise
                if self.if_missing == "skip":
                    raise AirflowSkipException(f"Batch task {task_id} does not exist.") from None
                self.log.info("Batch task %s does not exist (any more).", task_id)
                return {"batch_task_id": task_id, "outcome": "already_gone"}
        self.log.info("Deleted batch task %s (%s, %s).", task_id, task.task_name, task.status)
        return {"batch_task_id": task_id, "outcome": "deleted"}


class ListBatchTasksOperator(IoTDABaseOperator):
    """List batch tasks, newest first. Tasks can be mapped over the list.

    Leave a filter out to list all tasks. One that a template renders to nothing is an error.

    XComs: the return value, a list of ``{"batch_task_id", "task_name", "task_type", "status",
    "status_desc", "progress", "create_time"}``, and ``truncated``: whether tasks are left out.

    :param task_type: only tasks of this type, such as ``firmwareUpgrade``; None: all types that
        upgrade firmware, software or modules, with one list call each (templated)
    :param status: only tasks in this status, such as ``Processing`` (templated)
    :param app_id: only tasks of this resource space (templated)
    :param max_tasks: the most tasks to return, and not more than Airflow's limit for mapped tasks
    :param report_path: URL of a file that gets every task, one JSON object a line (templated)
    :param iotda_conn_id: the connection (templated)
    :param project_id: instead of the connection's (templated)
    :param instance_id: instead of the connection's (templated)
    """

    template_fields: Sequence[str] = (
        "batch_task_type",
        "status",
        "app_id",
        "report_path",
        *CONNECTION_FIELDS,
    )

    def __init__(
        self,
        *,
        task_type: str | None = None,
        status: str | None = None,
        app_id: str | None = None,
        max_tasks: int = 1000,
        report_path: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # BaseOperator has a property task_type.
        self.batch_task_type = text_or_template(task_type, "task_type", optional=True)
        self.status = text_or_template(status, "status", optional=True)
        self.app_id = text_or_template(app_id, "app_id", optional=True)
        self.max_tasks = whole_number(max_tasks, "max_tasks")
        self.report_path = text_or_template(report_path, "report_path", optional=True)
        self._report_template = report_path
        # Decided here: whatever a template renders to later never means "all".
        given = {"task_type": task_type, "status": status, "app_id": app_id}
        self._filters = [name for name, value in given.items() if value is not None]

    def execute(self, context: Context) -> list[dict[str, Any]]:
        limit = xcom_limit(self.max_tasks)
        report_path = own_report_path(self, context)
        values = {"task_type": self.batch_task_type, "status": self.status, "app_id": self.app_id}
        only = {name: as_text(values[name], name) for name in self._filters}
        with self.hook() as hook:
            found = (task.to_dict() for task in hook.list_batch_tasks(**only))
            kept = list(islice(found, limit))
            more = next(found, None)
            if report_path:
                rest = () if more is None else (more,)
                count = write_report(report_path, chain(kept, rest, found))
                self.log.info("Wrote %d batch task(s) to %s.", count, report_path)
        context["ti"].xcom_push(key="truncated", value=more is not None)
        self.log.info("Found %d batch task(s)%s.", len(kept), " and more, left out" if more else "")
        for row in kept[:20]:
            self.log.info("%s  %s  %s", row["batch_task_id"], row["status"], row["task_name"])
        return kept
