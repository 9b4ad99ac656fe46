"""How results per target reach the user: bounded in XCom, whole in a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.parameters import given

if TYPE_CHECKING:
    from iotda_provider.guards import FailureClasses
    from iotda_provider.models import TargetResult


def xcom_limit(max_xcom_targets: int) -> int:
    """How many targets a list in XCom may hold: never more than Airflow lets a mapped task take."""
    from airflow.providers.common.compat.sdk import conf

    return min(max_xcom_targets, int(conf.getint("core", "max_map_length", fallback=1024)))


def check_report_path(path: str | None) -> str | None:
    """Where the full list is to be written; None where a template rendered to nothing.

    :raises IoTDAConfigError: no such path can be written to here
    """
    path = given(path)
    if path is None:
        return None
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    try:
        _ = ObjectStoragePath(path).fs
    except (ValueError, ImportError) as error:
        raise IoTDAConfigError(
            f"report_path {path!r} can't be written to: {error}. Give a local path, or install the "
            "provider of that storage."
        ) from None
    return path


def checked_classes(
    value: FailureClasses | Mapping[str, str] | None,
) -> FailureClasses | None:
    """How failures are classed, checked when the DAG is parsed; None for the default.

    :raises ValueError: it is no mapping to failure classes
    """
    if value is None:
        return None  # and need not be loaded before it is used
    from iotda_provider.guards import FailureClasses

    return FailureClasses.of(value)


def failed_row(result: TargetResult) -> dict[str, Any]:
    """A failure as a row of ``failed_targets``."""
    from iotda_provider.guards import classify

    failure_class = classify(result.error_code, result.error_msg)
    return {**result.to_failure(), "failure_class": failure_class}


class Report:
    """A file of rows, one JSON object a line, at any URL that Airflow's object storage knows.

    Rows are written as they come, so that any number takes the same memory. Trouble with the file
    is kept as ``error``: it must not hide what the platform has done already, nor keep the rest
    from being done.

    :param path: where; None: nowhere
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
            self._carefully(lambda: self._file.write(_line(row)))

    def _open(self) -> None:
        self._file = _open_for_writing(str(self._path))

    def _carefully(self, act: Callable[[], Any]) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - each storage has errors of its own
            self.error = self.error or error


def write_report(path: str, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows as they come, as :class:`Report` does, and raise what goes wrong at once.

    Returns their number.
    """
    count = 0
    with _open_for_writing(path) as file:
        for count, row in enumerate(rows, start=1):  # noqa: B007 - the last one is the result
            file.write(_line(row))
    return count


def _open_for_writing(path: str) -> Any:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    target: Any = ObjectStoragePath(path)
    if target.protocol in ("", "file", "local"):
        target.parent.mkdir(parents=True, exist_ok=True)
    return target.open("w", encoding="utf-8")


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"
