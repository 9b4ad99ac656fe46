"""The operator that decides who is in which wave, and writes it down before the first one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import conf

from iotda_provider.airflow_support.deferral import DeferrableTask
from iotda_provider.exceptions import (
    BatchTaskTimeoutError,
    IoTDAConfigError,
    IoTDAError,
    IoTDATransportError,
    NotHeldError,
)
from iotda_provider.guards import rules_to_json
from iotda_provider.models import BatchTask, TaskStatus
from iotda_provider.models.text import one_line
from iotda_provider.operators.base import CONNECTION_FIELDS, IoTDABaseOperator, refuse_mapped
from iotda_provider.release.gate import as_gate, forecast
from iotda_provider.release.ledger import Ledger
from iotda_provider.release.manifest import Manifest
from iotda_provider.release.planning import late_warning, plan_waves, split_late
from iotda_provider.release.release_guard import not_held
from iotda_provider.release.storage import ReleaseFiles, read_manifest, read_planned, write_json
from iotda_provider.release.wave_specs import GROUP, WaveSpec, wave_specs
from iotda_provider.rollout_guard.live_record import HEADER_KEY, header, package_ids
from iotda_provider.rollout_guard.plan import read_rules
from iotda_provider.task_io.dag_parameters import (
    airflow_id,
    flag,
    id_or_template,
    is_template,
    list_or_template,
    text_or_template,
)
from iotda_provider.task_io.parameters import (
    as_list,
    optional_text,
    positive,
    read_number,
    read_whole_number,
    whole_number,
)
from iotda_provider.task_io.reports import check_report_path, push_xcom
from iotda_provider.waiting.deadline import Deadline
from iotda_provider.waiting.task_wait import BEGUN

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from iotda_provider.airflow_support.trigger_events import Event
    from iotda_provider.hooks.iotda import IoTDAHook

_START_SECONDS = 600.0
#: Looks at a task whose subtasks are there in part, before that is an error.
_MOST_TORN_LOOKS = 5


class PlanWavesOperator(DeferrableTask, IoTDABaseOperator):
    """Put every device of a batch task into a wave, and say which waves can pass by themselves.

    The devices are read from the batch task itself, so nobody is forgotten and nobody else is
    reached. The same task, seed and parameters give the same waves at every try. With a
    ``manifest_path`` the membership is in that file; otherwise it is in this task's XComs
    ``wave_1``, ``wave_2``, ..., with a copy in those of ``keeper_task_id``. What is there already
    is obeyed rather than written again: who is in which wave stays as it was planned first,
    whatever is cleared, whoever is online by then, and whichever parameter was changed. Where
    devices were let start and who is in which wave is gone, it fails.

    A batch task whose devices have started, and not by this release, is refused: it holds nobody.

    XComs: the return value ``{"batch_task_id", "waves": [{"wave", "label", "devices",
    "cumulative", "can_pass", "may_fail", "needed"}], "late", "warnings", "seed", "digest",
    "manifest_path"}``: ``late``, how many waves at the end hold devices that were not online
    lately; ``warnings``, sentences that a person should read before the first wave; and
    ``rollout``, what is released.

    :param batch_task_id: a batch task that was created with ``need_confirm`` (templated)
    :param waves: such as ``["1%", "5%", "25%", "100%"]`` or text of it with commas: shares and
        counts (from the first device on), ``group:<group id>``, and ``100%`` or ``rest`` at the end
        (templated)
    :param gate: what a wave must show to pass: ``EnoughSuccess(...)``, or the failure rate to rule
        out (templated)
    :param late: devices that form a last wave of their own, as they were not online lately; where
        they are more than half of the fleet, several by the shares of ``waves``, as far as
        ``max_waves`` has room (templated)
    :param seed: what the order is drawn from; empty: the batch task's id (templated)
    :param max_waves: the most waves that can be released, the late ones included
    :param manifest_path: URL of a file for the membership, which all workers can read (templated)
    :param bake_time: as the waves' watches get it: what they can't read ends the release here,
        before anybody is let start (templated)
    :param wave_timeout: as ``bake_time`` (templated)
    :param already_current: as ``bake_time`` (templated)
    :param rules: the guard's rules, for people who look at the release (templated)
    :param poll_interval: seconds between two looks at a batch task that the platform still prepares
    :param deferrable: wait for that in the triggerer instead of in the worker
    :param keeper_task_id: a task that starts after all waves, with a copy of who is in which wave,
        and of what was confirmed, so that both outlive a plan that is cleared; None: there is none
    :param iotda_conn_id: the connection (templated)
    :param project_id: instead of the connection's (templated)
    :param instance_id: instead of the connection's (templated)
    """

    template_fields: Sequence[str] = (
        "batch_task_id",
        "waves",
        "gate",
        "late",
        "seed",
        "manifest_path",
        "bake_time",
        "wave_timeout",
        "already_current",
        "rules",
        *CONNECTION_FIELDS,
    )

    def __init__(
        self,
        *,
        batch_task_id: str,
        waves: Any,
        gate: Any,
        late: Any = (),
        seed: str | None = None,
        max_waves: int = 6,
        manifest_path: str | None = None,
        bake_time: Any = 0,
        wave_timeout: Any = 86400,
        already_current: Any = 0,
        rules: Any = (),
        poll_interval: float = 5,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        keeper_task_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.batch_task_id = id_or_template(batch_task_id)
        self.waves = list_or_template(waves, "waves")
        self.gate = gate
        self.late = list_or_template(late, "late")
        self.seed = text_or_template(seed, "seed", optional=True)
        self.max_waves = whole_number(max_waves, "max_waves")
        self.manifest_path = text_or_template(manifest_path, "manifest_path", optional=True)
        self.bake_time = bake_time
        self.wave_timeout = wave_timeout
        self.already_current = already_current
        self.rules = rules_to_json(read_rules(rules)) if rules and not is_template(rules) else rules
        self.poll_interval = positive(poll_interval, "poll_interval")
        self.deferrable = flag(deferrable, "deferrable")
        self.keeper_task_id = airflow_id(keeper_task_id, "keeper_task_id", optional=True)

    def execute(self, context: Context) -> dict[str, Any]:
        return self._execute(context, began=time.time())

    def _execute(self, context: Context, *, began: float) -> dict[str, Any]:
        from iotda_provider.api import check_task_id

        task_id = check_task_id(self.batch_task_id)
        path = check_report_path(self.manifest_path, "manifest_path")
        refuse_mapped(self, context, "its waves would not find what it plans for them")
        gate, specs = as_gate(self.gate), wave_specs(self.waves)
        # Each wave reads them again: what is wrong is to be known before the first.
        read_number(self.bake_time, "bake_time", zero=True)
        read_number(self.wave_timeout, "wave_timeout")
        read_whole_number(self.already_current, "already_current", zero=True)
        with self.hook() as hook:
            task, targets = self._targets(hook, task_id, began)
            about = header(
                "release",
                [task_id],
                [task],
                rules=read_rules(self.rules) if self.rules else (),
                version=self._version(hook, task),
                iotda_conn_id=self.iotda_conn_id,
                poll_interval=self.poll_interval,
            )
            push_xcom(context, HEADER_KEY, about, self.log)
            known = self._known(context, path, task_id)
            manifest = known or self._plan(hook, task_id, targets, specs)
        if set(manifest.up_to(len(manifest))) != set(targets):
            raise IoTDAConfigError(
                f"The manifest at {one_line(path, 300)} "
                f"does not hold the devices of batch task {task_id}."
            )
        if len(manifest) > self.max_waves:
            raise IoTDAConfigError(
                f"There are {len(manifest)} waves ({', '.join(manifest.labels)}), and this DAG has "
                f"room for max_waves={self.max_waves}."
            )
        found = forecast(gate, manifest.labels, manifest.cumulative)
        warnings = [line for line in [late_warning(manifest)] if line]
        plan = {
            "batch_task_id": task_id,
            "waves": [wave.to_json() for wave in found],
            "late": manifest.late,
            "warnings": warnings,
            "seed": manifest.seed,
            "digest": manifest.digest,
            "manifest_path": path,
        }
        ti: Any = context["ti"]
        files = ReleaseFiles.of(plan, ti, ti.task_id, self.keeper_task_id)
        self._check_held(task, targets, files, is_known=known is not None)
        if known is not None:
            self.log.info(
                "The waves are as they were planned first. What has changed since, in parameters "
                "or in who is online, changes nothing of them."
            )
        elif path:
            write_json(path, manifest.to_json())
        else:
            files.write_planned(manifest)
        if not path:
            for place, members in enumerate(manifest.waves, start=1):
                context["ti"].xcom_push(key=f"wave_{place}", value=list(members))
        for wave in found:
            (self.log.info if wave.can_pass else self.log.warning)("%s", wave.sentence)
        for line in warnings:
            self.log.warning("%s", line)
        files.copy_confirmed(self.log)
        return plan

    def _version(self, hook: IoTDAHook, task: BatchTask) -> str | None:
        """The package's version, for people; None where it can't be read, or there are several."""
        packages = package_ids(task)
        try:
            return hook.get_ota_package(*packages).version if len(packages) == 1 else None
        except IoTDAError as error:
            self.log.info("The version of package %s can't be read: %s", packages[0], error)
            return None

    def _known(self, context: Context, path: str | None, task_id: str) -> Manifest | None:
        """The waves that were planned before; None: there are none yet."""
        if path:
            return read_manifest(path, task_id)
        if self.keeper_task_id is None:
            return None
        return read_planned(context["ti"], self.keeper_task_id, task_id)

    def _check_held(
        self, task: BatchTask, targets: Sequence[str], files: ReleaseFiles, *, is_known: bool
    ) -> None:
        """Whether whoever has started was let start by an earlier try of this release.

        :param is_known: whether it is known who is in which wave
        :raises NotHeldError: nobody was
        :raises IoTDAConfigError: somebody was, by waves that nobody knows any more
        """
        records = files.read_confirmed(self.log)
        if records is None:
            if is_known:
                return  # the first wave looks again, once that can be read
            raise IoTDATransportError("Whether anybody was let start before can't be read.")
        ledger = Ledger(targets)
        merged = [ledger.merge(record) for record in records]
        if ledger.accepted and not is_known:
            raise IoTDAConfigError(
                f"{len(ledger)} device(s) were let start, and who is in which wave is gone: other "
                "waves would let more of them start than has been shown to be right. Stop batch "
                f"task {task.task_id}, and start the release anew."
            )
        if task.progress.started and not any(merged):
            progress = task.progress
            raise NotHeldError(not_held(task.task_id, progress.started, progress.total))

    def _plan(
        self, hook: IoTDAHook, task_id: str, targets: Sequence[str], specs: Sequence[WaveSpec]
    ) -> Manifest:
        from iotda_provider.api import check_targets

        groups = {
            spec.group_id: {device.device_id for device in hook.iter_group_devices(spec.group_id)}
            for spec in specs
            if spec.kind == GROUP
        }
        seed = optional_text(self.seed, "seed") or task_id
        late = set(check_targets(as_list(self.late, "late"), "late"))
        whole = plan_waves(task_id, targets, specs, seed=seed, groups=groups, late=late)
        return split_late(whole, specs, self.max_waves)

    def _targets(self, hook: IoTDAHook, task_id: str, began: float) -> tuple[BatchTask, list[str]]:
        """The batch task and its devices, once the platform has made all of its subtasks.

        :raises BatchTaskTimeoutError: it does not come to an end with that
        """
        torn, before = 0, 0
        while True:
            task = hook.get_batch_task(task_id)
            is_torn = task.status != TaskStatus.INITIALIZING
            if is_torn:
                targets = [row.target for row in hook.iter_subtasks(task_id)]
                if targets and len(targets) == task.progress.total:
                    return task, targets
                if targets and torn >= _MOST_TORN_LOOKS and len(targets) == before:
                    self.log.warning(
                        "Batch task %s shows %d device(s), again and again, and counts %d: the "
                        "release is for those that it shows.",
                        task_id,
                        len(targets),
                        task.progress.total,
                    )
                    return task, targets
                before = len(targets)
            over = time.time() - began > _START_SECONDS
            if task.status.is_terminal or over or torn >= _MOST_TORN_LOOKS:
                raise BatchTaskTimeoutError(
                    f"Batch task {task_id} is {task.status} ({task.progress}), and its devices "
                    "can't be read: there is nothing to release."
                )
            torn += is_torn
            if self.deferrable and not is_torn:
                self._defer(task_id, began)
            time.sleep(self.poll_interval)

    def _defer(self, task_id: str, began: float) -> NoReturn:
        from iotda_provider.triggers.batch_task import BatchTaskTrigger

        now = time.time()
        left = max(0.0, began + _START_SECONDS - now)
        deadline = Deadline.of(left, self.execution_timeout, began=began, now=now)
        trigger = BatchTaskTrigger(
            batch_task_id=task_id,
            target_statuses=BEGUN,
            **self.connection,
            poll_interval=self.poll_interval,
            deadline=deadline.at,
            limit=deadline.limit,
            max_outage=self.max_outage,
            memo={"began": began},
        )
        self.wait_in_triggerer(trigger, deadline, self.poll_interval)

    def waited_for(self, context: Context) -> Sequence[str]:
        from iotda_provider.api import check_task_id

        return (check_task_id(self.batch_task_id),)

    def resumed(self, context: Context, event: Event) -> dict[str, Any]:
        if event.error is not None:
            raise event.error
        if event.limit == "execution_timeout":
            raise self.execution_timeout_error()
        # Where the time is over, one look more says what is the matter.
        return self._execute(context, began=float(event.memo["began"]))

    def without_triggerer(self, context: Context) -> dict[str, Any]:
        return self._execute(context, began=time.time() - 2 * _START_SECONDS)


def plan_of(ti: Any, plan_task_id: str) -> dict[str, Any]:
    """What :class:`PlanWavesOperator` has returned.

    :raises IoTDAConfigError: nothing
    """
    plan = ti.xcom_pull(task_ids=plan_task_id)
    if not isinstance(plan, dict) or "waves" not in plan:
        raise IoTDAConfigError(f"{one_line(plan_task_id, 250)} has planned no waves.")
    return plan
