"""Which of the IAM actions that operators need the caller has, and whether their calls work."""

from __future__ import annotations

from typing import Any

from iotda_provider.doctor.caller import Asked, said
from iotda_provider.doctor.facts import Seen
from iotda_provider.doctor.findings import Finding, Result
from iotda_provider.exceptions import IoTDAThrottledError
from iotda_provider.models import BatchTask

#: The actions whose calls would change something, and what needs them.
_NOT_TRIED = {
    "iotda:batchtasks:create": "CreateBatchTaskOperator, releases",
    "iotda:batchtasks:confirm": "releases, ConfirmBatchTaskOperator",
    "iotda:batchtasks:retry": "RetryBatchTaskOperator",
    "iotda:batchtasks:delete": "DeleteBatchTaskOperator",
    "iotda:group:create": "putting devices into quarantine after a release",
    "iotda:group:update": "putting devices into quarantine after a release",
    "iotda:otapackages:create": "CreateOtaPackageOperator",
    "iotda:otapackages:delete": "the hooks' delete_ota_package",
}


def findings(seen: Seen) -> list[Finding]:
    """One row for each IAM action."""
    has_tasks, has_device = bool(seen.listed), _has_rows(seen.devices)
    rows = [
        _of_reads(
            "iotda:batchtasks:queryList",
            [*seen.tasks.values()],
            "the DAG rollout_guard, creating a batch task, Test",
        ),
        _of_reads(
            "iotda:batchtasks:query",
            [seen.task, seen.subtasks],
            "every guard, sensor and stop",
            exists=has_tasks,
        ),
        _of_stop(seen),
        _of_reads(
            "iotda:otapackages:query",
            [seen.package],
            "the check before a release",
            exists=any(map(_has_rows, seen.packages.values())),
        ),
        _of_reads(
            "iotda:otapackages:queryList", [*seen.packages.values()], "CreateOtaPackageOperator"
        ),
        _of_reads(
            "iotda:group:query",
            [seen.members],
            "the check before a release",
            exists=_has_rows(seen.groups),
        ),
        _of_reads("iotda:group:queryList", [seen.groups], "quarantine after a release"),
        _of_reads(
            "iotda:devices:queryList", [seen.devices], "the versions before and after a release"
        ),
        _of_reads(
            "iotda:devices:query",
            [seen.device],
            "releases with online_within, and reading a small wave's devices before it begins",
            exists=has_device,
        ),
        _of_search(seen.search),
    ]
    return rows + [
        Finding(
            "permissions",
            action,
            Result.UNKNOWN,
            f"not tried, because it would change something. For {what}: see the caller's policy",
        )
        for action, what in _NOT_TRIED.items()
    ]


def edition(search: Asked[Any]) -> Finding:
    """Whether devices can be searched for. Not every edition offers it; releases go without."""
    if search.error is None:
        return Finding("edition", "search", Result.OK, "available")
    if search.status in (400, 403, 404) and _is_forbidden(search):
        text = (
            f"not available to this caller ({search.code}). Before each wave a release reads its "
            "devices, where it otherwise counts them"
        )
        return Finding("edition", "search", Result.WARNING, text)
    return Finding("edition", "search", Result.UNKNOWN, said(search.error))


def _has_rows(asked: Asked[Any]) -> bool:
    return bool(asked.result and asked.result.rows)


def _of_reads(action: str, asked: list[Asked[Any]], what: str, *, exists: bool = True) -> Finding:
    """Whether calls that read work. A 404 of the platform is an answer to a caller that may ask.

    :param exists: whether they were about something that is there; else only such a 404 or a
        refusal of the caller says anything
    """
    bad = next((one for one in asked if _would_fail(one, exists)), None)
    if bad is not None and bad.error is not None:
        text = f"{what} would fail. {said(bad.error)}"
        return Finding("permissions", action, Result.FAILS, text)
    if any(one.error is None or one.is_gone for one in asked):
        return Finding("permissions", action, Result.OK, f"for {what}")
    error = next(one.error for one in asked if one.error is not None)
    return Finding("permissions", action, Result.UNKNOWN, said(error))


def _would_fail(asked: Asked[Any], exists: bool, *fine: int) -> bool:
    """Whether the platform has refused a call for a reason that does not pass by itself.

    :param fine: statuses that are answers, as a 404 of the platform always is
    """
    if asked.status in (None, *fine) or asked.is_gone or not _is_forbidden(asked):
        return False
    return exists or asked.status in (401, 403)


def _is_forbidden(asked: Asked[Any]) -> bool:
    """Whether a refusal is about the caller: IoTDA reports its rate limits with a 403, too."""
    return not isinstance(asked.error, IoTDAThrottledError)


def _of_search(asked: Asked[Any]) -> Finding:
    """Whether devices may be searched for. Releases go without, by reading them."""
    action, what = "iotda:devices:search", "the look at devices before each wave of a release"
    if asked.error is None:
        return Finding("permissions", action, Result.OK, f"for {what}")
    if asked.status == 403 and _is_forbidden(asked):
        text = f"{what} reads them, which takes more calls. {said(asked.error)}"
        return Finding("permissions", action, Result.WARNING, text)
    return Finding("permissions", action, Result.UNKNOWN, said(asked.error))


def _of_stop(seen: Seen) -> Finding:
    action, stop = "iotda:batchtasks:stop", seen.stop
    known = {row.task_id for row in seen.listed}
    exists = seen.rehearsed_with in known or _is_task(seen.task.result, seen.rehearsed_with)
    if _would_fail(stop, exists, 400, 409) and stop.error is not None:
        text = f"no guard could stop a rollout. {said(stop.error)}"
        return Finding("permissions", action, Result.FAILS, text)
    if stop.error is None or stop.is_gone or stop.status in (400, 409):
        text = f"for every guard; rehearsed with batch task {seen.rehearsed_with}"
        if stop.is_gone:
            text = "for every guard; rehearsed with a batch task that does not exist"
        return Finding("permissions", action, Result.OK, text)
    return Finding("permissions", action, Result.UNKNOWN, said(stop.error))


def _is_task(task: BatchTask | None, batch_task_id: str) -> bool:
    return task is not None and task.task_id == batch_task_id
