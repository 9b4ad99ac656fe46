"""Which of the IAM actions that operators need the caller has."""

from __future__ import annotations

from typing import Any

from iotda_provider.doctor.caller import Asked, said
from iotda_provider.doctor.facts import Seen
from iotda_provider.doctor.findings import Finding, Result
from iotda_provider.exceptions import IoTDAThrottledError

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
    rows = [
        _of_reads(
            "iotda:batchtasks:queryList",
            [*seen.tasks.values()],
            "the DAG rollout_guard, creating a batch task, Test",
        ),
        _of_reads(
            "iotda:batchtasks:query",
            [seen.task, seen.unknown_task, seen.subtasks],
            "every guard, sensor and stop",
        ),
        _of_stop(seen),
        _of_reads("iotda:otapackages:query", [seen.package], "the check before a release"),
        _of_reads(
            "iotda:otapackages:queryList", [*seen.packages.values()], "CreateOtaPackageOperator"
        ),
        _of_reads("iotda:group:query", [seen.members], "the check before a release"),
        _of_reads("iotda:group:queryList", [seen.groups], "quarantine after a release"),
        _of_reads(
            "iotda:devices:queryList", [seen.devices], "the versions before and after a release"
        ),
        _of_reads(
            "iotda:devices:query",
            [seen.device],
            "releases with online_within, and reading a small wave's devices before it begins",
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


def _of_reads(action: str, asked: list[Asked[Any]], what: str) -> Finding:
    """Whether calls that read were allowed. A 404 is an answer to a caller that may ask."""
    refused = next((one for one in asked if one.status in (401, 403) and _is_forbidden(one)), None)
    if refused is not None and refused.error is not None:
        text = f"{what} would fail. {said(refused.error)}"
        return Finding("permissions", action, Result.FAILS, text)
    if any(one.error is None or one.status == 404 for one in asked):
        return Finding("permissions", action, Result.OK, f"for {what}")
    error = next(one.error for one in asked if one.error is not None)
    return Finding("permissions", action, Result.UNKNOWN, said(error))


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
    if stop.status in (401, 403) and _is_forbidden(stop) and stop.error is not None:
        text = f"no guard could stop a rollout. {said(stop.error)}"
        return Finding("permissions", action, Result.FAILS, text)
    if stop.error is None or stop.status in (400, 404, 409):
        text = f"for every guard; rehearsed with batch task {seen.rehearsed_with}"
        if stop.status == 404:
            text = "for every guard; rehearsed with a batch task that does not exist"
        return Finding("permissions", action, Result.OK, text)
    return Finding("permissions", action, Result.UNKNOWN, said(stop.error))
