"""The operator that collects which devices failed in a rollout, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Context

from iotda_provider.models.text import one_line
from iotda_provider.operators.base import CONNECTION_FIELDS, IoTDABaseOperator
from iotda_provider.task_io.dag_parameters import ids_or_template, one_of, text_or_template
from iotda_provider.task_io.parameters import batch_task_ids, whole_number
from iotda_provider.task_io.reports import (
    checked_classes,
    own_report_path,
    write_report,
    xcom_limit,
)

if TYPE_CHECKING:
    from iotda_provider.guards import FailureClasses
    from iotda_provider.hooks.iotda import IoTDAHook

_CLASSES = ("environment", "firmware", "unknown")
_ENVIRONMENT, _FIRMWARE, _UNKNOWN = _CLASSES
#: How many different reasons are counted, how many of them XCom ``reasons`` has, how many devices
#: it names of each, and how many characters a reason has.
_MOST_REASONS, _REASONS_SHOWN, _FIRST_DEVICES, _LONGEST_REASON = 1000, 10, 3, 160


class CollectFailedSubtasksOperator(IoTDABaseOperator):
    """Collect the devices that failed in a batch task, with each error and its class.

    Returns rows of ``{"target", "error_code", "error_msg", "failure_class"}``: at most
    ``max_xcom_targets`` of them, and not more than Airflow's limit for mapped tasks, so that a task
    can be mapped over them. The file at ``report_path`` gets all rows. The operator reads fifty
    rows a call, in constant memory.

    XComs: the return value; ``failed``, the number of all rows; ``truncated``, whether the return
    value leaves rows out; ``failures_by_class``, the number of rows of each class; and ``reasons``,
    ``{"by_class", "reasons", "report_path"}``: the ten most frequent reasons, each with its number
    of rows (``count``) and the first three devices (``targets``).

    :param batch_task_id: the batch task, or the list of the batch tasks of one rollout (templated)
    :param failure_classes: how failures are classed; None: the default classes
    :param only_class: collect only failures of this class; None: of all
    :param max_xcom_targets: the most rows that are returned
    :param report_path: URL of a file that gets every row, one JSON object a line (templated)
    :param iotda_conn_id: the connection (templated)
    :param project_id: instead of the connection's (templated)
    :param instance_id: instead of the connection's (templated)
    """

    template_fields: Sequence[str] = ("batch_task_id", "report_path", *CONNECTION_FIELDS)

    def __init__(
        self,
        *,
        batch_task_id: str | Sequence[str],
        failure_classes: FailureClasses | Mapping[str, str] | None = None,
        only_class: str | None = None,
        max_xcom_targets: int = 1000,
        report_path: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.batch_task_id = ids_or_template(batch_task_id)
        self.failure_classes = checked_classes(failure_classes)
        self.only_class = None if only_class is None else one_of(only_class, "only_class", _CLASSES)
        self.max_xcom_targets = whole_number(max_xcom_targets, "max_xcom_targets", zero=True)
        self.report_path = text_or_template(report_path, "report_path", optional=True)
        self._report_template = report_path

    def execute(self, context: Context) -> list[dict[str, Any]]:
        ids = batch_task_ids(self.batch_task_id)
        path = own_report_path(self, context)
        limit = xcom_limit(self.max_xcom_targets)
        kept: list[dict[str, Any]] = []
        counts: Counter[str] = Counter(dict.fromkeys(_CLASSES, 0))
        reasons = _Reasons()

        def rows(hook: IoTDAHook) -> Iterator[dict[str, Any]]:
            for row in self._rows(hook, ids):
                counts[row["failure_class"]] += 1
                reasons.add(row)
                if len(kept) < limit:
                    kept.append(row)
                yield row

        with self.hook() as hook:
            write_report(path, rows(hook))
        self._push_counts(context, ids, counts, len(kept), path)
        ti: Any = context["ti"]
        found = {"by_class": dict(counts), "reasons": reasons.most(), "report_path": path}
        ti.xcom_push(key="reasons", value=found)
        return kept

    def _rows(self, hook: IoTDAHook, ids: Sequence[str]) -> Iterator[dict[str, Any]]:
        from iotda_provider.guards import FailureClasses

        classes = FailureClasses.of(self.failure_classes)
        for batch_task_id in ids:
            for row in hook.iter_subtasks(batch_task_id, status="Fail"):
                failure_class = classes.classify(row.error_code, row.error_msg)
                if self.only_class in (None, failure_class):
                    yield {
                        "target": row.target,
                        "error_code": row.error_code,
                        "error_msg": row.error_msg,
                        "failure_class": failure_class,
                    }

    def _push_counts(
        self,
        context: Context,
        ids: Sequence[str],
        counts: Mapping[str, int],
        returned: int,
        path: str | None,
    ) -> None:
        failed = sum(counts.values())
        ti: Any = context["ti"]
        ti.xcom_push(key="failed", value=failed)
        ti.xcom_push(key="truncated", value=returned < failed)
        ti.xcom_push(key="failures_by_class", value=dict(counts))
        self.log.info(
            "%d device(s) failed in batch task %s: %d by their environment, %d by the firmware, %d "
            "unknown.",
            failed,
            ", ".join(ids),
            counts[_ENVIRONMENT],
            counts[_FIRMWARE],
            counts[_UNKNOWN],
        )
        if returned < failed:
            self.log.warning(
                "Only the first %d are returned%s.",
                returned,
                f"; all are at {path}" if path else ": give a report_path to have all of them",
            )


class _Reasons:
    """Counts failures by their reason, in constant memory, with the first devices of each."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._first: dict[tuple[str, str, str], list[str]] = {}

    def add(self, row: Mapping[str, Any]) -> None:
        texts = (row["error_code"] or "", row["error_msg"] or "")
        reason = (row["failure_class"], *(one_line(text, _LONGEST_REASON) for text in texts))
        if reason not in self._counts and len(self._counts) >= _MOST_REASONS:
            reason = (row["failure_class"], "", "")
        self._counts[reason] += 1
        first = self._first.setdefault(reason, [])
        if len(first) < _FIRST_DEVICES:
            first.append(row["target"])

    def most(self) -> list[dict[str, Any]]:
        """The most frequent reasons as plain JSON."""
        return [
            {
                "failure_class": reason[0],
                "error_code": reason[1],
                "error_msg": reason[2],
                "count": count,
                "targets": self._first[reason],
            }
            for reason, count in self._counts.most_common(_REASONS_SHOWN)
        ]
