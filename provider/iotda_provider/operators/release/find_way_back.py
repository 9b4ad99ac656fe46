"""The operator that finds the devices of a stopped release that get the old package back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, Context

from iotda_provider.exceptions import IoTDANotFoundError
from iotda_provider.models import OtaPackage, SubtaskStatus
from iotda_provider.models.sorted_ids import MarkedIds, SortedIds, ValuesOfIds
from iotda_provider.models.statuses import WITHOUT_OUTCOME
from iotda_provider.models.text import one_line
from iotda_provider.operators.base import CONNECTION_FIELDS, IoTDABaseOperator
from iotda_provider.operators.release.packages import read_package
from iotda_provider.operators.release.way_back import GATE
from iotda_provider.release.device_ids import hand_over
from iotda_provider.release.gate import as_gate
from iotda_provider.release.manifest import Part
from iotda_provider.release.package_kinds import kind_of
from iotda_provider.release.storage import ReleaseFiles
from iotda_provider.release.versions_before import read_before
from iotda_provider.release.way_back import (
    Versions,
    WayBack,
    late_of,
    sort_out,
    way_back_waves,
    why_not_back,
)
from iotda_provider.rollout_guard.live_record import HEADER_KEY
from iotda_provider.task_io.dag_parameters import airflow_id, text_or_template
from iotda_provider.task_io.parameters import as_text
from iotda_provider.task_io.reports import check_report_path, own_report_path, write_report
from iotda_provider.waiting.outage import is_gone

if TYPE_CHECKING:
    from iotda_provider.hooks.iotda import IoTDAHook


class FindDevicesToRollBackOperator(IoTDABaseOperator):
    """Find the devices of a release that get the old package back, and change nothing.

    These are the devices that the release has confirmed, that run its version now, and that ran
    another one before. The present version is read from IoTDA; the earlier one was written down
    when the release was planned. A device stays as it is if it is still installing, if it failed
    without changing its version, or if one of its two versions can't be read.

    XComs: the return value ``{"devices", "counts", "from_another", "waves", "at_a_time",
    "package_id", "version", "old_version", "kind", "task_type", "product_id", "summary",
    "report_path"}``; ``targets``, the ids of the devices, as a list or as the reference of a file
    with them; ``late``, those of them that come after all others because they are offline, and
    ``from_another``, those that ran yet another version before, likewise; and
    ``left_as_they_are``, the first 700 of the others, by the word that says why.
    ``counts`` has the number of devices under each word of
    :class:`~iotda_provider.release.way_back.WayBack`; ``waves`` and ``at_a_time`` fit
    the number of devices.

    :param release_run_id: the DAG run of the release (templated)
    :param package_id: the old package, or a rebuild of it under a higher number (templated)
    :param release_dag_id: the DAG of the release (templated)
    :param plan_task_id: the task in it that has planned the waves
    :param keeper_task_id: the task in it with the copies of what was written down
    :param release_manifest_path: the release's ``manifest_path``; None: it has none (templated)
    :param manifest_path: URL beside which files with ids are written; needed for more than 30,000
        devices; None: ids are in XComs (templated)
    :param gate: the failure rate that a wave of the way back must rule out (templated)
    :param report_path: URL of a file that gets every device, one JSON object a line: ``{"target",
        "outcome", "version_before", "version_now"}`` (templated)
    :param iotda_conn_id: the connection (templated)
    :param project_id: instead of the connection's (templated)
    :param instance_id: instead of the connection's (templated)
    """

    template_fields: Sequence[str] = (
        "release_run_id",
        "package_id",
        "release_dag_id",
        "release_manifest_path",
        "manifest_path",
        "gate",
        "report_path",
        *CONNECTION_FIELDS,
    )

    def __init__(
        self,
        *,
        release_run_id: str,
        package_id: str,
        release_dag_id: str = "firmware_release",
        plan_task_id: str = "rollout.plan",
        keeper_task_id: str | None = "rollout.outcome",
        release_manifest_path: str | None = None,
        manifest_path: str | None = None,
        gate: Any = GATE,
        report_path: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.release_run_id = text_or_template(release_run_id, "release_run_id")
        self.package_id = text_or_template(package_id, "package_id")
        self.release_dag_id = text_or_template(release_dag_id, "release_dag_id")
        self.plan_task_id = airflow_id(plan_task_id, "plan_task_id")
        self.keeper_task_id = airflow_id(keeper_task_id, "keeper_task_id", optional=True)
        self.release_manifest_path = text_or_template(
            release_manifest_path, "release_manifest_path", optional=True
        )
        self.manifest_path = text_or_template(manifest_path, "manifest_path", optional=True)
        self.gate = gate
        self.report_path = text_or_template(report_path, "report_path", optional=True)
        self._report_template = report_path

    def execute(self, context: Context) -> dict[str, Any]:
        from iotda_provider.api import check_package_id

        package_id = check_package_id(as_text(self.package_id, "package_id"))
        gate = as_gate(self.gate)
        own = check_report_path(self.manifest_path, "manifest_path")
        path = own_report_path(self, context)
        files = ReleaseFiles(
            as_text(self.release_dag_id, "release_dag_id"),
            as_text(self.release_run_id, "release_run_id"),
            self.plan_task_id,
            self.keeper_task_id,
            check_report_path(self.release_manifest_path, "release_manifest_path"),
        )
        if files.read_manifest() is None:
            raise AirflowFailException(
                f"{_named(files)} has planned no waves that can be read: "
                "there is no way back from it. Is release_run_id right, and manifest_path?"
            )
        parts = files.created_parts()
        found, offline = WayBack(), set[str]()
        with self.hook() as hook:
            old = read_package(hook, package_id)
            new = read_package(hook, self._released(files))
            if why := why_not_back(new, old):
                raise AirflowFailException(f"Package {package_id} is no way back: {why}.")
            kind, task_type, column = kind_of(old)
            rows = self._decide(hook, files, parts, found, offline, new, old, column)
            write_report(path, rows)
        ti: Any = context["ti"]
        for key, ids in (("targets", found.devices), ("from_another", found.from_another)):
            ti.xcom_push(key=key, value=hand_over(ids, own, key))
        ti.xcom_push(key="left_as_they_are", value=found.others)
        late = late_of(found.devices, offline, gate)
        ti.xcom_push(key="late", value=hand_over(late, own, "late"))
        waves, at_a_time = way_back_waves(len(found.devices), gate, len(late))
        self.log.info("%s", found.summary)
        return {
            "devices": len(found.devices),
            "counts": found.counts,
            "from_another": len(found.from_another),
            "waves": waves,
            "at_a_time": at_a_time,
            "package_id": old.package_id,
            "version": new.version,
            "old_version": old.version,
            "kind": kind,
            "task_type": str(task_type),
            "product_id": old.product_id,
            "summary": found.summary,
            "report_path": path,
        }

    def _released(self, files: ReleaseFiles) -> str:
        """The id of the package that the release has brought.

        :raises AirflowFailException: nobody knows
        """
        # That is an XCom, wherever the waves are.
        for about in replace(files, manifest_path=None).read(HEADER_KEY):
            packages = about.get("package_ids") if isinstance(about, Mapping) else None
            if isinstance(packages, list) and len(packages) == 1:
                return str(packages[0])
        raise AirflowFailException(f"{_named(files)} does not say which package it has released.")

    def _decide(
        self,
        hook: IoTDAHook,
        files: ReleaseFiles,
        parts: Sequence[Part],
        found: WayBack,
        offline: set[str],
        new: OtaPackage,
        old: OtaPackage,
        column: str,
    ) -> Iterator[dict[str, Any]]:
        """Decide for every device of the release's batch tasks; a row for each."""
        confirmed: list[tuple[Part, Sequence[str], MarkedIds, dict[str, SubtaskStatus]]] = []
        every = SortedIds()
        for part in parts:
            ledger = files.read_ledger(part, self.log)
            in_order = SortedIds(ledger.members)
            every.update(in_order)
            own = MarkedIds(in_order)
            own.update(ledger.accepted | ledger.unanswered)
            # Before the versions: a device that has ended by now keeps its version.
            confirmed.append((part, ledger.members, own, _unfinished(hook, part, in_order)))
        now, texts = ValuesOfIds(every), dict[str, str]()  # each version's text is kept once
        for device in hook.list_devices(product_id=new.product_id) if every else ():
            if (device_id := every.own(device.device_id)) is not None:
                runs = getattr(device, column)
                now[device_id] = runs and texts.setdefault(runs, runs)
                if device.status != "ONLINE":
                    offline.add(device_id)
        before: dict[int, dict[str, str]] = {}
        for part, members, own, statuses in confirmed:
            if part.wave not in before:
                before = {part.wave: read_before(files, part.wave, self.log)}
            versions = Versions(new.version, old.version, before[part.wave], now)
            for row in sort_out(found, members, own, statuses, versions):
                yield {**row, "wave": part.wave}


def _unfinished(hook: IoTDAHook, part: Part, members: SortedIds) -> dict[str, SubtaskStatus]:
    """The devices of a batch task that have no outcome yet, each with its status."""
    found: dict[str, SubtaskStatus] = {}
    try:
        for status in WITHOUT_OUTCOME:
            rows = hook.iter_subtasks(str(part.batch_task_id), status=status)
            for row in rows:
                if (target := members.own(row.target)) is not None:
                    found[target] = row.status
    except IoTDANotFoundError as error:
        if not is_gone(error):
            raise
        # Somebody has deleted it: what its devices run is read all the same.
    return found


def _named(files: ReleaseFiles) -> str:
    return f"Run {one_line(files.run_id, 200)} of {one_line(files.dag_id, 200)}"
