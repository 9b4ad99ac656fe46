"""The examination of a connection: it reads, and changes nothing.

The one call that is not a reading one is the rehearsed stop, which names one target that is in no
batch task, so that the platform stops nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from iotda_provider import api
from iotda_provider.connection.settings import ConnectionSettings
from iotda_provider.doctor import facts, permissions
from iotda_provider.doctor.caller import Asked, Caller, said
from iotda_provider.doctor.findings import Finding, Report, Result
from iotda_provider.hooks import shared
from iotda_provider.models import BatchTask, Device, TaskStatus
from iotda_provider.models.statuses import UPGRADES

if TYPE_CHECKING:
    from iotda_provider.hooks.iotda import IoTDAHook

# Signatures are refused once the clocks differ by 15 minutes.
_REFUSED_FROM = 900.0
_CLOCK_FAILS, _CLOCK_WARNS = 300.0, 60.0
# A key or token that lives shorter is renewed in the midst of nearly everything.
_SHORT_LIFE = 900.0


def examine(hook: IoTDAHook, batch_task_id: str | None = None) -> Report:
    """Examine the connection of a hook.

    :param batch_task_id: the batch task with which the stop is rehearsed; None: the newest one that
        has not ended, else the newest one, else one that does not exist
    """
    found: list[Finding] = []
    try:
        settings = hook.settings
    except shared.TEST_FAILURES as error:
        row = Finding("connection", "settings", Result.FAILS, said(error))
        return Report(hook.iotda_conn_id, [row])
    found += _of_settings(settings)
    credentials, are_there = _of_credentials(hook, settings)
    found.append(credentials)
    if not are_there:
        found.append(_not_tried("there are no credentials"))
        return Report(hook.iotda_conn_id, found)
    caller = Caller(hook)
    first = caller.head("batchtasks", {"task_type": str(UPGRADES[0]), "limit": "1"})
    found.append(_of_clock(first))
    works = caller.ask(shared.connection_test_call())
    found.append(_of_first_call(works, settings))
    if works.error is not None and works.status in (None, 401):
        why = "five wrong signatures in a row lock an access key" if works.status else "no answer"
        found.append(_not_tried(why))
        return Report(hook.iotda_conn_id, found)
    seen = _look_around(caller, batch_task_id)
    found += permissions.findings(seen)
    found.append(permissions.edition(seen.search))
    found += _of_limits(caller, seen, settings)
    found += facts.findings(seen)
    return Report(hook.iotda_conn_id, found)


def _not_tried(why: str) -> Finding:
    text = f"not tried: {why}. Mend what fails above, and start anew"
    return Finding("permissions, edition, limits and facts", "the rest", Result.UNKNOWN, text)


def _of_settings(settings: ConnectionSettings) -> list[Finding]:
    where = f"{settings.base_url}, project {settings.project_id or 'of the region'}, instance "
    where += settings.instance_id or "not named"
    rows = [Finding("connection", "settings", Result.OK, where)]
    if settings.verify is False:
        text = "verify is false: anybody on the way can read and change every call"
        rows.append(Finding("connection", "TLS", Result.WARNING, text))
    return rows


def _of_credentials(hook: IoTDAHook, settings: ConnectionSettings) -> tuple[Finding, bool]:
    """What becomes of the credentials, and whether there are any."""

    def row(result: Result, text: str, are_there: bool = True) -> tuple[Finding, bool]:
        return Finding("connection", "credentials", result, text), are_there

    try:
        authenticator = hook._transport.authenticator
        if not authenticator.is_ready():
            authenticator.prepare()
        left = authenticator.seconds_left
    except shared.TEST_FAILURES as error:
        return row(Result.FAILS, said(error), are_there=False)
    if settings.auth_type == "aksk" and settings.security_token:
        return row(
            Result.FAILS,
            "a temporary access key, good for at most 24 hours from its issue, and a connection "
            "cannot renew it: a rollout would lose its guard. Use auth_type agency or federation, "
            "or a permanent key",
        )
    if left is None:
        return row(Result.OK, f"{settings.auth_type}: a permanent access key, without an expiry")
    result = Result.OK if left >= _SHORT_LIFE else Result.WARNING
    short = " Its life is short: each renewal is a chance to fail." if left < _SHORT_LIFE else ""
    return row(
        result,
        f"{settings.auth_type}: good for {left / 3600:.1f} h ({left:.0f} s), and renewed before it "
        f"expires.{short}",
    )


def _of_clock(first: Asked[Mapping[str, str]]) -> Finding:
    def row(result: Result, text: str) -> Finding:
        return Finding("connection", "clock", result, text)

    try:
        theirs = parsedate_to_datetime((first.result or {})["date"])
        if theirs.tzinfo is None:
            theirs = theirs.replace(tzinfo=timezone.utc)
        ahead = (datetime.now(timezone.utc) - theirs).total_seconds()
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):
        why = "the answer has no Date" if first.error is None else "there was no answer"
        return row(Result.UNKNOWN, f"{why}, so this machine's clock can't be compared")
    if abs(ahead) <= _CLOCK_WARNS:
        return row(Result.OK, f"{abs(ahead):.0f} s from the platform's")
    text = (
        f"this machine's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the "
        f"platform's. From {_REFUSED_FROM:.0f} s on every signature is refused: set it (NTP) here "
        "and on every worker and triggerer"
    )
    return row(Result.FAILS if abs(ahead) >= _CLOCK_FAILS else Result.WARNING, text)


def _of_first_call(works: Asked[Any], settings: ConnectionSettings) -> Finding:
    if works.error is None:
        text = shared.connection_works(settings)[1]
        return Finding("connection", "first call", Result.OK, text)
    return Finding("connection", "first call", Result.FAILS, said(works.error))


def _look_around(caller: Caller, batch_task_id: str | None) -> facts.Seen:
    """Everything that is read, one call after the other."""
    nowhere = uuid4().hex[:24]
    tasks = {kind: caller.ask(api.list_batch_tasks(task_type=kind)) for kind in UPGRADES}
    listed = [row for one in tasks.values() if one.result for row in one.result.rows]
    stoppable = [row for row in listed if row.task_type != "moduleUpgrade"]
    running = [row for row in stoppable if not row.status.is_terminal]
    chosen = next((row.task_id for row in (*running, *stoppable)), None)
    shown_id = batch_task_id or (listed[0].task_id if listed else nowhere)
    devices = caller.ask(api.list_devices())
    device = devices.result.rows[0].device_id if devices.result and devices.result.rows else None
    groups = caller.ask(api.list_groups())
    group = groups.result.rows[0].group_id if groups.result and groups.result.rows else None
    packages = {
        kind: caller.ask(api.list_packages(package_type=kind))
        for kind in ("firmwarePackage", "softwarePackage")
    }
    package = next((p for one in packages.values() if one.result for p in one.result.rows), None)
    product_id = _product_of(devices)
    product = {"product_id": product_id} if product_id else {}
    kind, status = _to_filter_by(listed)
    failed = next((row for row in listed if row.progress.fail), None)
    rehearsed_with = batch_task_id or chosen or nowhere
    return facts.Seen(
        caller=caller,
        tasks=tasks,
        task=caller.ask(api.show_batch_task(shown_id)),
        unknown_task=caller.ask(api.show_batch_task(nowhere)),
        subtasks=caller.ask(
            api.list_subtasks(failed.task_id, status="Fail")
            if failed
            else api.list_subtasks(shown_id)
        ),
        subtasks_of=failed,
        devices=devices,
        device=caller.ask(api.show_device(device or f"nobody-{uuid4().hex}")),
        groups=groups,
        members=caller.ask(api.list_devices_in_group(group or str(uuid4()))),
        packages=packages,
        package=caller.ask(api.show_package(package.package_id if package else nowhere)),
        unknown_device=caller.ask(api.show_device(f"nobody-{uuid4().hex}")),
        unknown_package=caller.ask(api.show_package(nowhere)),
        unknown_group=caller.ask(api.list_devices_in_group(str(uuid4()), limit=1)),
        by_status=caller.ask(api.list_batch_tasks(task_type=kind, status=status)),
        status=status,
        product_id=product_id,
        of_product=caller.ask(api.list_devices(**product, limit=1)),
        search=caller.ask(api.count_devices(product)),
        rehearsed_with=rehearsed_with,
        stop=caller.ask(api.stop_batch_task(rehearsed_with, (facts.rehearsal_target(),))),
        untyped=caller.ask(_untyped_list()),
    )


def _to_filter_by(listed: Sequence[BatchTask]) -> tuple[str, TaskStatus]:
    """A type and a status of a listed batch task; of this type, most have another status."""
    known = [row for row in listed if row.status.name != "UNKNOWN"]
    of_type = Counter(str(row.task_type) for row in known)
    alike = Counter((str(row.task_type), row.status) for row in known)
    return max(
        alike,
        key=lambda one: of_type[one[0]] - alike[one],
        default=(str(UPGRADES[0]), TaskStatus.WAITING),
    )


def _product_of(devices: Asked[api.Page[Device]]) -> str:
    """The product of the first device in a list; empty: there is none that can be searched for."""
    ids = [one.product_id for one in devices.result.rows] if devices.result else []
    return next((one for one in ids if one and one.isalnum() and one.isascii()), "")


def _untyped_list() -> api.Call[Any]:
    """A list of batch tasks without a type, which the documentation calls mandatory."""
    return api.any_call("GET", "batchtasks", query={"limit": "1"})


def _of_limits(caller: Caller, seen: facts.Seen, settings: ConnectionSettings) -> list[Finding]:
    rows = []
    if caller.seconds:
        slowest, middle = max(caller.seconds), sorted(caller.seconds)[len(caller.seconds) // 2]
        text = (
            f"{len(caller.seconds)} calls, half of them within {middle:.2f} s, the slowest "
            f"{slowest:.2f} s; an attempt may take {settings.attempt_timeout:g} s"
        )
        is_slow = slowest > settings.attempt_timeout / 2
        if is_slow:
            text += ". Raise attempt_timeout and timeout, or look for what slows the network down"
        rows.append(Finding("limits", "speed", Result.WARNING if is_slow else Result.OK, text))
    if caller.failed_in_transport:
        text = f"{caller.failed_in_transport} call(s) got no usable answer"
        rows.append(Finding("limits", "answers", Result.FAILS, text))
    throttled = caller.repeated["HTTP 429"] + caller.repeated["HTTP 403"]
    others = sum(caller.repeated.values()) - throttled
    if throttled:
        text = (
            f"{throttled} attempt(s) were throttled at one call after the other: set "
            "max_requests_per_second in the connection's Extra, and share it among the processes"
        )
        rows.append(Finding("limits", "throttling", Result.WARNING, text))
    elif caller.seconds:
        limit = settings.max_requests_per_second
        text = f"none was seen; max_requests_per_second is {limit or 'not set'}"
        rows.append(Finding("limits", "throttling", Result.OK, text))
    if others:
        text = f"{others} attempt(s) failed and had to be repeated"
        rows.append(Finding("limits", "repeated", Result.WARNING, text))
    rows += facts.sizes(seen)
    return rows
