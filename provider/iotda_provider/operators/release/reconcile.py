"""Operators that tidy up after a release: what the devices really run, and whom to set aside."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException

from iotda_provider.exceptions import IoTDAApiError, IoTDAConfigError, IoTDAError
from iotda_provider.guards import FailureClasses
from iotda_provider.operators.base import CONNECTION_FIELDS, IoTDABaseOperator
from iotda_provider.operators.release.plan import plan_of
from iotda_provider.release.gate import as_gate
from iotda_provider.release.reconciliation import (
    SUCCESS_OLD_VERSION,
    UNREAD,
    ExposedDevices,
    Reconciliation,
    exposed_devices,
    reconcile,
)
from iotda_provider.release.storage import ReleaseFiles
from iotda_provider.task_io.dag_parameters import (
    id_or_template,
    list_or_template,
    one_of,
    text_or_template,
)
from iotda_provider.task_io.parameters import (
    as_list,
    as_mapping,
    as_text,
    optional_text,
    read_number,
)
from iotda_provider.task_io.reports import own_report_path, write_report

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from iotda_provider.hooks.iotda import IoTDAHook
    from iotda_provider.models import DeviceGroup, TaskStatus

_OF_AN_OUTCOME = ("wave", "unconfirmed_from", "approved_by_person")
_COLUMNS = {"firmware": "fw_version", "software": "sw_version"}
_LONGEST_NAME = 64
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9\u4e00-\u9fa5_? '#().,&%@!-]")
#: Longer text is no group's name, whatever becomes of it.
_LONGEST_WANTED = 1000
#: Answers that are about one device, or about its place in the group.
_REFUSALS = (400, 403, 404, 409)
#: Devices in a row that the platform has trouble with, before the rest is left to a retry.
_MOST_TROUBLE = 3
_MOST_LINES = 20
#: The type of a group into which devices are put one by one.
_STATIC = "STATIC"


class ReconcileReleaseOperator(IoTDABaseOperator):
    """Hold what the platform says of a release against the versions that its devices run.

    It finds devices that finished after a stop, devices that report success and run the old
    version, or nobody can say which, and sorts the rest: failed by their environment or by the
    firmware, never started, interrupted, unfinished. Two lists are read, of subtasks and of
    devices, fifty rows a call, and then the batch task once.

    XComs: the return value ``{"batch_task_id", "status", "version", "counts", "exposed",
    "running", "proven", "unproven_because", "summary", "report_path"}``, ``to_retry`` (never
    started, or failed by their environment), ``to_quarantine`` (failed by the firmware),
    ``success_with_old_version`` and ``unread``, lists of device ids. ``proven``: it may be
    announced, as the gate opens for the devices that really run the version too (or a person has
    said yes to the last wave), no more than ``tolerated_rate`` of the successes are false or of a
    version that nobody could read, and the batch task is not stopped; where it is not,
    ``unproven_because`` says why, and so does the summary.

    :param batch_task_id: the batch task (templated)
    :param version: what its devices were to run (templated)
    :param outcome: the result of the rollout's ``outcome`` task (templated)
    :param plan_task_id: the rollout's ``plan`` task
    :param gate: ``EnoughSuccess(...)``, or the failure rate to rule out (templated)
    :param tolerated_rate: the share of false and unread successes that is no reason to keep quiet
        (templated)
    :param kind: which version it is: ``firmware`` or ``software`` (templated)
    :param product_id: read only this product's devices; empty: all (templated)
    :param failure_classes: how failures are classed, where the default does not fit
    :param report_path: URL of a file that gets every device, one JSON object a line (templated)
    :param iotda_conn_id: the connection (templated)
    :param project_id: instead of the connection's (templated)
    :param instance_id: instead of the connection's (templated)
    """

    template_fields: Sequence[str] = (
        "batch_task_id",
        "version",
        "outcome",
        "gate",
        "tolerated_rate",
        "kind",
        "product_id",
        "report_path",
        *CONNECTION_FIELDS,
    )

    def __init__(
        self,
        *,
        batch_task_id: str,
        version: str,
        outcome: Any,
        plan_task_id: str,
        gate: Any,
        tolerated_rate: Any = 0.02,
        kind: str = "firmware",
        product_id: str | None = None,
        failure_classes: FailureClasses | Mapping[str, str] | None = None,
        report_path: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.batch_task_id = id_or_template(batch_task_id)
        self.version = text_or_template(version, "version")
        self.outcome = outcome
        self.plan_task_id = text_or_template(plan_task_id, "plan_task_id")
        self.gate = gate
        self.tolerated_rate = tolerated_rate
        self.kind = text_or_template(kind, "kind")
        self.product_id = text_or_template(product_id, "product_id", optional=True)
        self.failure_classes = FailureClasses.of(failure_classes)
        self.report_path = text_or_template(report_path, "report_path", optional=True)
        self._report_template = report_path

    def execute(self, context: Context) -> dict[str, Any]:
        from iotda_provider.api import check_task_id, check_version

        task_id, version = check_task_id(self.batch_task_id), check_version(self.version)
        column = _COLUMNS[one_of(self.kind, "kind", tuple(_COLUMNS))]
        product_id = optional_text(self.product_id, "product_id")
        outcome = as_mapping(self.outcome, "outcome")
        if not isinstance(outcome.get("wave"), int) or not {*_OF_AN_OUTCOME} <= outcome.keys():
            raise IoTDAConfigError(
                "outcome must be the result of the rollout's outcome task, with "
                f"{', '.join(_OF_AN_OUTCOME)}."
            )
        path = own_report_path(self, context)
        ti: Any = context["ti"]
        started = self._exposed_devices(ti, outcome)
        with self.hook() as hook:
            rows = list(hook.iter_subtasks(task_id))
            found = reconcile(
                rows,
                _versions(hook, {row.target for row in rows}, column, product_id),
                version,
                exposed=started.devices,
                left=started.left if started.outside else None,
                classes=self.failure_classes,
            )
            status = hook.get_batch_task(task_id).status
        for key, devices in (
            ("to_retry", found.to_retry),
            ("to_quarantine", found.to_quarantine),
            (SUCCESS_OLD_VERSION, found.of(SUCCESS_OLD_VERSION)),
            (UNREAD, found.of(UNREAD)),
        ):
            ti.xcom_push(key=key, value=devices)
        if path:
            write_report(
                path,
                (
                    {"target": device, "outcome": kind}
                    for kind, devices in found.devices.items()
                    for device in devices
                ),
            )
        waves = len(plan_of(ti, self.plan_task_id)["waves"])
        why = self._why_unproven(found, status, by_person=waves in outcome["approved_by_person"])
        result = {
            "batch_task_id": task_id,
            "status": str(status),
            "version": version,
            "counts": found.counts,
            "exposed": found.exposed,
            "running": found.running,
            "proven": not why,
            "unproven_because": why,
            "summary": f"Version {version}: {found}.{f' NOT proven: {why}.' if why else ''}",
            "report_path": path,
        }
        self.log.info("%s", result["summary"])
        if found.counts[SUCCESS_OLD_VERSION]:
            self.log.warning(
                "%d device(s) report success and run another version, first %s.",
                found.counts[SUCCESS_OLD_VERSION],
                found.of(SUCCESS_OLD_VERSION)[0],
            )
        if found.counts[UNREAD]:
            self.log.warning(
                "%d device(s) report success, and their version can't be read, first %s.",
                found.counts[UNREAD],
                found.of(UNREAD)[0],
            )
        return result

    def _exposed_devices(self, ti: Any, outcome: Mapping[str, Any]) -> ExposedDevices:
        """Who was let start, and by whom."""
        begun, source = int(outcome["wave"]), outcome["unconfirmed_from"]
        unconfirmed = set((source and ti.xcom_pull(task_ids=source, key="unconfirmed")) or ())
        files = ReleaseFiles.of(plan_of(ti, self.plan_task_id), ti, self.plan_task_id)
        found = exposed_devices(files, begun, self.log, unconfirmed=unconfirmed)
        if found is None:
            waves = files.read_waves()[:begun]
            asked = frozenset(device for wave in waves for device in wave)
            found = ExposedDevices(asked - unconfirmed, frozenset(), 0)
        outside = max(found.outside, int(outcome.get("started_elsewhere") or 0))
        return replace(found, outside=outside)

    def _why_unproven(
        self, found: Reconciliation, status: TaskStatus, *, by_person: bool
    ) -> str | None:
        """Why the version may not be announced; None: it may.

        :param by_person: a person has said yes to the last wave, which stands for the final gate
        """
        if status.is_stop:
            return f"the batch task is {status}"
        rate = read_number(self.tolerated_rate, "tolerated_rate")
        old, unread = found.counts[SUCCESS_OLD_VERSION], found.counts[UNREAD]
        if old + unread > rate * (old + unread + found.running):
            return (
                f"{old + unread} device(s) report success and are not known to run the version "
                f"({old} run another, {unread} could not be read), more than {100 * rate:g} % of "
                "all that report it"
            )
        gate = as_gate(self.gate)
        if not by_person and not gate.passes(found.exposed - found.running, found.exposed):
            return (
                f"{found.running} of {found.exposed} device(s) run the version, which does not "
                f"show a failure rate below {100 * gate.max_failure_rate:g} %, and no person has "
                "said yes to the last wave"
            )
        return None


def _versions(
    hook: IoTDAHook, wanted: set[str], column: str, product_id: str | None
) -> dict[str, str | None]:
    """The version that each device runs."""
    return {
        device.device_id: getattr(device, column)
        for device in hook.list_devices(product_id=product_id)
        if device.device_id in wanted
    }


class QuarantineDevicesOperator(IoTDABaseOperator):
    """Put devices into a device group, which is made where it does not exist.

    It takes one call for each device, of any number. Asking twice changes nothing more. A device
    that can't be put there is told and does not keep the others out; where that is the platform's
    trouble rather than the device's, the task fails once the others are in, so that a retry brings
    the rest.

    The platform takes names of up to 64 characters: letters, digits, Chinese, ``_? '#().,&%@!-``.
    Where ``group_name`` has others, such as a version with a ``+``, or more of them, they are
    replaced by ``_`` or cut off, and a digest of the whole comes after them: the same name for the
    same ``group_name``, and another for another.

    XCom: the return value ``{"group_id", "name", "requested", "added", "already_in", "failed":
    [{"target", "error_msg"}, ...]}``; ``name`` is the group's own, ``added`` counts the devices
    that are in it now, ``already_in`` of them those that were before. An empty list of devices
    makes no group. A group that bears the name and is another one (dynamic, or with another
    description), or several of that name, are an error.

    :param targets: device ids (templated)
    :param group_name: the group (templated)
    :param description: for a new group; one that is there must have the same (templated)
    :param iotda_conn_id: the connection (templated)
    :param project_id: instead of the connection's (templated)
    :param instance_id: instead of the connection's (templated)
    """

    template_fields: Sequence[str] = ("targets", "group_name", "description", *CONNECTION_FIELDS)

    def __init__(
        self, *, targets: Any, group_name: str, description: str = "", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.targets = list_or_template(targets, "targets")
        self.group_name = text_or_template(group_name, "group_name")
        self.description = text_or_template(description, "description")

    def execute(self, context: Context) -> dict[str, Any]:
        from iotda_provider.api import check_targets

        targets = check_targets(as_list(self.targets, "targets"))
        name = group_name_of(self.group_name)
        description = optional_text(self.description, "description") or ""
        result: dict[str, Any] = {
            "group_id": None,
            "name": name,
            "requested": len(targets),
            "added": 0,
            "already_in": 0,
            "failed": [],
        }
        if not targets:
            self.log.info("No device is to be put into %s.", name)
            return result
        with self.hook() as hook:
            groups = [group for group in hook.list_device_groups(name=name) if group.name == name]
            if groups:
                group = _the_same(groups, name, description)
            else:
                group = hook.create_device_group(name=name, description=description)
            result["group_id"] = group.group_id
            self.log.info("The group is %s (%s).", name, group.group_id)
            inside = {device.device_id for device in hook.iter_group_devices(group.group_id)}
            result["already_in"] = sum(target in inside for target in targets)
            wanted = [target for target in targets if target not in inside]
            result["failed"] = self._add(hook, group.group_id, wanted)
        result["added"] = len(targets) - len(result["failed"])
        self.log.info("%d of %d device(s) are in %s.", result["added"], len(targets), name)
        return result

    def _add(self, hook: IoTDAHook, group_id: str, targets: Sequence[str]) -> list[dict[str, Any]]:
        """Put devices into the group; those that the platform refuses.

        :raises IoTDAError: it has trouble of its own with one, after all the others
        """
        failed: list[dict[str, Any]] = []
        trouble: list[IoTDAError] = []
        in_a_row = 0
        for target in targets:
            try:
                hook.change_device_group(group_id, target, add=True)
                in_a_row = 0
                continue
            except IoTDAError as error:
                caught = error
            if isinstance(caught, IoTDAApiError) and caught.status_code in _REFUSALS:
                in_a_row = 0
                failed.append({"target": target, "error_msg": str(caught)})
                if len(failed) <= _MOST_LINES:
                    self.log.warning("%s can't be put into the group: %s", target, caught)
                continue
            trouble.append(caught)
            in_a_row += 1
            self.log.warning("%s could not be put into the group: %s", target, caught)
            if in_a_row == _MOST_TROUBLE:
                break  # not with one device: with all of them
        if trouble:
            raise trouble[-1]
        return failed


def _the_same(groups: Sequence[DeviceGroup], name: str, description: str) -> DeviceGroup:
    """The group that is the one asked for; a name alone does not make it that.

    :raises AirflowFailException: what bears the name is another group, or there are several
    """
    if len(groups) > 1:
        ids = ", ".join(group.group_id for group in groups)
        raise AirflowFailException(
            f"There are {len(groups)} device groups named {name!r} ({ids}): no device was put into "
            "any. Name another group in group_name, or remove all but one."
        )
    group = groups[0]
    differs = []
    if group.group_type not in (None, _STATIC):
        differs.append(f"its type is {group.group_type}, not {_STATIC}")
    if description and (group.description or "") != description:
        differs.append(f"its description is {group.description or ''!r}, not {description!r}")
    if differs:
        raise AirflowFailException(
            f"The device group {name!r} ({group.group_id}) is another one: {'; '.join(differs)}. "
            "No device was put into it. Name another one in group_name, or mend that one."
        )
    return group


def group_name_of(wanted: Any) -> str:
    """A name that the platform takes for a device group: the same at every try.

    :raises IoTDAConfigError: it was rendered to nothing, or to something else than text
    """
    text = as_text(wanted, "group_name").strip()
    if len(text) > _LONGEST_WANTED:
        raise IoTDAConfigError(
            f"group_name must be at most {_LONGEST_WANTED} characters, got {len(text)}."
        )
    name = _NOT_IN_NAMES.sub("_", text)
    if name == text and len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{name[: _LONGEST_NAME - len(digest) - 1]}_{digest}"
