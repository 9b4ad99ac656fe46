"""Operators that choose the path of a DAG by the result of a stop or of a rollout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BranchMixIn, Context

from iotda_provider.airflow_support.mapped_xcoms import MappedXComsAsLists
from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.models.text import what_is
from iotda_provider.operators.base import refuse_mapped
from iotda_provider.task_io.dag_parameters import count_or_template, list_or_template
from iotda_provider.task_io.parameters import as_count, as_mapping, as_rows, none_if_blank
from iotda_provider.task_io.reports import checked_classes

if TYPE_CHECKING:
    from iotda_provider.guards import FailureClasses

Path = str | Sequence[str]


class BranchOperator(MappedXComsAsLists, BranchMixIn):
    """Follows some of the tasks directly downstream and skips the others.

    The choice is pushed as XCom ``branch``, a list of task ids, before tasks are skipped, because
    on Airflow 3 a branch that skips tasks pushes no return value. The operator refuses to run
    mapped: Airflow skips nothing for a mapped branch, so every path would run.
    """

    inherits_from_skipmixin = True

    def follow(self, context: Context, task_ids: Sequence[str], why: str) -> Any:
        """Push and log a choice, and skip the other tasks.

        :param why: the reason for the choice, for the log
        """
        ti: Any = context["ti"]
        chosen = list(dict.fromkeys(task_ids))
        ti.xcom_push(key="branch", value=chosen)
        self.log.info("%s; following %s.", why, ", ".join(chosen) or "nothing: all is skipped")
        return self.do_branch(context, chosen or None)

    def refuse_mapped(self, context: Context) -> None:
        """Refuse to run mapped.

        :raises AirflowFailException: this is a mapped task instance
        """
        refuse_mapped(self, context, "Airflow would run every path")


def check_path(value: Any, name: str) -> tuple[str, ...]:
    """Check one task id or a list of them when the DAG is parsed.

    :raises ValueError: it is something else; the message names the parameter
    """
    ids = (value,) if isinstance(value, str) else value
    if (
        not isinstance(ids, Sequence)
        or not ids
        or not all(isinstance(item, str) and item for item in ids)
    ):
        raise ValueError(
            f"{name} must be a task id or a list of task ids, got "
            f"{what_is(value, instead_of='a list')}"
        )
    return tuple(ids)


class BranchOnTargetFailuresOperator(BranchOperator):
    """Choose paths by the targets that failed, and by their errors.

    Each failed target chooses the path of its error code, else that of its failure class, else
    ``if_some``. The paths of all failed targets are followed. A target without any path chooses
    nothing. If every requested target failed, ``if_all`` takes the place of ``if_some``, and is
    always followed. After a task that may fail or be skipped, this operator needs
    ``trigger_rule="all_done"``. A join behind it needs
    ``trigger_rule="none_failed_min_one_success"``.

    XCom: ``branch``, the task ids that were followed.

    :param failures: rows of ``{"target", "error_code", "error_msg"}``, such as the XCom
        ``failed_targets`` of a stop; for a mapped task the list of such lists (templated)
    :param requested: the number of requested targets, or the list of them; for a mapped task the
        list of numbers, which are added up; ``if_all`` needs it (templated)
    :param failed: the number of failed targets, in the same forms as ``requested``; None: the
        number of rows in ``failures``, which may have been cut off (templated)
    :param if_none: task id (or ids) to follow if no target failed
    :param if_some: task id (or ids) to follow if targets failed
    :param if_all: task id (or ids) to follow instead of ``if_some`` if all of them failed
    :param by_error_code: paths by error code
    :param by_failure_class: paths by ``environment``, ``firmware`` and ``unknown``
    :param failure_classes: how failures are classed if their rows have no ``failure_class``; None:
        the default classes
    """

    template_fields: Sequence[str] = ("failures", "requested", "failed")
    ui_color = "#f0ede4"

    def __init__(
        self,
        *,
        failures: Any,
        requested: Any = None,
        failed: Any = None,
        if_none: Path | None = None,
        if_some: Path | None = None,
        if_all: Path | None = None,
        by_error_code: Mapping[str, Path] | None = None,
        by_failure_class: Mapping[str, Path] | None = None,
        failure_classes: FailureClasses | Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.failure_classes = checked_classes(failure_classes)
        self.failures = list_or_template(failures, "failures")
        self.requested = None if requested is None else count_or_template(requested, "requested")
        self.failed = None if failed is None else count_or_template(failed, "failed")
        # Decided here: whatever a template renders to later never means "not given".
        self._has_requested = requested is not None
        self._has_failed = failed is not None
        self.if_none = None if if_none is None else check_path(if_none, "if_none")
        self.if_some = None if if_some is None else check_path(if_some, "if_some")
        self.if_all = None if if_all is None else check_path(if_all, "if_all")
        self.by_error_code = _check_mapping(by_error_code, "by_error_code")
        self.by_failure_class = _check_mapping(by_failure_class, "by_failure_class")
        unknown = set(self.by_failure_class) - {"environment", "firmware", "unknown"}
        if unknown:
            raise ValueError(
                f"by_failure_class takes environment, firmware and unknown, got {sorted(unknown)}"
            )
        if not any(
            (self.if_none, self.if_some, self.if_all, self.by_error_code, self.by_failure_class)
        ):
            raise ValueError(
                "give at least one of if_none, if_some, if_all, by_error_code, by_failure_class"
            )
        if self.if_all and requested is None:
            raise ValueError("if_all needs requested: how many targets were asked for")

    def execute(self, context: Context) -> Any:
        self.refuse_mapped(context)
        rows = [_check_row(row, at) for at, row in enumerate(as_rows(self.failures, "failures"))]
        failed = as_count(self.failed, "failed") if self._has_failed else len(rows)
        if not rows and not failed:
            return self.follow(context, self.if_none or (), "No target failed")
        all_failed = False
        if self._has_requested:
            requested = as_count(self.requested, "requested")
            all_failed = failed >= requested > 0
        fallback = (self.if_all if all_failed and self.if_all else self.if_some) or ()
        chosen: list[str] = []
        if all_failed and self.if_all:
            chosen.extend(self.if_all)
        for row in rows:
            chosen.extend(self._path(row, fallback))
        if failed > len(rows):
            # Failures that were cut off have no row, so no error code and no class.
            chosen.extend(fallback)
        why = f"{'All' if all_failed else 'Some'} targets failed ({failed})"
        return self.follow(context, chosen, why)

    def _path(self, row: Mapping[str, Any], fallback: Sequence[str]) -> Sequence[str]:
        by_code = self.by_error_code.get(str(row.get("error_code")))
        if by_code is not None:
            return by_code
        if self.by_failure_class:
            by_class = self.by_failure_class.get(self._failure_class(row))
            if by_class is not None:
                return by_class
        return fallback

    def _failure_class(self, row: Mapping[str, Any]) -> str:
        said = row.get("failure_class")
        if said is not None:
            return str(said)
        return self._classes.classify(row.get("error_code"), row.get("error_msg"))

    @cached_property
    def _classes(self) -> FailureClasses:
        from iotda_provider.guards import FailureClasses

        return FailureClasses.of(self.failure_classes)


class BranchOnVerdictOperator(BranchOperator):
    """Choose a path by the verdict of a :class:`RolloutGuardSensor`.

    ``stopped_elsewhere`` and ``lost`` follow ``if_breached`` unless they have a path of their own:
    only a completed rollout follows ``if_completed``. If there is no verdict, the operator fails.
    After a guard that may fail, it needs ``trigger_rule="all_done"`` (the guard pushes its verdict
    before it fails). A join behind it needs ``trigger_rule="none_failed_min_one_success"``.

    XCom: ``branch``, the task ids that were followed.

    :param verdict: the guard's return value, or only its ``verdict`` (templated)
    :param if_breached: task id (or ids) to follow if a rule was broken
    :param if_completed: if the rollout ran to its own end
    :param if_stopped_elsewhere: if somebody else has stopped the rollout; None: ``if_breached``
    :param if_lost: if the batch task is gone, or the guard's time was over; None: ``if_breached``
    """

    template_fields: Sequence[str] = ("verdict",)
    ui_color = "#f0ede4"

    def __init__(
        self,
        *,
        verdict: Any,
        if_breached: Path,
        if_completed: Path,
        if_stopped_elsewhere: Path | None = None,
        if_lost: Path | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.verdict = verdict
        self.if_breached = check_path(if_breached, "if_breached")
        self.if_completed = check_path(if_completed, "if_completed")
        self.if_stopped_elsewhere = (
            self.if_breached
            if if_stopped_elsewhere is None
            else check_path(if_stopped_elsewhere, "if_stopped_elsewhere")
        )
        self.if_lost = self.if_breached if if_lost is None else check_path(if_lost, "if_lost")

    def execute(self, context: Context) -> Any:
        self.refuse_mapped(context)
        from iotda_provider.rollout_guard.outcome import (
            BREACHED,
            COMPLETED,
            LOST,
            STOPPED_ELSEWHERE,
        )

        word, summary = _read_verdict(self.verdict)
        paths = {
            BREACHED: self.if_breached,
            COMPLETED: self.if_completed,
            STOPPED_ELSEWHERE: self.if_stopped_elsewhere,
            LOST: self.if_lost,
        }
        if word not in paths:
            raise IoTDAConfigError(
                f"verdict is {what_is(word)}, not one of {', '.join(paths)}: pass the return value "
                "of a RolloutGuardSensor."
            )
        return self.follow(context, paths[word], f"The verdict is {word}. {summary}".rstrip(". "))


def _read_verdict(value: Any) -> tuple[str, str]:
    """Read the verdict and its summary from a guard's return value, its JSON, or the verdict alone.

    :raises IoTDAConfigError: there is no verdict
    """
    if isinstance(value, str) and value.strip().startswith("{"):
        value = as_mapping(value, "verdict")
    if isinstance(value, Mapping):
        return str(value.get("verdict")), str(value.get("summary") or "")
    word = none_if_blank(value)
    if word is not None and not isinstance(word, str):
        raise IoTDAConfigError(
            f"verdict must be the return value of one RolloutGuardSensor, got {what_is(word)}."
        )
    if word is None:
        raise IoTDAConfigError(
            "verdict was rendered to nothing: the guard pushed none (was it skipped, or is the "
            "task id wrong?)."
        )
    return word.strip(), ""


def _check_mapping(value: Mapping[str, Path] | None, name: str) -> dict[str, tuple[str, ...]]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError(
            f"{name} must be a mapping to task ids, got {what_is(value, instead_of='a mapping')}"
        )
    for key in value:
        if not isinstance(key, str):
            raise ValueError(f"{name}: each key must be text, got {what_is(key)}")
    return {key: check_path(path, f"{name}[{key[:60]!r}]") for key, path in value.items()}


def _check_row(row: Mapping[str, Any], position: int) -> Mapping[str, Any]:
    if "target" not in row:
        raise IoTDAConfigError(
            f"failures[{position}] is not a row of failed_targets: it needs target, error_code and "
            "error_msg."
        )
    for name in ("target", "error_code", "failure_class"):
        value = row.get(name)
        if not isinstance(value, str) and (value is not None or name == "target"):
            raise IoTDAConfigError(
                f"failures[{position}].{name} must be text, got {what_is(value)}."
            )
    return row
