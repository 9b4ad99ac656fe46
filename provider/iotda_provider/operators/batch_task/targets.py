"""What the operators that act on targets share: which targets, and how results are reported."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowSkipException

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

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

#: Targets whose results are in memory at a time: 16 calls of 100, as many as are under way at once.
BATCH = 1600
Ask = Callable[[list[str]], Iterable[TargetResult]]
#: How many failures the log shows.
_MOST_SHOWN = 10


@dataclass(frozen=True)
class TargetCounts:
    """How many targets were answered for, and with what.

    :param rows: for how many targets the platform said what came of it
    :param failed: for how many it did not succeed, the harmless left out
    :param first: the first of these, in words
    """

    rows: int = 0
    succeeded: int = 0
    failed: int = 0
    first: str = ""


class TargetsOperator(IoTDABaseOperator):
    """An operator that asks something of a whole batch task, or of some of its targets.

    The whole task is meant only where ``targets`` was left out or is literally None in the DAG; a
    template that renders to None, ``"None"`` or empty text is an error, and an empty list asks
    nothing of the platform.

    :param batch_task_id: the task (templated)
    :param targets: device ids; None means the whole task (templated)
    :param on_target_failure: what targets mean for which it did not succeed: ``report`` (XComs
        only), ``fail`` (no retries) or ``skip``
    :param ignore_error_codes: error codes of targets that do not count as failures
    :param max_xcom_targets: the most targets that a list in XCom holds; Airflow's own limit holds
        too
    :param report_path: URL of a file that gets every failed target, one JSON object a line
        (templated)
    """

    template_fields: Sequence[str] = ("batch_task_id", "targets", "report_path", *CONNECTION_FIELDS)

    #: What is done, and what has been done, in words for the log.
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
        # Said once, here: what a template renders to later can never become "the whole task".
        self._whole_task = targets is None
        self.on_target_failure = one_of(
            on_target_failure, "on_target_failure", ("report", "fail", "skip")
        )
        self.ignore_error_codes = texts(ignore_error_codes, "ignore_error_codes")
        self.max_xcom_targets = whole_number(max_xcom_targets, "max_xcom_targets", zero=True)
        self.report_path = text_or_template(report_path, "report_path", optional=True)
        self._report_template = report_path

    def requested_targets(self, context: Context) -> list[str] | None:
        """The targets, each once, or None for the whole task: only where the DAG itself says so.

        :raises IoTDAConfigError: they are no list of device ids, or were rendered away
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
        """The result for an empty list of targets: nothing was sent."""
        self.log.info("targets is an empty list: nothing is %s.", self.done)
        counts = self.tell(context, self.done, None, 0, ())
        return self.report(context, self.done, None, 0, counts)

    def tell(
        self,
        context: Context,
        outcome: str,
        task: BatchTask | None,
        requested: int,
        results: Iterable[TargetResult],
    ) -> TargetCounts:
        """Push both lists, bounded, and write every failure as it comes: all the rows are for.

        :raises Exception: what went wrong with the report, after the XComs are pushed
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
        """What the operator returns."""
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
        """Push what would be returned, where an error is raised instead."""
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
        """Log what came of it, and act on failed targets.

        :raises TargetFailuresError: targets failed, and ``on_target_failure`` is ``fail``
        :raises AirflowSkipException: targets failed, and it is ``skip``
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
    """Whether ``targets`` is left out, or None, in the DAG itself and not in what it maps over."""
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
    # Of rows that come from elsewhere, nobody knows here whether they name targets.
    return isinstance(mapped_over, Mapping) and "targets" not in mapped_over


def in_batches(ask: Ask, targets: list[str], log: Log) -> Iterable[TargetResult]:
    """One definite result for each target, in their order, as they come.

    The first batch is asked at once. An error of a later one must not lose the results of those
    before: it becomes the result of each of its targets.

    :param ask: the hook's method for some targets
    :raises IoTDAError: the first batch failed as a whole
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
