"""Results for each target: a limited number in XCom, all of them in a file."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

from airflow.providers.common.compat.sdk import Context

from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.models.text import one_line, what_is
from iotda_provider.task_io.parameters import optional_text
from iotda_provider.task_io.stored_files import stored_file

if TYPE_CHECKING:
    from iotda_provider.guards import FailureClasses
    from iotda_provider.models import TargetResult


_log = logging.getLogger(__name__)


def push_xcom(context: Context, key: str, value: Any, log: Any) -> None:
    """Push an XCom for people; a failure is only logged."""
    ti: Any = context["ti"]
    try:
        ti.xcom_push(key=key, value=value)
    except Exception as error:  # noqa: BLE001 - Airflow's database or API may be down
        log.warning("XCom %s could not be written: %s", key, error)


def xcom_limit(max_xcom_targets: int) -> int:
    """How many targets a list in XCom may hold: at most what Airflow allows for a mapped task."""
    from airflow.providers.common.compat.sdk import conf

    return min(max_xcom_targets, int(conf.getint("core", "max_map_length", fallback=1024)))


_LONGEST_PATH = 1024
#: Separators of paths and URLs, including those of Windows and of lenient servers.
_BETWEEN_SEGMENTS = re.compile(r"[/\\\\:@?#;]")


def check_report_path(value: Any, name: str = "report_path") -> str | None:
    """Check the path of a report; None where a template was rendered to nothing.

    :raises IoTDAConfigError: the path can't be written to here, or contains ``..``
    """
    path = optional_text(value, name)
    if path is None:
        return None
    if len(path) > _LONGEST_PATH or not path.isprintable():
        raise IoTDAConfigError(
            f"{name} must be a path or URL of at most {_LONGEST_PATH} characters without line "
            f"breaks, got {len(path)} characters: {what_is(path)}."
        )
    if _leads_upwards(path):
        raise IoTDAConfigError(
            f"{name} must not hold '..' as a part of it, got {what_is(path)}: it would be written "
            "elsewhere. Where it comes from a run's id or a form, look who has chosen that."
        )
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    try:
        _ = ObjectStoragePath(path).fs
    except (ValueError, ImportError) as error:
        raise IoTDAConfigError(
            f"{name} {path!r} can't be written to: {one_line(error, 300)}. Give a local path, or "
            "install the provider of that storage."
        ) from None
    if _goes_with_the_pod(path):
        _log.warning(
            "%s %s lies on the disk of a worker. With the KubernetesExecutor that is a pod, and "
            "the file goes with it, unless it lies on a volume: give the URL of object storage.",
            name,
            path,
        )
    return path


def _goes_with_the_pod(path: str) -> bool:
    """Whether the file is local and workers are pods of the KubernetesExecutor."""
    from airflow.providers.common.compat.sdk import conf

    scheme, colon, _ = path.partition("://")
    if colon and scheme not in ("file", "local"):
        return False
    # Inside its pods the configuration names another executor.
    is_pod = bool(os.environ.get("AIRFLOW_IS_K8S_EXECUTOR_POD"))
    return is_pod or "Kubernetes" in str(conf.get("core", "executor", fallback=""))


def _leads_upwards(path: str) -> bool:
    """Whether a segment of the path is ``..``, also if it is percent-encoded."""
    before = ""
    while path != before:  # it may be encoded more than once
        if any(part.strip() == ".." for part in _BETWEEN_SEGMENTS.split(path)):
            return True
        before, path = path, unquote(path)
    return False


def own_report_path(operator: Any, context: Context) -> str | None:
    """:func:`check_report_path`, for an operator that may be mapped.

    :param operator: has the rendered ``report_path``, and its template as ``_report_template``
    :raises IoTDAConfigError: also if the instances of a mapped task share the path
    """
    path = check_report_path(operator.report_path)
    ti: Any = context["ti"]
    if path is not None and getattr(ti, "map_index", -1) >= 0 and _is_shared(operator, context):
        raise IoTDAConfigError(
            f"report_path {path!r} is the same for all instances of this mapped task, and each "
            "would overwrite the others' report: put {{ ti.map_index }} into it."
        )
    return path


def _is_shared(operator: Any, context: Context) -> bool:
    template, ti = operator._report_template, cast("Any", context["ti"])
    if isinstance(template, str) and "map_index" in template:
        return False
    dag: Any = context["dag"]
    expanded = getattr(dag.get_task(ti.task_id), "expand_input", None)
    if expanded is None:  # in a mapped task group: mapped over, or the same for all
        return type(template).__name__ != "MappedArgument"
    mapped_over = expanded.value
    if isinstance(mapped_over, Mapping):  # expand()
        if set(mapped_over) != {"report_path"}:  # each path meets each value of the others
            return True
        paths = mapped_over["report_path"]
    else:  # expand_kwargs(), with rows of the DAG itself or of an XCom
        if not isinstance(mapped_over, (list, tuple)):
            return False
        rows = [row for row in mapped_over if isinstance(row, Mapping)]
        if not any("report_path" in row for row in rows):
            return True
        paths = [row.get("report_path") for row in rows]
    if not isinstance(paths, (list, tuple)):
        return False
    return sum(bool(one == template) for one in paths) > 1


def checked_classes(
    value: FailureClasses | Mapping[str, str] | None,
) -> FailureClasses | None:
    """Check how failures are classified, when the DAG is parsed; None: the default.

    :raises ValueError: it is no mapping to failure classes
    """
    if value is None:
        return None  # the default is loaded only when it is used
    from iotda_provider.guards import FailureClasses

    return FailureClasses.of(value)


def failed_row(result: TargetResult) -> dict[str, Any]:
    """A failure as a row of ``failed_targets``."""
    from iotda_provider.guards import classify

    failure_class = classify(result.error_code, result.error_msg)
    return {**result.to_failure(), "failure_class": failure_class}


class Report:
    """A file of rows, one JSON object a line, at any URL of Airflow's object storage.

    Each row is written at once, so memory does not grow. An error of the file is stored in
    ``error``, not raised: it must not hide what the platform has done, nor prevent the rest.

    :param path: the file; None: no report
    """

    def __init__(self, path: str | None) -> None:
        self.error: Exception | None = None
        self._path = path
        self._file: Any = None

    def __enter__(self) -> Report:
        if self._path is not None:
            self._carefully(self._open)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            self._carefully(self._file.close)

    def add(self, row: Mapping[str, Any]) -> None:
        """Write one row."""
        if self._file is not None and self.error is None:
            line = json.dumps(row, ensure_ascii=False) + "\n"
            self._carefully(lambda: self._file.write(line))

    def _open(self) -> None:
        target = stored_file(str(self._path))
        if target.protocol in ("", "file", "local"):
            target.parent.mkdir(parents=True, exist_ok=True)
        self._file = target.open("w", encoding="utf-8")

    def _carefully(self, act: Callable[[], Any]) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - each storage has errors of its own
            self.error = self.error or error


def write_report(path: str | None, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write a whole :class:`Report`; raises an error of the file. The number of rows.

    :param path: the file; None: the rows are gone through all the same
    """
    count = 0
    with Report(path) as report:
        for row in rows if report.error is None else ():
            report.add(row)
            if report.error is not None:
                break
            count += 1
    if report.error is not None:
        raise report.error
    return count
