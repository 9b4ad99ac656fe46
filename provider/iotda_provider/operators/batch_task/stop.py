"""The operator that stops a batch task, or some of its targets, and reports each result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSkipException,
    Context,
    conf,
)

from iotda_provider.airflow_support.deferral import DeferrableTask
from iotda_provider.airflow_support.task_notes import owner_of
from iotda_provider.airflow_support.trigger_events import TIMEOUT, Event
from iotda_provider.exceptions import (
    BatchTaskTimeoutError,
    IoTDAApiError,
    IoTDAError,
    TaskNotStoppableError,
)
from iotda_provider.models import BatchTask, TargetResult, TaskStatus
from iotda_provider.notifications.telling_task import TellingTask
from iotda_provider.operators.batch_task.stop_notices import StopNotices
from iotda_provider.operators.batch_task.stop_record import StopRecord
from iotda_provider.operators.batch_task.targets import TargetCounts, TargetsOperator, in_batches
from iotda_provider.rollout_guard.live_in_worker import LiveStop
from iotda_provider.rollout_guard.live_record import HEADER_KEY, StopLiveState, header
from iotda_provider.rollout_guard.package_version import read_package_version
from iotda_provider.task_io.dag_parameters import flag, one_of
from iotda_provider.task_io.parameters import positive
from iotda_provider.task_io.reports import check_report_path, own_report_path, push_xcom
from iotda_provider.waiting.deadline import Deadline
from iotda_provider.waiting.task_wait import BEGUN, ENDED, TaskWait

if TYPE_CHECKING:
    from iotda_provider.hooks.iotda import IoTDAHook


class StopBatchTaskOperator(TellingTask, DeferrableTask, TargetsOperator):
    """Stop a firmware or software upgrade: the whole batch task, or some of its devices.

    Stopping twice is harmless: if the task is already being stopped, the operator joins that stop.
    The platform refuses to stop a task that is Initializing: the operator asks again until the stop
    is accepted, the task has ended, or ``timeout`` is over.

    The whole task is stopped only if ``targets`` is left out or is literally None in the DAG. A
    template that renders to None, ``"None"`` or empty text is an error, and an empty list stops
    nothing.

    XComs: the return value ``{"batch_task_id", "outcome": "stopped" | "already_ended" | "stopping",
    "status", "requested", "succeeded", "failed", "failed_truncated", "progress", "report_path"}``;
    ``failed_targets``, rows of ``{"target", "error_code", "error_msg", "failure_class"}``;
    ``succeeded_targets``, device ids; ``rollout``, what is stopped; and ``live``, the progress of
    the stop. For a whole task ``requested`` counts the devices that had not finished when the stop
    was sent, and ``succeeded`` those that it stopped.

    If the task had already ended, no stop is sent, so no target has a result.

    A stop does not interrupt a device that is installing: that device may still end as Success.

    :param batch_task_id: the task to stop (templated)
    :param targets: device ids to stop; None stops the whole task (templated)
    :param iotda_conn_id: the connection (templated)
    :param project_id: instead of the connection's (templated)
    :param instance_id: instead of the connection's (templated)
    :param if_ended: what to do if the task has already ended: ``succeed``, ``skip`` or ``fail``
    :param on_target_failure: what to do if targets could not be stopped: ``report`` (XComs only),
        ``fail`` (no retries) or ``skip``
    :param ignore_error_codes: a target with one of these error codes does not count as failed
    :param wait_for_completion: wait until a stopped task has ended
    :param poll_interval: seconds between two looks while waiting
    :param timeout: seconds to wait, at most
    :param deferrable: wait in the triggerer instead of in the worker
    :param notifiers: Airflow's notifiers that tell people of the stop, or that it failed. In a
        template, ``message`` is the message, and ``event`` has ``kind`` (``stopped`` or
        ``stop_failed``), ``sentence``, ``severity``, ``link``, ``batch_task_ids``, ``time`` and
        ``progress``
    :param max_xcom_targets: the most targets in a list in XCom, and not more than Airflow's own
        limit
    :param report_path: URL of a file that gets every failed target, one JSON object a line
        (templated)
    :param max_outage: seconds for which the wait tolerates errors of the API
    """

    verb = "stop"
    done = "stopped"

    def __init__(
        self,
        *,
        if_ended: str = "succeed",
        wait_for_completion: bool = True,
        poll_interval: float = 10,
        timeout: float = 3600,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        notifiers: Iterable[Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.if_ended = one_of(if_ended, "if_ended", ("succeed", "skip", "fail"))
        self.wait_for_completion = flag(wait_for_completion, "wait_for_completion")
        self.poll_interval = positive(poll_interval, "poll_interval")
        self.timeout = positive(timeout, "timeout")
        self.deferrable = flag(deferrable, "deferrable")
        # A worker tells people, also after a deferral.
        self._tell_to(notifiers, deferrable=False)

    def execute(self, context: Context) -> dict[str, Any]:
        return self._telling(context, partial(self._work, context, began=time.time()))

    def _telling(self, context: Context, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Do the work, and tell people what came of it."""
        notices = StopNotices(self, context)
        with notices.of_failures(self.batch_task_id):
            result = work()
        notices.stopped(result)
        return result

    def _work(self, context: Context, *, began: float) -> dict[str, Any]:
        from iotda_provider.api import check_task_id
        from iotda_provider.procedures.target_results import is_refusal

        task_id = check_task_id(self.batch_task_id)
        self.report_path = own_report_path(self, context)
        targets = self.requested_targets(context)
        if targets == []:
            return self.nothing_asked(context)
        with self.hook() as hook:
            task = hook.get_batch_task(task_id)
            self.log.info(
                "Batch task %s (%s) is %s: %s.",
                task.task_id,
                task.task_name,
                task.status,
                task.progress,
            )
            if task.status.is_terminal:
                self._introduce(context, task, read_package_version(hook.get_ota_package, [task]))
            else:
                self._introduce(context, task)
            while True:
                record = StopRecord.of(context, task, targets, began=began)
                if task.status.is_terminal and not record.again:
                    return self._already_ended(context, task, record)
                try:
                    results = self._send(context, hook, task, targets, record)
                    break
                except TaskNotStoppableError as error:
                    if error.status is None or not error.status.is_terminal:
                        raise
                    # It ended between the look and the stop.
                    task = hook.get_batch_task(task.task_id)
                    return self._already_ended(context, task, record)
                except IoTDAApiError as error:
                    if not is_refusal(error):
                        raise
                    before, task = task.status, hook.get_batch_task(task.task_id)
                    # It may have begun since it was refused.
                    if TaskStatus.INITIALIZING not in (before, task.status):
                        raise
                    self.log.warning("It can't be stopped yet; asking again: %s", error)
                task = self._wait_until_begun(context, hook, record)
            counts = self.push_targets(context, record.outcome, task, record.requested, results)
            record = replace(record, counts=counts, sent_at=time.time())
            self._introduce(context, task, read_package_version(hook.get_ota_package, [task]))
            live = self._live(context, record)
            live.show(task)
            if not (record.whole and self.wait_for_completion):
                task = hook.get_batch_task(task.task_id)
                return self._conclude(context, hook, task, record)
            if self.deferrable and not task.status.is_terminal:
                self._defer(context, record, ENDED, self.timeout)
            try:
                task = self.wait_in_worker(
                    hook,
                    TaskWait(task_id),
                    poll_interval=self.poll_interval,
                    timeout=self.timeout,
                    show=live.show,
                )
            except IoTDAError as error:
                task = self._interrupted(context, hook, error, record)
            return self._conclude(context, hook, task, record)

    def _send(
        self,
        context: Context,
        hook: IoTDAHook,
        task: BatchTask,
        targets: list[str] | None,
        record: StopRecord,
    ) -> Iterable[TargetResult]:
        from iotda_provider.procedures.target_results import not_stoppable

        if task.status.is_terminal:
            self.log.info("An earlier try of this task has stopped it.")
            return ()
        if (error := not_stoppable(task)) is not None:
            raise error
        record.keep(context)
        if task.status.is_stop:
            self.log.info("It is being stopped already: joining that stop.")
            return ()
        what = "the whole task" if targets is None else f"{len(targets)} target(s)"
        self.log.info("Stopping %s.", what)
        if targets is None:
            return hook.stop_batch_task(task.task_id)
        return in_batches(partial(hook.stop_batch_task, task.task_id), targets, self.log)

    def _wait_until_begun(self, context: Context, hook: IoTDAHook, record: StopRecord) -> BatchTask:
        """Wait until the task is not Initializing any more, and return it.

        :raises BatchTaskTimeoutError: that takes longer than this task may wait
        """
        record.forget(context)  # the platform has refused this stop
        wait = TaskWait(self.batch_task_id, BEGUN)
        left = max(0.0, record.began + self.timeout - time.time())
        if self.deferrable and left:
            self._defer(context, record, BEGUN, left)
        try:
            return self.wait_in_worker(
                hook,
                wait,
                poll_interval=self.poll_interval,
                timeout=left,
                show=self._live(context, record).show,
            )
        except BatchTaskTimeoutError:
            self._push_result_so_far(context, None, record)
            raise self._never_stopped() from None

    def _never_stopped(self) -> BatchTaskTimeoutError:
        return BatchTaskTimeoutError(
            f"Batch task {self.batch_task_id} could NOT be stopped: after {self.timeout:.0f} s it "
            "is still Initializing, in which the platform refuses a stop. Clear this task to ask "
            "again."
        )

    def _defer(
        self,
        context: Context,
        record: StopRecord,
        target_statuses: Sequence[str],
        timeout: float,
    ) -> NoReturn:
        """Defer. ``self`` does not survive that, so the trigger carries the record."""
        from iotda_provider.triggers.batch_task import BatchTaskTrigger

        now = time.time()
        deadline = Deadline.of(timeout, self.execution_timeout, began=record.began, now=now)
        trigger = BatchTaskTrigger(
            batch_task_id=self.batch_task_id,
            target_statuses=target_statuses,
            **self.connection,
            poll_interval=self.poll_interval,
            deadline=deadline.at,
            limit=deadline.limit,
            max_outage=self.max_outage,
            memo=record.memo(context),
            live={"owner": owner_of(context["ti"]), "sent_at": record.sent_at},
        )
        self.wait_in_triggerer(trigger, deadline, self.poll_interval)

    def _introduce(self, context: Context, task: BatchTask, version: str | None = None) -> None:
        """Write the XCom ``rollout``; once more with the version, which no stop waits for."""
        about = header(
            "stop",
            [task.task_id],
            [task],
            version=version,
            poll_interval=self.poll_interval,
            **self.connection,
        )
        push_xcom(context, HEADER_KEY, about, self.log)

    def _live(self, context: Context, record: StopRecord) -> LiveStop:
        state = StopLiveState(self.batch_task_id, self.poll_interval, record.sent_at)
        return LiveStop(context, state, self.log)

    def waited_for(self, context: Context) -> Sequence[str]:
        return (self.batch_task_id,)

    def resumed(self, context: Context, event: Event) -> dict[str, Any]:
        return self._telling(context, partial(self._go_on, context, event))

    def _go_on(self, context: Context, event: Event) -> dict[str, Any]:
        self.report_path = check_report_path(self.report_path)
        try:
            record = StopRecord.from_memo(event.memo, self.batch_task_id)
        except (KeyError, TypeError, ValueError):
            raise IoTDAError(
                "The trigger's event does not say what was stopped. Clear this task to ask again."
            ) from None
        if record.counts is None:
            return self._ask_again(context, event, record)
        with self.hook() as hook:
            task = event.task
            if task is None:
                if event.limit == "execution_timeout":
                    raise self.execution_timeout_error()
                error = event.error or TaskWait(self.batch_task_id).timeout_error(self.timeout)
                task = self._interrupted(context, hook, error, record)
            return self._conclude(context, hook, task, record)

    def _ask_again(self, context: Context, event: Event, record: StopRecord) -> dict[str, Any]:
        """Ask again: the task was Initializing, and is not any more."""
        if event.task is not None:
            return self._work(context, began=record.began)
        if event.limit == "execution_timeout":
            raise self.execution_timeout_error()
        self._push_result_so_far(context, None, record)
        raise event.error or self._never_stopped()

    def without_triggerer(self, context: Context) -> dict[str, Any]:
        memo = StopRecord.memo_in_xcom(context) or {}
        limit = self.earlier_limit(self.timeout)
        return self.resumed(context, Event(TIMEOUT, limit=limit, memo=memo))

    def _interrupted(
        self, context: Context, hook: IoTDAHook, error: IoTDAError, record: StopRecord
    ) -> BatchTask:
        """Return the task if it has ended by now; otherwise push the result so far, and raise.

        :raises IoTDAError: the error that ended the wait
        """
        task = None
        if isinstance(error, BatchTaskTimeoutError):
            with suppress(IoTDAError):
                task = hook.get_batch_task(self.batch_task_id)
            if task is not None and task.status.is_terminal:
                return task
        self._push_result_so_far(context, task, record)
        raise error

    def _conclude(
        self, context: Context, hook: IoTDAHook, task: BatchTask, record: StopRecord
    ) -> dict[str, Any]:
        """Report a stop that is complete, or whose end is not waited for."""
        outcome = "stopped" if task.status.is_terminal else record.outcome
        self._live(context, record).settle(outcome, task)
        counts = record.counts or TargetCounts()
        succeeded = None if counts.rows else max(0, task.progress.stopped - record.stopped_before)
        if record.joined:
            targets = self.requested_targets(context) or []
            results = hook.read_stopped_targets(task.task_id, targets)
            counts = self.push_targets(context, outcome, task, record.requested, results)
            succeeded = None
        # What was stopped had not finished, though the platform may have shown no counts before.
        requested = max(record.requested, succeeded or 0)
        try:
            result = self.report(context, outcome, task, requested, counts, succeeded)
        except (AirflowFailException, AirflowSkipException):  # there is no further try
            record.forget(context)
            raise
        record.forget(context)
        return result

    def _push_result_so_far(
        self, context: Context, task: BatchTask | None, record: StopRecord
    ) -> None:
        """Push the result so far, before an error is raised."""
        self._live(context, record).settle(record.outcome, task)
        counts = record.counts or TargetCounts()
        self.push_result(context, record.outcome, task, record.requested, counts)

    def _already_ended(
        self, context: Context, task: BatchTask, record: StopRecord
    ) -> dict[str, Any]:
        self._live(context, record).settle("already_ended", task)
        counts = self.push_targets(context, "already_ended", task, record.requested, ())
        result = self.report(context, "already_ended", task, record.requested, counts)
        message = f"Batch task {task.task_id} had already ended as {task.status}: {task.progress}."
        if self.if_ended == "succeed":
            self.log.info("%s Nothing to stop.", message)
            return result
        context["ti"].xcom_push(key="return_value", value=result)
        if self.if_ended == "skip":
            raise AirflowSkipException(message)
        raise AirflowFailException(f"{message} (if_ended is 'fail')")
