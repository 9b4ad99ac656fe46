"""How results per target reach the user: bounded in XCom, whole in a file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.parameters import given

if TYPE_CHECKING:
    from iotda_provider.guards import FailureClasses
    from iotda_provider.models import TargetResults


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


def failed_rows(results: TargetResults, ignore_error_codes: Sequence[str]) -> list[dict[str, Any]]:
    """The failures as rows of ``failed_targets``, without those whose error code is harmless."""
    from iotda_provider.guards import classify

    return [
        {
            **result.to_failure(),
            "failure_class": classify(result.error_code, result.error_msg),
        }
        for result in results.failed
        if result.error_code not in ignore_error_codes
    ]


def write_report(path: str, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows as one JSON object a line to any URL that Airflow's object storage knows.

    Rows are written as they come, so that any number takes the same memory. Returns their number.
    """
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    target: Any = ObjectStoragePath(path)
    if target.protocol in ("", "file", "local"):
        target.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with target.open("w", encoding="utf-8") as file:
        for count, row in enumerate(rows, start=1):  # noqa: B007 - the last one is the result
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return count
