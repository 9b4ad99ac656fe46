"""The operator that checks a release before it begins: its parameters, its package, its devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, Context

from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.models.sorted_ids import SortedIds
from iotda_provider.operators.base import CONNECTION_FIELDS, IoTDABaseOperator
from iotda_provider.operators.batch_task.create import not_before
from iotda_provider.operators.release.conflicts import (
    conflicts_of,
    refuse_conflicts,
    what_was_created,
)
from iotda_provider.operators.release.fleet import (
    find_late,
    members_of,
    refuse_number,
    sort_devices,
    wave_groups_of,
)
from iotda_provider.operators.release.own_tasks import (
    OwnTasks,
    create_task_ids,
    find_own_tasks,
    own_stamps,
)
from iotda_provider.operators.release.packages import read_package
from iotda_provider.operators.release.trial import trial_parameter
from iotda_provider.operators.release.way_back_check import (
    WAY_BACK_DAG,
    fault_of_its_dag,
    fault_of_way_back,
)
from iotda_provider.release.device_ids import hand_over
from iotda_provider.release.outline import Outline
from iotda_provider.release.package_kinds import kind_of
from iotda_provider.release.preflight import ReleaseParameters
from iotda_provider.release.way_back import NEVER_BACK
from iotda_provider.task_io.dag_parameters import (
    airflow_id,
    list_or_template,
    object_or_template,
    read_flag,
    text_or_template,
    texts,
)
from iotda_provider.task_io.parameters import (
    as_list,
    as_mapping,
    none_if_blank,
    positive,
    read_number,
)
from iotda_provider.task_io.reports import check_report_path

if TYPE_CHECKING:
    from iotda_provider.hooks.iotda import IoTDAHook

_MOST_HOURS = 1e6


class CheckReleaseOperator(IoTDABaseOperator):
    """Check a release before anything is created, and say which devices it is for.

    Devices that run the version already, and those of another product, are left out.

    It fails, without retries, if

    - a parameter of the rollout is wrong: it reads the parameters as the rollout will, and looks up
      the groups that are waves
    - the package does not exist, or is neither firmware nor software
    - no device is left, or more than 30,000 are left and there is no ``manifest_path``
    - other upgrades that have not ended hold some of the devices. The error names them, and says
      whether they run or wait to be confirmed, as a failed release leaves them. It reads the newest
      batch tasks first, and at most as many pages of their rows as the release has devices; the log
      says what was not read. Batch tasks that an earlier try of this DAG run has created are the
      release's own
    - another release of this Airflow is under way to groups that have some of the devices. To see
      that, the groups of each such release are read, fifty devices a call; the log says beforehand
      of how many. Each wave reads them again

    If this run is cleared after it has created a batch task, the release is under way, and its
    devices must not be left without their guard. The waves stay as they were planned. Then the
    number of devices, other upgrades, other releases and missing groups are warnings in the log,
    not errors.

    The stamp of one of its waves proves nothing alone. If the batch task has another type, document
    or policy than this run asks for, or other targets than were written down for the wave (if
    nothing was, targets outside of the groups), it fails, and the error names both.

    The platform shows only in a device's details since when it is offline. That takes one call for
    each device that is offline now, sixteen at a time and within the connection's
    ``max_requests_per_second``: 30,000 of them at 50 a second take ten minutes. The log says
    beforehand how long it will take. A device whose details can't be read comes last.

    XComs: the return value ``{"package_id", "version", "kind", "task_type", "product_id",
    "in_groups", "already_current", "other_product", "devices", "late"}`` (the last five are
    counts); ``targets``, the ids of the devices to release to, and ``late``, those of them that
    were not online lately, as lists or as the references of files with them; ``versions``, the same
    of ``targets`` for each version that they run; and ``left_out``, the first 350 ids of
    ``already_current`` and ``other_product``. If it refuses,
    ``refused``: why, in words.

    :param package_id: the upgrade package (templated)
    :param group_ids: the device groups to release to (templated)
    :param online_within: hours since a device was last online after which it comes last; 0 or None:
        all devices that are offline now come last, which takes no calls (templated)
    :param create_task_id: the tasks of this DAG that will create batch tasks for these devices,
        those of the release first (:func:`~iotda_provider.operators.release.create_task_ids`)
    :param manifest_path: the rollout's: where ids go by file; None: they are in XComs (templated)
    :param task_policy: the rollout's; None: it has none (templated)
    :param waves: the rollout's, to be checked here; None: they are not, and a dry run is refused
        (templated)
    :param max_waves: the most waves that the rollout has room for, the late one included
        (templated)
    :param window: the rollout's, to be checked here; None: it is not (templated)
    :param timezone: the rollout's, to be checked here; None: it is not (templated)
    :param rules: the rollout's, to be checked here; None: they are not (templated)
    :param gate: the rollout's, to be checked here; None: it is not (templated)
    :param approval: the rollout's, to be checked here: where it is ``never``, a first wave that
        can't pass by its numbers is refused; None: it is not (templated)
    :param trial: the rollout's, to be checked here (templated)
    :param largest_first_wave: the largest share of the devices that the first wave may hold; one
        device is always allowed
    :param rollback: ``never``, ``ask`` or ``at once``: whether devices are to get the old package
        back if the release is stopped for the firmware's fault (templated)
    :param rollback_package_id: that package: it must exist, be of the same type and product, bring
        another version, and be for devices that run the new one (templated)
    :param rollback_dag_id: the DAG that gives it to them. A release that needs one which Airflow
        does not know is refused. Airflow 3 still knows one whose file was deleted
    :param is_dry_run: whether nothing will be created. It then hands over no ids and writes no
        file, but returns the release in numbers, as ``outline``, for ``PreviewReleaseOperator``
        (templated)
    :param iotda_conn_id: the connection (templated)
    :param project_id: instead of the connection's (templated)
    :param instance_id: instead of the connection's (templated)
    """

    template_fields: Sequence[str] = (
        "package_id",
        "group_ids",
        "online_within",
        "waves",
        "max_waves",
        "window",
        "timezone",
        "rules",
        "gate",
        "approval",
        "trial",
        "manifest_path",
        "task_policy",
        "rollback",
        "rollback_package_id",
        "is_dry_run",
        *CONNECTION_FIELDS,
    )

    def __init__(
        self,
        *,
        package_id: str,
        group_ids: Any,
        online_within: Any = 24,
        create_task_id: str | Sequence[str] = (*create_task_ids("rollout"), "try_again"),
        manifest_path: str | None = None,
        task_policy: Mapping[str, Any] | str | None = None,
        waves: Any = None,
        max_waves: Any = 6,
        window: Any = None,
        timezone: Any = None,
        rules: Any = None,
        gate: Any = None,
        approval: Any = None,
        trial: Any = None,
        largest_first_wave: float = 1,
        rollback: str = NEVER_BACK,
        rollback_package_id: str | None = None,
        rollback_dag_id: str = WAY_BACK_DAG,
        is_dry_run: Any = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.package_id = text_or_template(package_id, "package_id")
        self.group_ids = list_or_template(group_ids, "group_ids")
        self.online_within = online_within
        ids = (create_task_id,) if isinstance(create_task_id, str) else create_task_id
        self.create_task_ids = texts(ids, "create_task_id")
        if not self.create_task_ids:
            raise ValueError("create_task_id must name the tasks that create batch tasks")
        self.manifest_path = text_or_template(manifest_path, "manifest_path", optional=True)
        self.task_policy = object_or_template(task_policy, "task_policy")
        self.waves = waves
        self.max_waves = max_waves
        self.window = window
        self.timezone = timezone
        self.rules = rules
        self.gate = gate
        self.approval = approval
        self.trial, _ = trial_parameter(trial)
        self.largest_first_wave = positive(largest_first_wave, "largest_first_wave")
        self.rollback = text_or_template(rollback, "rollback")
        self.rollback_package_id = text_or_template(
            rollback_package_id, "rollback_package_id", optional=True
        )
        self.rollback_dag_id = airflow_id(rollback_dag_id, "rollback_dag_id")
        self.is_dry_run = is_dry_run
        # A parameter whose template is rendered to nothing was not left out.
        self._checked = [
            name
            for name in ("waves", "window", "timezone", "rules", "gate", "approval", "trial")
            if getattr(self, name) is not None
        ]

    def execute(self, context: Context) -> dict[str, Any]:
        try:
            return self._check(context)
        except AirflowFailException as refusal:
            context["ti"].xcom_push(key="refused", value=str(refusal))
            raise

    def _check(self, context: Context) -> dict[str, Any]:
        from iotda_provider.api import check_group_ids, check_package_id

        try:
            package_id = check_package_id(self.package_id)
            group_ids = check_group_ids(as_list(self.group_ids, "group_ids"))
        except IoTDAConfigError as error:
            raise AirflowFailException(str(error)) from None
        ti: Any = context["ti"]
        path = check_report_path(self.manifest_path, "manifest_path")
        own = own_stamps(context, self.create_task_ids)
        asked = ReleaseParameters(
            {name: getattr(self, name) for name in self._checked},
            self.max_waves,
            self.largest_first_wave,
        )
        within, is_dry_run = None, False
        try:
            within, is_dry_run = self._within(), read_flag(self.is_dry_run, "is_dry_run")
        except ValueError as error:
            asked.faults.append(f"{error}.")
        if is_dry_run and "waves" not in self._checked:
            asked.faults.append("waves: a dry run needs them: give the rollout's.")
        if path is not None and not is_dry_run:
            hand_over((), path, "targets")  # to know at once whether it can be written
        with self.hook() as hook:
            made = OwnTasks(
                find_own_tasks(hook, own, not_before(context)), own, self.create_task_ids[0]
            )
            task = next(iter(made.of_first_wave), None)
            created = what_was_created(task)
            wave_groups = {} if task else wave_groups_of(hook, asked)
            _refuse(asked.faults, created)
            package = read_package(hook, package_id, created if task else "")
            kind, task_type, column = kind_of(package)
            if fault := fault_of_way_back(hook, package, self.rollback, self.rollback_package_id):
                _refuse([fault], created)
            if fault := fault_of_its_dag(ti, self.rollback, self.rollback_dag_id, self.log):
                if task is None:
                    _refuse([fault], created)
                self.log.warning("%s", fault)  # a release under way must not lose its guard
            members = self._members(hook, group_ids, is_under_way=task is not None)
            if task is not None:
                self._refuse_what_differs(hook, ti, made, str(task_type), members)
            in_groups = len(members)
            needed = sort_devices(hook, package, members, column)
            del members
            ids, current, others = needed.ids, needed.current, needed.others
            if not ids and task is None:
                raise AirflowFailException(
                    f"There is no device to release {package.version} to: {in_groups} in the "
                    f"group(s), {current} run it already, {others} are of another product."
                )
            if task is None:
                refuse_number(len(ids), path)
            about = own, package.product_id, ti, self.log
            conflicts, not_read = conflicts_of(hook, ids, *about, is_under_way=task is not None)
            if task is None:
                refuse_conflicts(conflicts, own, created)
            for sentence in filter(None, (*conflicts, not_read)):
                self.log.warning("%s", sentence)
            late = SortedIds(find_late(hook, needed, within, self.log))
        fits = (asked.too_many, asked.too_small, asked.too_large) if task is None else ()
        _refuse([fault for check in fits if (fault := check(ids, wave_groups, late))], created)
        for group_id, members_of_it in wave_groups.items():
            if not any(one in ids for one in members_of_it):
                self.log.warning(
                    "waves: none of the devices is in group %s, so there will be no such wave.",
                    group_id,
                )
        ti.xcom_push(key="left_out", value=needed.left_out)
        outline = None
        if is_dry_run:
            outline = Outline.of(
                asked.waves(ids, wave_groups, late),
                len(late),
                has_groups=bool(wave_groups),
                in_groups=in_groups,
                groups=len(group_ids) + len(wave_groups),
                of_product=needed.of_product,
                asked_when_online=0 if within is None else len(needed.offline),
                packages=1 if self.rollback == NEVER_BACK else 2,
            )
        else:
            ti.xcom_push(key="targets", value=hand_over(ids, path, "targets"))
            ti.xcom_push(key="late", value=hand_over(late, path, "late"))
            running = enumerate(needed.versions.items())
            versions = {v: hand_over(own, path, f"runs_{n}") for n, (v, own) in running}
            ti.xcom_push(key="versions", value=versions)
        self.log.info(
            "Version %s is for %d device(s); %d run it already and %d are of another product; %d "
            "were not online lately and come last.",
            package.version,
            len(ids),
            current,
            others,
            len(late),
        )
        return {
            "package_id": package.package_id,
            "version": package.version,
            "kind": kind,
            "task_type": str(task_type),
            "product_id": package.product_id,
            "in_groups": in_groups,
            "already_current": current,
            "other_product": others,
            "devices": len(ids),
            "late": len(late),
            **({} if outline is None else {"outline": outline.to_json()}),
        }

    def _refuse_what_differs(
        self, hook: IoTDAHook, ti: Any, own: OwnTasks, task_type: str, members: SortedIds
    ) -> None:
        """
        :raises AirflowFailException: a wave's batch task of an earlier pass is for something else
        """
        policy = none_if_blank(self.task_policy)
        wanted = {
            "task_type": task_type,
            "document": {"package_ids": [self.package_id]},
            "task_policy": None if policy is None else as_mapping(policy, "task_policy"),
            "need_confirm": True,
        }
        path = check_report_path(self.manifest_path, "manifest_path")
        own.refuse_what_differs(hook, ti, wanted, path, members)
        for task in own.made:
            self.log.info(
                "This run has made batch task %s before (%s, %s): the release is under way, and "
                "goes on with the waves as they were planned.",
                task.task_id,
                task.task_name,
                task.status,
            )

    def _members(
        self, hook: IoTDAHook, group_ids: Sequence[Any], *, is_under_way: bool
    ) -> SortedIds:
        """The devices of the groups; if the release is under way, missing groups are passed over.

        :raises AirflowFailException: there is no such group
        """
        if not is_under_way:
            return members_of(hook, group_ids)
        found = SortedIds()
        for group_id in group_ids:
            try:
                found.update(members_of(hook, [group_id]))
            except AirflowFailException as error:
                self.log.warning("%s", error)
        return found

    def _within(self) -> timedelta | None:
        """How long ago still counts as lately; None: only now."""
        if none_if_blank(self.online_within) is None:
            return None
        hours = read_number(self.online_within, "online_within", zero=True)
        return timedelta(hours=min(hours, _MOST_HOURS)) if hours else None


def _refuse(faults: Sequence[str], created: str) -> None:
    """
    :param created: what exists already, in words
    :raises AirflowFailException: there are faults
    """
    if faults:
        raise AirflowFailException(
            f"{' '.join(faults)} {created} Start the release anew, with "
            f"{'that' if len(faults) == 1 else 'those'} put right."
        )
