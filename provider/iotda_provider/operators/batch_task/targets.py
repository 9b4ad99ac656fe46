"""What the operators for targets share: reading the targets, and reporting their results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowSkipException, Context

from iotda_provider.exceptions import (
    IoTDAApiError,
    IoTDAConfigError,
    IoTDAError,
    TargetFailuresError,
)
from iotda_provider.models import BatchTask, TargetResult
from iotda_provider.models.log import Log
from iotda_provider.operators.base import CONNECTION_FIELDS, IoTDABaseOperator
from iotda_provider.task_io.dag_parameters import (
    id_or_template,
    list_or_template,
    one_of,
    text_or_template,
    texts,
)
from iotda_provider.task_io.parameters import as_list, whole_number
from iotda_provider.task_io.reports import Report, failed_row, xcom_limit

#: Targets whose results are in memory at a time: 16 calls of 100, which are sent side by side.
BATCH = 1600
Ask = Callable[[list[str]], Iterable[TargetResult]]
#: The most failures in the log.
_MOST_SHOWN = 10


@dataclass(frozen=True)
class TargetCounts:
    """The results of one call, counted.

    :param rows: targets for which the platform returned a result
    :param succeeded: targets of these for which the call succeeded
    :param failed: targets of these that failed, without those whose error code is ignored
    :param first: the first failure, as text
    """

    rows: int = 0
    succeeded: int = 0
    failed: int = 0
    first: str = ""


class TargetsOperator(IoTDABaseOperator):
    """An operator that makes a call for a whole batch task, or for some of its targets.

    The call is for the whole task only if ``targets`` is left out or is literally None in the DAG.
    A template that renders to None, ``"None"`` or empty text is an error, and for an empty list no
    call is made.

    :param batch_task_id: the task (templated)
    :param targets: device ids; None means the whole task (templated)
    :param on_target_failure: what to do if targets failed: ``report`` (XComs only), ``fail`` (no
        retries) or ``skip``
    :param ignore_error_codes: a target with one of these error codes does not count as failed
    :param max_xcom_targets: the most targets in a list in XCom, and not more than Airflow's own
        limit
    :param report_path: URL of a file that gets every failed target, one JSON object a line
        (templated)
    """

    template_fields: Sequence[str] = ("batch_task_id", "targets", "report_path", *CONNECTION_FIELDS)

    #: The call as a verb and as a past participle, for the log: ``stop`` and ``stopped``.
    verb: ClassVar[str]
    done: ClassVar[str]

    def __init__(
        self,
        *,
        batch_task_id: str,
        targets: Any = None,
        on_target_failure: str = "report",
        ignore_error_codes: Sequence[str] = (),
        max_xcom_targets: int = 1000,
        report_path: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.batch_task_id = id_or_template(batch_task_id)
        self.targets = list_or_template(targets, "targets", optional=True)
        # Decided here: whatever a template renders to later never means "the whole task".
        self._whole_task = targets is None
        self.on_target_failure = one_of(
            on_target_failure, "on_target_failure", ("report", "fail", "skip")
        )
        self.ignore_error_codes = texts(ignore_error_codes, "ignore_error_codes")
        self.max_xcom_targets = whole_number(max_xcom_targets, "max_xcom_targets", zero=True)
        self.report_path = text_or_template(report_path, "report_path", optional=True)
        self._report_template = report_path

    def requested_targets(self, context: Context) -> list[str] | None:
        """The targets, each once; None for the whole task, if the DAG itself says so.

        :raises IoTDAConfigError: they are no list of device ids, or were rendered to nothing
        """
        from iotda_provider.api import check_targets

        if not self._whole_task:
            return check_targets(as_list(self.targets, "targets"))
        if self.targets is not None or not _dag_leaves_targets_out(context):
            raise IoTDAConfigError(
                "targets came out of a mapping, or was set later, as None, or not at all; only the "
                "DAG itself can mean the whole task: pass targets=None to partial() (or leave it "
                f"out) to {self.verb} everything, or an empty list to {self.verb} nothing."
            )
        return None

    def nothing_asked(self, context: Context) -> dict[str, Any]:
        """The result for an empty list of targets: no call is made."""
        self.log.info("targets is an empty list: nothing is %s.", self.done)
        counts = self.push_targets(context, self.done, None, 0, ())
        return self.report(context, self.done, None, 0, counts)

    def push_targets(
        self,
        context: Context,
        outcome: str,
        task: BatchTask | None,
        requested: int,
        results: Iterable[TargetResult],
    ) -> TargetCounts:
        """Count the results, push both lists up to their limit, and write all failures down.

        :raises Exception: the report could not be written; the XComs are pushed before
        """
        limit = xcom_limit(self.max_xcom_targets)
        failures: list[dict[str, Any]] = []
        done: list[str] = []
        rows = succeeded = failed = 0
        with Report(self.report_path) as report:
            for result in results:
                rows += 1
                if result.succeeded:
                    succeeded += 1
                    if succeeded <= limit:
                        done.append(result.target)
                    continue
                if result.error_code in self.ignore_error_codes:
                    continue
                failed += 1
                row = failed_row(result)
                report.add(row)
                if failed <= max(limit, _MOST_SHOWN):
                    failures.append(row)
                if failed <= _MOST_SHOWN:
                    self.log.warning("Not %s: %s", self.done, _in_words(row))
        ti = context["ti"]
        ti.xcom_push(key="failed_targets", value=failures[:limit])
        ti.xcom_push(key="succeeded_targets", value=done)
        counts = TargetCounts(
            rows, succeeded, failed, first=_in_words(failures[0]) if failures else ""
        )
        if report.error is not None:
            self.push_result(context, outcome, task, requested, counts)
            raise report.error
        return counts

    def result(
        self,
        outcome: str,
        task: BatchTask | None,
        requested: int,
        counts: TargetCounts,
        succeeded: int | None = None,
    ) -> dict[str, Any]:
        """The operator's return value."""
        return {
            "batch_task_id": self.batch_task_id,
            "outcome": outcome,
            "status": str(task.status) if task else None,
            "requested": requested,
            "succeeded": counts.succeeded if succeeded is None else succeeded,
            "failed": counts.failed,
            "failed_truncated": counts.failed > xcom_limit(self.max_xcom_targets),
            "progress": task.progress.to_dict() if task else {},
            "report_path": self.report_path,
        }

    def push_result(self, context: Context, *args: Any, **kwargs: Any) -> None:
        """Push the return value as XCom, before an error is raised."""
        context["ti"].xcom_push(key="return_value", value=self.result(*args, **kwargs))

    def report(
        self,
        context: Context,
        outcome: str,
        task: BatchTask | None,
        requested: int,
        counts: TargetCounts,
        succeeded: int | None = None,
    ) -> dict[str, Any]:
        """Log the result, and do what ``on_target_failure`` says if targets failed.

        :raises TargetFailuresError: targets failed, and ``on_target_failure`` is ``fail``
        :raises AirflowSkipException: targets failed, and ``on_target_failure`` is ``skip``
        """
        result = self.result(outcome, task, requested, counts, succeeded)
        self.log.info(
            "%s batch task %s: %s; %d of %d target(s) %s, %d failed%s.",
            self.verb.capitalize(),
            self.batch_task_id,
            outcome,
            result["succeeded"],
            requested,
            self.done,
            counts.failed,
            f"; now {task.status}: {task.progress}" if task else "",
        )
        if not counts.failed or self.on_target_failure == "report":
            return result
        context["ti"].xcom_push(key="return_value", value=result)
        message = (
            f"{counts.failed} of {requested} target(s) of batch task {self.batch_task_id} were "
            f"not {self.done}"
        )
        if self.on_target_failure == "skip":
            raise AirflowSkipException(f"{message}.")
        raise TargetFailuresError(
            f"{message}, first {counts.first}. All are in XCom failed_targets"
            f"{f' and at {self.report_path}' if self.report_path else ''}."
        )


