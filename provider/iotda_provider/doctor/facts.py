"""What the documentation leaves open, or what we inferred, as far as reading can show it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from iotda_provider.api import Page
from iotda_provider.doctor.caller import Asked, Caller
from iotda_provider.doctor.findings import Finding, Result
from iotda_provider.models import (
    BatchTask,
    Device,
    DeviceGroup,
    OtaPackage,
    Subtask,
    TaskStatus,
    TaskType,
)
from iotda_provider.procedures.batch_tasks import REHEARSAL
from iotda_provider.procedures.target_results import NOT_IN_TASK

_MOST_GROUPS = 1000
_TIME = re.compile(r"[0-9]{8}T[0-9]{6}Z")


def rehearsal_target() -> str:
    """A target that is in no batch task."""
    return f"{REHEARSAL}{uuid4().hex}"


@dataclass(frozen=True)
class Seen:
    """The answers that the examination got.

    :param task: a batch task read by itself; its id may be invented
    :param subtasks_of: the batch task whose failed subtasks were listed; None: no status was asked
        for
    :param by_status: a list of batch tasks with one status, ``status``
    :param product_id: a product whose devices were counted; empty: all devices were
    :param of_product: a page of these devices, which ``search`` has counted
    :param rehearsed_with: the batch task whose stop was rehearsed
    :param untyped: a list of batch tasks without a type
    """

    caller: Caller
    tasks: Mapping[TaskType, Asked[Page[BatchTask]]]
    task: Asked[BatchTask]
    unknown_task: Asked[BatchTask]
    subtasks: Asked[Page[Subtask]]
    subtasks_of: BatchTask | None
    devices: Asked[Page[Device]]
    device: Asked[Device]
    groups: Asked[Page[DeviceGroup]]
    members: Asked[Page[Device]]
    packages: Mapping[str, Asked[Page[OtaPackage]]]
    package: Asked[OtaPackage]
    unknown_device: Asked[Device]
    unknown_package: Asked[OtaPackage]
    unknown_group: Asked[Page[Device]]
    by_status: Asked[Page[BatchTask]]
    status: TaskStatus
    product_id: str
    of_product: Asked[Page[Device]]
    search: Asked[int]
    rehearsed_with: str
    stop: Asked[Any]
    untyped: Asked[Any]

    @property
    def listed(self) -> list[BatchTask]:
        """The batch tasks on the first pages of their lists."""
        return [row for one in self.tasks.values() if one.result for row in one.result.rows]


def findings(seen: Seen) -> list[Finding]:
    """One row for each fact."""
    facts = (
        ("deleted task is 404", _unknown_task),
        ("deleted device is 404", _unknown_device),
        ("deleted package is 404", _unknown_package),
        ("deleted group is 404", _unknown_group),
        ("counts add up", _counts),
        ("newest first", _order),
        ("times can be compared", _times),
        ("lists by status", _by_status),
        ("statuses are known", _statuses),
        ("failed subtasks only", _filter),
        ("stop of an unknown target", _stop),
        ("lists count their rows", _totals),
        ("search counts as lists do", _search),
        ("lists have versions", _versions),
        ("time of going online", _online),
        ("members lack versions", _members),
        ("packages show their file", _file),
        ("list without a type", _untyped),
        ("targets are echoed", _echo),
    )
    return [Finding("facts", name, *fact(seen)) for name, fact in facts]


def sizes(seen: Seen) -> list[Finding]:
    """How much there is, against the platform's limits."""
    rows = []
    groups = seen.groups.result.total if seen.groups.result else None
    if groups is not None:
        text = f"{groups} of at most {_MOST_GROUPS:,}"
        is_full = groups >= _MOST_GROUPS
        if is_full:
            text += ": no device group for quarantine can be created. Delete some"
        rows.append(
            Finding("limits", "device groups", Result.FAILS if is_full else Result.OK, text)
        )
    devices = seen.devices.result.total if seen.devices.result else None
    if devices is not None:
        text = f"{devices:,}; reading all versions takes {-(-devices // 50):,} calls"
        rows.append(Finding("limits", "devices", Result.OK, text))
    return rows


_Fact = tuple[Result, str]


def _nothing(what: str, asked: Asked[Any] | None = None) -> _Fact:
    error = asked.error if asked is not None else None
    why = f" ({asked.code or error})" if asked is not None and error is not None else ""
    return Result.UNKNOWN, f"there is no {what} to learn it from{why}"


def _unknown_task(seen: Seen) -> _Fact:
    consequence = (
        "a guard takes a deleted batch task for one that can't be read, and says blind instead of "
        "lost"
    )
    return _unknown(seen.unknown_task, "a batch task", consequence)


