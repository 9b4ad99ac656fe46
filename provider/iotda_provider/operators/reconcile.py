"""Operators that tidy up after a release: what the devices really run, and whom to set aside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from iotda_provider.exceptions import IoTDAError, IoTDANotFoundError
from iotda_provider.guards import FailureClasses
from iotda_provider.operators.base import CONNECTION_FIELDS, IoTDABaseOperator
from iotda_provider.operators.wave import read_number
from iotda_provider.operators.wave_plan import members_up_to
from iotda_provider.parameters import as_list, as_mapping, given, one_of
from iotda_provider.release.gating import as_gate
from iotda_provider.release.reconciling import SUCCESS_OLD_VERSION, Reconciliation, reconcile
from iotda_provider.reporting import check_report_path, write_report

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from iotda_provider.hooks.iotda import IoTDAHook

_COLUMNS = {"firmware": "fw_version", "software": "sw_version"}


class ReconcileReleaseOperator(IoTDABaseOperator):
    """Hold what the platform says of a release against the versions that its devices run.

    It finds devices that finished after a stop, devices that report success and run the old
    version, and sorts the rest: failed by their environment or by the firmware, never started,
    interrupted, unfinished. Two lists are read, of subtasks and of devices, fifty rows a call.

    XComs: the return value ``{"batch_task_id", "version", "counts", "exposed", "running",
    "proven", "summary", "report_path"}``, ``to_retry`` (never started, or failed by their
    environment), ``to_quarantine`` (failed by the firmware) and ``success_with_old_version``, lists
    of device ids. ``proven``: it may be announced, as the gate opens for the devices that really
    run the version too (or a person has said yes), and no more than ``tolerated_rate`` of the
    successes are false.

    :param batch_task_id: the batch task (templated)
    :param version: what its devices were to run (templated)
    :param outcome: the result of the rollout's ``outcome`` task (templated)
    :param plan_task_id: the rollout's ``plan`` task
    :param gate: ``EnoughSuccess(...)``, or the failure rate to rule out (templated)
    :param tolerated_rate: the share of false successes that is no reason to keep quiet (templated)
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
        self.batch_task_id = batch_task_id
        self.version = version
        self.outcome = outcome
        self.plan_task_id = plan_task_id
        self.gate = gate
        self.tolerated_rate = tolerated_rate
        self.kind = kind
        self.product_id = product_id
        self.failure_classes = FailureClasses.of(failure_classes)
        self.report_path = report_path

    def execute(self, context: Context) -> dict[str, Any]:
        outcome = as_mapping(self.outcome, "outcome")
        path = check_report_path(self.report_path)
        ti: Any = context["ti"]
        begun = int(outcome["wave"])
        let_start = set(members_up_to(ti, self.plan_task_id, begun) if begun else ())
        if outcome["unconfirmed_from"]:
            let_start -= set(
                ti.xcom_pull(task_ids=outcome["unconfirmed_from"], key="unconfirmed") or ()
            )
        with self.hook() as hook:
            rows = list(hook.iter_subtasks(self.batch_task_id))
            found = reconcile(
                rows,
                self._versions(hook, {row.target for row in rows}),
                str(self.version),
                let_start=let_start,
                classes=self.failure_classes,
            )
        for key, devices in (
            ("to_retry", found.to_retry),
            ("to_quarantine", found.to_quarantine),
            (SUCCESS_OLD_VERSION, found.of(SUCCESS_OLD_VERSION)),
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
        result = {
            "batch_task_id": self.batch_task_id,
            "version": str(self.version),
            "counts": found.counts,
            "exposed": found.exposed,
            "running": found.running,
            "proven": self._is_proven(found, bool(outcome["approved_by_person"])),
            "summary": f"Version {self.version}: {found}.",
            "report_path": path,
        }
        self.log.info("%s", result["summary"])
        if found.counts[SUCCESS_OLD_VERSION]:
            self.log.warning(
                "%d device(s) report success and run another version, first %s.",
                found.counts[SUCCESS_OLD_VERSION],
                found.of(SUCCESS_OLD_VERSION)[0],
            )
        return result

    def _is_proven(self, found: Reconciliation, by_person: bool) -> bool:
        rate = read_number(self.tolerated_rate, "tolerated_rate")
        false = found.counts[SUCCESS_OLD_VERSION]
        if false > rate * (false + found.running):
            return False
        unproven = found.exposed - found.running
        return by_person or as_gate(self.gate).passes(unproven, found.exposed)

    def _versions(self, hook: IoTDAHook, wanted: set[str]) -> dict[str, str | None]:
        column = _COLUMNS[one_of(self.kind, "kind", tuple(_COLUMNS))]
        devices = hook.list_devices(product_id=given(self.product_id))
        return {
            device.device_id: getattr(device, column)
            for device in devices
            if device.device_id in wanted
        }


class QuarantineDevicesOperator(IoTDABaseOperator):
    """Put devices into a device group, which is made where it does not exist.

    Asking twice changes nothing more. A device that can't be put there is told and does not keep
    the others out.

    XCom: the return value ``{"group_id", "name", "requested", "added", "failed": [{"target",
    "error_msg"}, ...]}``; an empty list of devices makes no group.

    :param targets: device ids (templated)
    :param group_name: the group, up to 64 characters (templated)
    :param description: for a new group (templated)
    :param iotda_conn_id: the connection (templated)
    :param project_id: instead of the connection's (templated)
    :param instance_id: instead of the connection's (templated)
    """

    template_fields: Sequence[str] = ("targets", "group_name", "description", *CONNECTION_FIELDS)

    def __init__(
        self, *, targets: Any, group_name: str, description: str = "", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.targets = targets
        self.group_name = group_name
        self.description = description

    def execute(self, context: Context) -> dict[str, Any]:
        from iotda_provider.api import check_targets

        targets = check_targets(as_list(self.targets, "targets"))
        result: dict[str, Any] = {
            "group_id": None,
            "name": self.group_name,
            "requested": len(targets),
            "added": 0,
            "failed": [],
        }
        if not targets:
            self.log.info("No device is to be put into %s.", self.group_name)
            return result
        with self.hook() as hook:
            groups = hook.list_device_groups(name=self.group_name)
            group = next((group for group in groups if group.name == self.group_name), None)
            if group is None:
                group = hook.create_device_group(name=self.group_name, description=self.description)
            result["group_id"] = group.group_id
            inside = {device.device_id for device in hook.iter_group_devices(group.group_id)}
            for target in targets:
                if target not in inside:
                    self._add(hook, group.group_id, target, result["failed"])
        result["added"] = len(targets) - len(result["failed"])
        self.log.info("%d of %d device(s) are in %s.", result["added"], len(targets), group.name)
        return result

    def _add(
        self, hook: IoTDAHook, group_id: str, target: str, failed: list[dict[str, Any]]
    ) -> None:
        try:
            hook.change_device_group(group_id, target, add=True)
        except IoTDAError as error:
            if isinstance(error, IoTDANotFoundError) or getattr(error, "status_code", 0) in (
                400,
                403,
                409,
            ):
                self.log.warning("%s can't be put into the group: %s", target, error)
                failed.append({"target": target, "error_msg": str(error)})
            else:
                raise
