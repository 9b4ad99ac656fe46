"""The operator that puts the devices into waves, and writes that down before the first one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, Context

from iotda_provider.airflow_support.installation import installation_of
from iotda_provider.exceptions import IoTDAConfigError, IoTDAError
from iotda_provider.guards import rules_to_json
from iotda_provider.guards.reach import powerless_warning
from iotda_provider.hooks.procedure_io import BlockingIO
from iotda_provider.models import OtaPackage
from iotda_provider.models.sorted_ids import SortedIds
from iotda_provider.models.statuses import STOPPABLE_UPGRADES
from iotda_provider.models.text import one_line
from iotda_provider.operators.base import CONNECTION_FIELDS, IoTDABaseOperator, refuse_mapped
from iotda_provider.operators.batch_task.create import not_before
from iotda_provider.operators.release.conflicts import note_release
from iotda_provider.operators.release.own_tasks import find_own_tasks, own_stamps
from iotda_provider.operators.release.results import TaskResult
from iotda_provider.operators.release.trial import plan_trial, summary, trial_parameter
from iotda_provider.procedures.create_once import stamp_of
from iotda_provider.release.device_ids import read_devices
from iotda_provider.release.gate import as_gate, forecast
from iotda_provider.release.manifest import LOOKED, TRIAL, Manifest, Part
from iotda_provider.release.package_kinds import COLUMN_OF_TASK_TYPE
from iotda_provider.release.planning import late_warning, plan_waves, split_late
from iotda_provider.release.second_look import Counted, count
from iotda_provider.release.storage import ReleaseFiles
from iotda_provider.release.trial_job import TrialPlan
from iotda_provider.release.versions_before import write_before
from iotda_provider.release.wave_specs import GROUP, wave_specs
from iotda_provider.rollout_guard.live_record import HEADER_KEY, header
from iotda_provider.rollout_guard.plan import read_rules
from iotda_provider.task_io.dag_parameters import (
    airflow_id,
    is_template,
    list_or_template,
    object_or_template,
    one_of,
    text_or_template,
    texts,
)
from iotda_provider.task_io.parameters import (
    as_list,
    as_mapping,
    none_if_blank,
    optional_text,
    read_number,
    read_whole_number,
    whole_number,
)
from iotda_provider.task_io.reports import check_report_path, push_xcom
from iotda_provider.transport.runner import run_blocking
from iotda_provider.trials.device_trial import as_trial

if TYPE_CHECKING:
    from iotda_provider.hooks.iotda import IoTDAHook

_LATER = "the waves were planned without one"


class PlanWavesOperator(IoTDABaseOperator):
    """Put every device of a release into a wave, and say which waves can pass by themselves.

    Nothing is created: the devices of a wave get batch tasks when it begins. The same devices, seed
    and parameters give the same waves at every try. With a ``manifest_path`` the membership is in
    files beside it; otherwise it is in this task's XComs ``wave_1``, ``wave_2``, ..., with a copy
    in those of ``keeper_task_id``. The first plan stays, even if the task is cleared, other devices
    are online by then, or a parameter was changed. If this run has created batch tasks and its plan
    is lost, the task fails.

    XComs: the return value ``{"release", "installation", "devices", "waves": [{"wave", "label",
    "devices", "cumulative", "can_pass", "may_fail", "needed"}], "late", "warnings", "seed",
    "digest", "manifest_path", "note"}``: ``release`` names it, and ``installation`` this Airflow;
    ``late``, how many waves at the end hold devices that were not online lately; ``warnings``,
    sentences that a person should read before the first wave; ``note``, what later releases in this
    Airflow see of it, where it has ``group_ids``; and ``rollout``, what is released.

    :param devices: the devices to release to, up to a million: a list, an XCom of one, text that
        begins with ``[``, or the URL of a file with one id a line (templated)
    :param waves: such as ``["1%", "5%", "25%", "100%"]`` or text of it with commas: shares and
        counts (from the first device on), ``group:<group id>``, and ``100%`` or ``rest`` at the end
        (templated)
    :param gate: what a wave must show to pass: ``EnoughSuccess(...)``, or the failure rate to rule
        out (templated)
    :param task_type: ``firmwareUpgrade`` or ``softwareUpgrade`` (templated)
    :param document: ``{"package_ids": [...]}`` (templated)
    :param group_ids: the device groups that the release is for, for people and for other releases
        (templated)
    :param late: devices that were not online lately, in any form of ``devices``: they form a last
        wave of their own. If they are more than half of the fleet, they form several, by the shares
        of ``waves``, as far as ``max_waves`` has room (templated)
    :param versions: for each version the ids of the devices that run it now, or the reference of a
        file with them: written down for the way back (the check's XCom ``versions``); None: it is
        not known (templated)
    :param seed: what the order is drawn from; empty: what names the release (templated)
    :param max_waves: the most waves that can be released, the late ones included
    :param manifest_path: URL of a file for the membership, which all workers can read and write;
        others are written beside it. Needed for more than 30,000 devices (templated)
    :param bake_time: as the waves' watches get it; if it makes no sense, the release ends here,
        before any device is confirmed (templated)
    :param wave_timeout: as ``bake_time`` (templated)
    :param already_current: as ``bake_time`` (templated)
    :param trial: a :class:`~iotda_provider.trials.DeviceTrial`, or ``off``, ``can stop`` or
        ``required`` (templated)
    :param rules: the guard's rules, for people who look at the release (templated)
    :param poll_interval: seconds between two looks of the guard, for people
    :param create_task_ids: the tasks that create the batch tasks of the waves
    :param keeper_task_id: a task that starts after all waves, with a copy of what is written down,
        so that it outlives a plan that is cleared; None: there is none
    :param iotda_conn_id: the connection (templated)
    :param project_id: instead of the connection's (templated)
    :param instance_id: instead of the connection's (templated)
    """

    template_fields: Sequence[str] = (
        "devices",
        "waves",
        "gate",
        "batch_task_type",
        "document",
        "group_ids",
        "late",
        "versions",
        "seed",
        "manifest_path",
        "bake_time",
        "wave_timeout",
        "already_current",
        "trial",
        "rules",
        *CONNECTION_FIELDS,
    )

    def __init__(
        self,
        *,
        devices: Any,
        waves: Any,
        gate: Any,
        task_type: str,
        document: Mapping[str, Any] | str,
        group_ids: Any = None,
        late: Any = (),
        versions: Any = None,
        seed: str | None = None,
        max_waves: int = 6,
        manifest_path: str | None = None,
        bake_time: Any = 0,
        wave_timeout: Any = 86400,
        already_current: Any = 0,
        trial: Any = None,
        rules: Any = (),
        poll_interval: float = 10,
        create_task_ids: Sequence[str] = (),
        keeper_task_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.devices = list_or_template(devices, "devices")
        self.waves = list_or_template(waves, "waves")
        self.gate = gate
        self.batch_task_type = text_or_template(task_type, "task_type")
        self.document = object_or_template(document, "document")
        self.group_ids = list_or_template(group_ids, "group_ids", optional=True)
        self.late = list_or_template(late, "late")
        self.versions = object_or_template(versions, "versions")
        self.seed = text_or_template(seed, "seed", optional=True)
        self.max_waves = whole_number(max_waves, "max_waves")
        self.manifest_path = text_or_template(manifest_path, "manifest_path", optional=True)
        self.bake_time = bake_time
        self.wave_timeout = wave_timeout
        self.already_current = already_current
        self.trial, _ = trial_parameter(trial)
        self.rules = rules_to_json(read_rules(rules)) if rules and not is_template(rules) else rules
        self.poll_interval = poll_interval
        self.create_task_ids = texts(create_task_ids, "create_task_ids")
        self.keeper_task_id = airflow_id(keeper_task_id, "keeper_task_id", optional=True)

    def execute(self, context: Context) -> dict[str, Any]:
        from iotda_provider.api import check_group_ids, create_batch_task

        ti: Any = context["ti"]
        path = check_report_path(self.manifest_path, "manifest_path")
        refuse_mapped(self, context, "its waves would not find what it plans for them")
        gate = as_gate(self.gate)
        task_type = one_of(self.batch_task_type, "task_type", tuple(map(str, STOPPABLE_UPGRADES)))
        document = as_mapping(self.document, "document")
        # Each wave reads these again: what is wrong is to be known before the first.
        create_batch_task(
            task_name="a", task_type=task_type, targets=["0"], document=document, need_confirm=True
        )
        bake = read_number(self.bake_time, "bake_time", zero=True)
        timeout = read_number(self.wave_timeout, "wave_timeout")
        read_whole_number(self.already_current, "already_current", zero=True)
        groups = none_if_blank(self.group_ids)
        group_ids = [] if groups is None else check_group_ids(as_list(groups, "group_ids"))
        installation = installation_of(context)
        release = stamp_of(installation, ti.dag_id, ti.run_id, ti.task_id, -1)
        files = ReleaseFiles(ti.dag_id, ti.run_id, ti.task_id, self.keeper_task_id, path)
        known = files.read_manifest()
        if known is not None and known.release != release:
            raise IoTDAConfigError(
                f"The manifest at {one_line(path, 300)} is that of another release, "
                f"{known.release}: give every release a path of its own, such as one with "
                "{{ run_id }}."
            )
        packages = _packages(document)
        rules = read_rules(self.rules) if self.rules else ()
        with self.hook() as hook:
            if known is None:
                self._refuse_unplanned(hook, context)
            package = self._package(hook, packages)
            manifest = known
            if manifest is None:
                manifest = self._plan(hook, files, release, bake, package)
            about = header(
                "release",
                (),
                rules=rules,
                version=None if package is None else package.version,
                poll_interval=self.poll_interval,
                **self.connection,
            )
        about |= {
            "package_ids": packages,
            "group_ids": [str(one) for one in group_ids],
            "devices": manifest.cumulative[-1],
        }
        push_xcom(context, HEADER_KEY, about, self.log)
        if len(manifest) > self.max_waves:
            raise IoTDAConfigError(
                f"There are {len(manifest)} waves ({', '.join(manifest.labels)}), and this DAG has "
                f"room for max_waves={self.max_waves}."
            )
        if known is not None:
            self.log.info(
                "The waves stay as they were planned first, whatever parameters or devices have "
                "changed since."
            )
            files.copy_all(self.log)
        note = note_release(ti, release, group_ids, package, self.log)
        found = forecast(gate, manifest.labels, manifest.cumulative)
        warning = late_warning([wave.devices for wave in manifest.waves], manifest.late)
        trial, warnings = summary(
            as_trial(self.trial), self._trial_plan(files), bake=bake, wave_timeout=timeout
        )
        for wave in found:
            (self.log.info if wave.can_pass else self.log.warning)("%s", wave.sentence)
        powerless = powerless_warning(rules, manifest.cumulative[-1])
        warnings = [*filter(None, (warning, powerless)), *warnings]
        for warning in warnings:
            self.log.warning("%s", warning)
        return {
            "release": release,
            "installation": installation,
            "devices": manifest.cumulative[-1],
            "waves": [wave.to_json() for wave in found],
            "late": manifest.late,
            "warnings": warnings,
            "trial": trial,
            "seed": manifest.seed,
            "digest": manifest.digest,
            "manifest_path": path,
            **note,
        }

    def _package(self, hook: IoTDAHook, packages: Sequence[str]) -> OtaPackage | None:
        """The package that is released; None where it can't be read, or there are several."""
        if len(packages) != 1:
            return None
        try:
            return hook.get_ota_package(packages[0])
        except IoTDAError as error:
            self.log.warning(
                "Package %s can't be read, so no wave looks again at the versions of its devices: "
                "%s",
                packages[0],
                error,
            )
            return None

    def _refuse_unplanned(self, hook: IoTDAHook, context: Context) -> None:
        """
        :raises IoTDAConfigError: this run has created batch tasks by waves that nobody knows now
        """
        stamps = own_stamps(context, self.create_task_ids)
        if found := find_own_tasks(hook, stamps, not_before(context)) if stamps else []:
            raise IoTDAConfigError(
                f"This run has created batch task {found[0].task_id} ({found[0].task_name}, "
                f"{found[0].status}), and the plan of its waves is lost: waves planned anew could "
                "hold more devices than were proven safe. Stop its batch tasks, and start the "
                "release anew."
            )

    def _plan(
        self,
        hook: IoTDAHook,
        files: ReleaseFiles,
        release: str,
        bake: float,
        package: OtaPackage | None,
    ) -> Manifest:
        specs = wave_specs(self.waves)
        devices = read_devices(self.devices)
        if not devices:
            raise IoTDAConfigError("devices is an empty list: there is nobody to release to.")
        groups = {
            spec.group_id: SortedIds(
                device.device_id for device in hook.iter_group_devices(spec.group_id)
            )
            for spec in specs
            if spec.kind == GROUP
        }
        seed = optional_text(self.seed, "seed") or release
        late = SortedIds(read_devices(self.late, "late"))
        whole = plan_waves(devices, specs, seed=seed, groups=groups, late=late)
        waves = split_late(whole, specs, self.max_waves)
        trial = plan_trial(
            hook,
            as_trial(self.trial),
            waves,
            specs,
            packages=_packages(self.document),
            task_type=str(self.batch_task_type),
            bake=bake,
            log=self.log,
        )
        if self.trial is not None:
            files.write(TRIAL, trial.to_json())
        if package is not None:
            column = COLUMN_OF_TASK_TYPE[str(self.batch_task_type)]
            counted = Counted(package.version, column, package.product_id)
            counted = run_blocking(count(BlockingIO(hook), counted, self.log))
            files.write(LOOKED, counted.to_json())
        if none_if_blank(self.versions) is not None:
            write_before(files, waves.waves, as_mapping(self.versions, "versions"))
        # The manifest comes last: a try that was killed before it plans anew.
        return files.write_waves(release, waves)

    def _trial_plan(self, files: ReleaseFiles) -> TrialPlan:
        """The trial as it was planned first.

        :raises IoTDAConfigError: what was written down of it is damaged
        """
        if self.trial is None:
            return TrialPlan()
        found = files.read(TRIAL)
        try:
            return TrialPlan.from_json(found[0]) if found else TrialPlan(off=_LATER)
        except ValueError as error:
            raise IoTDAConfigError(f"The trial that was planned can't be used: {error}") from error


def _packages(document: Any) -> list[str]:
    return [str(one) for one in as_mapping(document, "document").get("package_ids") or ()]


def plan_of(ti: Any, plan_task_id: str) -> TaskResult:
    """What :class:`PlanWavesOperator` has returned.

    :raises IoTDAConfigError: nothing
    """
    plan = ti.xcom_pull(task_ids=plan_task_id)
    if not isinstance(plan, Mapping) or not isinstance(plan.get("waves"), list):
        raise IoTDAConfigError(f"{one_line(plan_task_id, 250)} has planned no waves.")
    return TaskResult(plan, plan_task_id)


def created_parts(ti: Any, create_task_id: str) -> list[Part]:
    """The batch tasks of a release by the result of a task that has created some of them.

    :raises AirflowFailException: it has left none
    """
    created = ti.xcom_pull(task_ids=create_task_id)
    if not isinstance(created, Mapping):
        raise AirflowFailException(
            f"{create_task_id} has left no result, so no device is confirmed (was it marked as a "
            "success by hand?). Clear it."
        )
    parts = as_list(created.get("all_parts") or (), f"{create_task_id}: all_parts")
    return [Part.from_json(part) for part in parts]