def _unknown_device(seen: Seen) -> _Fact:
    asked = seen.unknown_device
    is_404 = asked.status == 404 and not asked.is_gone
    if is_404 or (asked.status is not None and asked.status >= 500):
        return Result.FAILS, (
            f"it is answered with {asked.code}, as by a platform that is down: a release that "
            "reads a wave's devices waits for a deleted one, and its next wave never begins"
        )
    return _unknown(asked, "a device", "a release keeps a deleted device in its wave")


def _unknown_package(seen: Seen) -> _Fact:
    consequence = "the check of a release tries again, and fails in the platform's words"
    return _unknown(seen.unknown_package, "a package", consequence)


def _unknown_group(seen: Seen) -> _Fact:
    consequence = "the check of a release tries again, and fails in the platform's words"
    return _unknown(seen.unknown_group, "a device group", consequence, 400)


def _unknown(asked: Asked[Any], what: str, consequence: str, *good: int) -> _Fact:
    """How the platform answers a call for something that does not exist.

    :param what: what it was asked for
    :param consequence: of another answer, in words
    :param good: the other statuses that are understood
    """
    if asked.is_gone or asked.status in good:
        return Result.OK, f"{what} that does not exist is answered with {asked.code}"
    if asked.error is None:
        return Result.WARNING, f"{what} that does not exist is answered as if it did: {consequence}"
    if asked.status in (401, 403) or asked.status is None:
        return _nothing("answer", asked)
    return Result.WARNING, f"it is answered with {asked.code}: {consequence}"


def _counts(seen: Seen) -> _Fact:
    counted = [row for row in seen.listed if row.progress.total]
    if not counted:
        return _nothing("batch task with counts", next(iter(seen.tasks.values())))
    wrong = [row for row in counted if not row.progress.adds_up]
    if wrong:
        return Result.WARNING, (
            f"not in {len(wrong)} of {len(counted)} batch tasks, such as {wrong[0].task_id}: "
            f"{wrong[0].progress}. After three such looks, guards decide only what holds in the "
            "best and in the worst case"
        )
    return Result.OK, f"in all of the last {len(counted)} batch tasks"


def _order(seen: Seen) -> _Fact:
    pages = [one.result.rows for one in seen.tasks.values() if one.result]
    times = [[row.create_time or "" for row in rows] for rows in pages if len(rows) > 1]
    if not times:
        return _nothing("list of two batch tasks", next(iter(seen.tasks.values())))
    if any(one != sorted(one, reverse=True) for one in times):
        return Result.FAILS, (
            "lists of batch tasks are in another order: the search for a batch task that was "
            "created before may end too early, and a second one be created"
        )
    return Result.OK, "batch tasks are listed newest first, on which the search for one relies"


def _times(seen: Seen) -> _Fact:
    times = [row.create_time for row in seen.listed if row.create_time]
    if not times:
        return _nothing("batch task with a time", next(iter(seen.tasks.values())))
    odd = [one for one in times if not _TIME.fullmatch(one)]
    if odd:
        return Result.FAILS, (
            f"a batch task was created at {odd[0]!r}, which is not written as 20261129T100000Z: "
            "the search for a batch task that was created before may end too early, and a second "
            "one be created"
        )
    return Result.OK, f"they are written as {times[0]}"


def _by_status(seen: Seen) -> _Fact:
    rows = seen.by_status.result.rows if seen.by_status.result else ()
    if not rows:
        return _nothing(f"batch task in the status {seen.status}", seen.by_status)
    others = [row for row in rows if row.status != seen.status]
    if len(others) > 1:
        return Result.FAILS, (
            f"a list of batch tasks that are {seen.status} has one that is {others[0].status}: "
            "which other upgrades are under way can't be read"
        )
    if others:  # it may have changed while it was listed
        return Result.UNKNOWN, (
            f"of {len(rows)} batch task(s) listed as {seen.status} one is {others[0].status}: "
            "examine the connection again"
        )
    listed = [row for row in seen.listed if row.task_type == rows[0].task_type]
    if all(row.status == seen.status for row in listed):
        return _nothing(f"batch task that is not {seen.status}")
    return Result.OK, f"of those that are {seen.status}"


def _search(seen: Seen) -> _Fact:
    counted, page = seen.search.result, seen.of_product.result
    if counted is None or page is None or page.total is None:
        return _nothing("count", seen.search if counted is None else seen.of_product)
    whose = f" of product {seen.product_id}" if seen.product_id else ""
    if counted != page.total:
        return Result.WARNING, (
            f"the search counts {counted:,} device(s){whose}, and the list {page.total:,}: before "
            "each wave a release may have to read its devices, where it otherwise counts them"
        )
    return Result.OK, f"both count {counted:,} device(s){whose}"