def _in_words(row: Mapping[str, Any]) -> str:
    return f"{row['target']}: {row['error_code']} {row['error_msg']}"


def _dag_leaves_targets_out(context: Context) -> bool:
    """Whether the DAG itself leaves ``targets`` out or gives None, also in what it maps over."""
    ti: Any = context["ti"]
    if getattr(ti, "map_index", -1) < 0:
        return True
    dag: Any = context["dag"]
    mapped = dag.get_task(ti.task_id)
    partial = getattr(mapped, "partial_kwargs", None)
    if partial is None or "targets" in partial:  # in a mapped task group it is not mapped itself
        return True
    mapped_over = mapped.expand_input.value
    if isinstance(mapped_over, (list, tuple)):  # expand_kwargs() with rows of the DAG itself
        mapped_over = mapped_over[ti.map_index]
    # Rows that come from another task may name targets; they can't be read here.
    return isinstance(mapped_over, Mapping) and "targets" not in mapped_over


def in_batches(ask: Ask, targets: list[str], log: Log) -> Iterable[TargetResult]:
    """Call for any number of targets, a batch at a time: one result for each target, in order.

    The call for the first batch is made at once, the others as the results are read. If the call
    for a later batch fails, its error becomes the result of each target in it, so that the results
    of earlier batches are not lost.

    :param ask: the hook's method, which takes the targets
    :raises IoTDAError: the call for the first batch failed
    """
    return chain(ask(targets[:BATCH]), _further(ask, targets, log))


def _further(ask: Ask, targets: list[str], log: Log) -> Iterator[TargetResult]:
    for start in range(BATCH, len(targets), BATCH):
        log.info("Asked for %d of %d target(s).", start, len(targets))
        batch = targets[start : start + BATCH]
        try:
            yield from ask(batch)
        except IoTDAError as error:
            code = error.error_code if isinstance(error, IoTDAApiError) else None
            log.error("Targets %d to %d: %s", start + 1, start + len(batch), error)
            for target in batch:
                yield TargetResult(target, False, code, str(error))
