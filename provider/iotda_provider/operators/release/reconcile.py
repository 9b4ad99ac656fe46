"""The operator that finds out after a release what the devices really run, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Context

from iotda_provider.exceptions import IoTDAConfigError, IoTDANotFoundError
from iotda_provider.guards import FailureClasses
from iotda_provider.models import BatchTask, Subtask, SubtaskStatus
from iotda_provider.models.sorted_ids import SortedIds, ValuesOfIds
from iotda_provider.operators.base import CONNECTION_FIELDS, IoTDABaseOperator
from iotda_provider.operators.release.plan import plan_of
from iotda_provider.release.device_ids import iter_ids
from iotda_provider.release.gate import as_gate
from iotda_provider.release.manifest import HELD, Part
from iotda_provider.release.package_kinds import COLUMN_OF_WORD
from iotda_provider.release.reconciliation import (
    FIRMWARE,
    LEFT_OUT,
    NOT_BEGUN,
    SUCCESS_OLD_VERSION,
    UNREAD,
    Reconciliation,
    reconcile,
    statuses_to_read,
    why_left_out,
)
from iotda_provider.release.storage import ReleaseFiles
from iotda_provider.rollout_guard.outcome import BREACHED
from iotda_provider.task_io.dag_parameters import airflow_id, one_of, text_or_template
from iotda_provider.task_io.parameters import as_mapping, optional_text, read_number
from iotda_provider.task_io.reports import own_report_path, write_report
from iotda_provider.waiting.outage import is_gone

if TYPE_CHECKING:
    from iotda_provider.hooks.iotda import IoTDAHook

_OF_AN_OUTCOME = ("verdict", "wave", "waves", "approved_by_person")
#: If subtasks change during so many readings, all of them are read.
_MOST_READINGS = 3


class ReconcileReleaseOperator(IoTDABaseOperator):
    """Compare what the platform says of a release with the versions that its devices run.

    It finds devices that finished after a stop, and devices that report success and run the old
    version or an unknown one. It sorts the others: failed by their environment or by the firmware,
    never started, interrupted, unfinished, or in a wave that never began. It reads the list of
    devices with their versions, and of each batch task the subtasks, fifty a call, without those of
    the most frequent status.

    XComs: the return value ``{"batch_task_ids", "status", "version", "counts", "exposed",
    "running", "left_out", "proven", "unproven_because", "summary", "report_path"}``, where
    ``left_out`` counts the devices that were left out of their waves, by reason; and ``to_retry``
    (devices that this release has confirmed, and that failed by their environment; none if the
    release was stopped for the firmware's fault), ``to_quarantine`` (failed by the firmware),
    ``success_with_old_version``, ``unread``, ``wave_not_begun`` and ``left_out``: device ids, as a
    list or as the reference of a file with them. ``proven``: the version may be announced. For
    that, the gate must also open for the devices that really run the version (or a person has said
    yes to the last wave), at most ``tolerated_rate`` of the successes may be false or unreadable,
    and no batch task may be stopped. Otherwise ``unproven_because`` and the summary say why.

    The release was stopped for the firmware's fault if its guard has stopped it, and not all
    failures are the environment's.

    :param version: what its devices were to run (templated)
    :param outcome: the result of the rollout's ``outcome`` task (templated)
    :param plan_task_id: the rollout's ``plan`` task
    :param gate: ``EnoughSuccess(...)``, or the failure rate to rule out (templated)
    :param tolerated_rate: the largest share of false and unread successes with which the version
        may be announced (templated)
    :param kind: which version it is: ``firmware`` or ``software`` (templated)
    :param from_version: what they ran before, if the release is only for devices of that version,
        as on the way back: a device that was left out, and now runs a third version, counts as
        ``runs_another_version`` (templated)
    :param product_id: read only this product's devices; empty: all (templated)
    :param failure_classes: how failures are classed, where the default does not fit
    :param report_path: URL of a file that gets every device, one JSON object a line:
        ``{"target", "outcome", "wave"}`` (templated)
    :param iotda_conn_id: the connection (templated)
    :param project_id: instead of the connection's (templated)
    :param instance_id: instead of the connection's (templated)
    """

    template_fields: Sequence[str] = (
        "version",
        "outcome",
        "gate",
        "tolerated_rate",
        "kind",
        "from_version",
        "product_id",
        "report_path",
        *CONNECTION_FIELDS,
    )

    def __init__(
        self,
        *,
        version: str,
        outcome: Any,
        plan_task_id: str,
        gate: Any,
        tolerated_rate: Any = 0.02,
        kind: str = "firmware",
        from_version: str | None = None,
        product_id: str | None = None,
        failure_classes: FailureClasses | Mapping[str, str] | None = None,
        report_path: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.version = text_or_template(version, "version")
        self.outcome = outcome
        self.plan_task_id = airflow_id(plan_task_id, "plan_task_id")
        self.gate = gate
        self.tolerated_rate = tolerated_rate
        self.kind = text_or_template(kind, "kind")
        self.from_version = text_or_template(from_version, "from_version", optional=True)
        self.product_id = text_or_template(product_id, "product_id", optional=True)
        self.failure_classes = FailureClasses.of(failure_classes)
        self.report_path = text_or_template(report_path, "report_path", optional=True)
        self._report_template = report_path

    def execute(self, context: Context) -> dict[str, Any]:
        from iotda_provider.api import check_version

        version = check_version(self.version)
        only = self.from_version
        only = None if only is None else check_version(only, "from_version")
        column = COLUMN_OF_WORD[one_of(self.kind, "kind", tuple(COLUMN_OF_WORD))]
        product_id = optional_text(self.product_id, "product_id")
        outcome = as_mapping(self.outcome, "outcome")
        if not isinstance(outcome.get("wave"), int) or not {*_OF_AN_OUTCOME} <= outcome.keys():
            raise IoTDAConfigError(
                "outcome must be the result of the rollout's outcome task, with "
                f"{', '.join(_OF_AN_OUTCOME)}."
            )
        path = own_report_path(self, context)
        ti: Any = context["ti"]
        files = ReleaseFiles.of(plan_of(ti, self.plan_task_id), ti, self.plan_task_id)
        parts = files.created_parts()
        found, tasks, left_out = Reconciliation(), [], Counter[str]()
        with self.hook() as hook:
            versions = self._versions(hook, files, parts, column, product_id)

            def everybody() -> Iterator[dict[str, Any]]:
                for part in parts:
                    task, rows, other = _read(hook, str(part.batch_task_id))
                    tasks.append(task)
                    ledger = files.read_ledger(part, self.log)
                    for device, word in reconcile(
                        found, ledger, rows, other, versions, version, self.failure_classes
                    ):
                        yield {"target": device, "outcome": word, "wave": part.wave}
                for row in _in_no_batch_task(files, found):
                    if row["outcome"] == LEFT_OUT:
                        runs = versions.get(row["target"])
                        row["why"] = why_left_out(row["why"], runs, version, only)
                        left_out[row["why"]] += 1
                    yield row

            write_report(path, everybody())
        at_fault = self._is_firmwares_fault(outcome, found)
        retried = [] if at_fault else found.to_retry
        for key, devices in (
            ("to_retry", retried),
            ("to_quarantine", found.kept[FIRMWARE]),
            *((key, found.kept[key]) for key in (SUCCESS_OLD_VERSION, UNREAD, NOT_BEGUN, LEFT_OUT)),
        ):
            ti.xcom_push(key=key, value=files.hand_over(devices, f"reconciled_{key}"))
        by_person = outcome["waves"] in outcome["approved_by_person"]
        why = self._why_unproven(found, tasks, by_person=by_person)
        result = {
            "batch_task_ids": [part.batch_task_id for part in parts],
            "status": _statuses(tasks),
            "version": version,
            "counts": found.counts,
            "exposed": found.exposed,
            "running": found.running,
            "left_out": dict(left_out),
            "to_retry": len(retried),
            "firmware_at_fault": at_fault,
            "proven": not why,
            "unproven_because": why,
            "summary": f"Version {version}: {found}.{f' NOT proven: {why}.' if why else ''}",
            "report_path": path,
        }
        self.log.info("%s", result["summary"])
        for key, what in (
            (SUCCESS_OLD_VERSION, "report success and run another version"),
            (UNREAD, "report success, and their version can't be read"),
        ):
            if found.kept[key]:
                self.log.warning(
                    "%d device(s) %s, first %s.", len(found.kept[key]), what, found.kept[key][0]
                )
        return result

    def _versions(
        self,
        hook: IoTDAHook,
        files: ReleaseFiles,
        parts: Sequence[Part],
        column: str,
        product_id: str | None,
    ) -> Mapping[str, str | None]:
        """What each device of the waves that have begun runs; None: it could not be read."""
        every = SortedIds()
        for part in parts:
            every.update(files.read_members(part))
        for wave in files.all_begun():
            for ids in wave.left_out.values():
                every.update(iter_ids(ids) if isinstance(ids, str) else ids)
        versions = ValuesOfIds(every)
        known: dict[str, str] = {}  # a fleet runs few versions: each text is kept once
        for device in hook.list_devices(product_id=product_id) if every else ():
            if device.device_id in every:
                runs = getattr(device, column)
                versions[device.device_id] = runs and known.setdefault(runs, runs)
        return versions

    def _is_firmwares_fault(self, outcome: Mapping[str, Any], found: Reconciliation) -> bool:
        return outcome["verdict"] == BREACHED and found.blames_firmware

    def _why_unproven(
        self, found: Reconciliation, tasks: Sequence[BatchTask | None], *, by_person: bool
    ) -> str | None:
        """Why the version may not be announced; None: it may.

        :param by_person: a person has said yes to the last wave, which stands for the final gate
        """
        if any(task is None or task.status.is_stop for task in tasks):
            return f"of its batch tasks some are {_statuses(tasks)}"
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


def _statuses(tasks: Sequence[BatchTask | None]) -> str:
    """The statuses of batch tasks, each once; ``gone`` for one that does not exist any more."""
    return ", ".join(dict.fromkeys("gone" if task is None else str(task.status) for task in tasks))


def _read(
    hook: IoTDAHook, batch_task_id: str
) -> tuple[BatchTask | None, dict[str, Subtask] | None, SubtaskStatus | None]:
    """A batch task, its subtasks but for those of one status, and that status.

    If it is gone, each of the three is None. If it keeps changing meanwhile, all subtasks are read.
    """
    try:
        for _ in range(_MOST_READINGS):
            task = hook.get_batch_task(batch_task_id)
            wanted, other = statuses_to_read(task.progress)
            rows: dict[str, Subtask] = {}
            for status in wanted:
                rows |= {r.target: r for r in hook.iter_subtasks(batch_task_id, status=status)}
            if task.progress.adds_up and len(rows) == sum(wanted.values()):
                return task, rows, other
        rows = {row.target: row for row in hook.iter_subtasks(batch_task_id)}
    except IoTDANotFoundError as error:
        if not is_gone(error):
            raise
        return None, None, None
    return task, rows, None


def _in_no_batch_task(files: ReleaseFiles, found: Reconciliation) -> Iterator[dict[str, Any]]:
    """The devices that were left out of their waves, and those of waves that never began."""
    begun = files.all_begun()
    come_again = len(begun) == len(files.planned())
    for wave in begun:
        for why, ids in wave.left_out.items():
            # These are in the last wave again, or left out of it too.
            if why == HELD and come_again and wave is not begun[-1]:
                continue
            for device in iter_ids(ids) if isinstance(ids, str) else ids:
                found.add(device, LEFT_OUT)
                yield {"target": device, "outcome": LEFT_OUT, "why": why, "wave": wave.wave}
    for place in range(len(begun) + 1, len(files.planned()) + 1):
        for device in files.iter_planned(place):
            found.add(device, NOT_BEGUN)
            yield {"target": device, "outcome": NOT_BEGUN, "wave": place}