def _statuses(seen: Seen) -> _Fact:
    subtasks = seen.subtasks.result.rows if seen.subtasks.result else ()
    words = [*(row.status for row in seen.listed), *(row.status for row in subtasks)]
    if not words:
        return _nothing("batch task", next(iter(seen.tasks.values())))
    strange = sorted({str(word) for word in words if word.name == "UNKNOWN"})
    if strange:
        return Result.WARNING, (
            f"the platform says {', '.join(strange)[:200]}, which this version does not know; it "
            "counts as neither running nor ended"
        )
    return Result.OK, f"{', '.join(sorted({str(word) for word in words}))}"


def _filter(seen: Seen) -> _Fact:
    if seen.subtasks_of is None or seen.subtasks.result is None:
        return _nothing("batch task with failures", seen.subtasks)
    others = [row for row in seen.subtasks.result.rows if str(row.status) != "Fail"]
    if others:
        return Result.FAILS, (
            f"a list of failed subtasks has one that is {others[0].status}: which devices failed "
            "can't be read"
        )
    return Result.OK, f"of batch task {seen.subtasks_of.task_id}"


def _stop(seen: Seen) -> _Fact:
    rows = seen.stop.result
    if seen.stop.error is not None:
        if seen.stop.is_gone or seen.stop.status in (400, 409):
            return Result.UNKNOWN, (
                f"batch task {seen.rehearsed_with} has ended or does not exist, and the stop was "
                f"refused as a whole ({seen.stop.code})"
            )
        return _nothing("answer to a rehearsed stop", seen.stop)
    codes = {row.error_code for row in rows or () if not row.succeeded}
    if codes == {NOT_IN_TASK}:
        return Result.OK, f"200, and the target alone is refused with {NOT_IN_TASK}"
    if any(row.succeeded for row in rows or ()):
        return Result.WARNING, "200, and the target counts as stopped: a success proves nothing"
    return Result.OK, f"200, with {sorted(map(str, codes)) or 'no result'} for the target"


def _totals(seen: Seen) -> _Fact:
    pages: list[Asked[Any]] = [*seen.tasks.values(), seen.devices, seen.groups]
    pages += seen.packages.values()
    read = [one.result for one in pages if one.result is not None]
    if not read:
        return _nothing("list", pages[0])
    if any(page.total is None for page in read):
        return Result.OK, "some do not: they are read until a page is not full"
    return Result.OK, "all do"


def _versions(seen: Seen) -> _Fact:
    rows = seen.devices.result.rows if seen.devices.result else ()
    if not rows:
        return _nothing("device", seen.devices)
    have = sum(bool(row.fw_version or row.sw_version) for row in rows)
    if have:
        return Result.OK, f"{have} of {len(rows)} devices in the list have one"
    return Result.WARNING, (
        "no device in the list has a version: a release can't leave out devices that run the "
        "version already, nor compare the results with what devices run"
    )


def _online(seen: Seen) -> _Fact:
    if seen.device.result is None:
        return _nothing("device", seen.device)
    if seen.device.result.status_changed:
        return Result.OK, "a device's details say since when it is on- or offline"
    return Result.WARNING, (
        "a device's details do not say it: with online_within, devices that are offline come last"
    )


def _members(seen: Seen) -> _Fact:
    rows = seen.members.result.rows if seen.members.result else ()
    if not rows:
        return _nothing("device in the first device group", seen.members)
    have = sum(bool(row.fw_version) for row in rows)
    return Result.OK, f"{have} of {len(rows)} have one; releases read the list of devices"


def _file(seen: Seen) -> _Fact:
    if seen.package.result is None:
        return _nothing("upgrade package", seen.package)
    if seen.package.result.raw.get("file_location"):
        return Result.OK, "a package's details say where its file is"
    return Result.OK, (
        f"not package {seen.package.result.package_id}, as of those uploaded at the console: "
        "CreateOtaPackageOperator takes it for another one"
    )


def _untyped(seen: Seen) -> _Fact:
    if seen.untyped.error is None:
        return Result.OK, "batch tasks are listed without a task_type, too; each type is asked for"
    if seen.untyped.status == 400:
        return Result.OK, f"it is refused, as documented ({seen.untyped.code})"
    return _nothing("answer", seen.untyped)


def _echo(seen: Seen) -> _Fact:
    if seen.task.result is None:
        return _nothing("batch task", seen.task)
    named = seen.task.result.raw.get("targets")
    count = len(named) if isinstance(named, list) else 0
    total = seen.task.result.progress.total
    return Result.OK, f"{count} of {total} in batch task {seen.task.result.task_id}"
