"""The operator that decides who is in which wave, and writes it down before the first one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from iotda_provider.exceptions import BatchTaskTimeoutError, IoTDAConfigError
from iotda_provider.models import TaskStatus
from iotda_provider.operators.base import CONNECTION_FIELDS, IoTDABaseOperator
from iotda_provider.parameters import as_list, given, positive
from iotda_provider.release import Manifest, as_gate, forecast, parse_waves, plan_waves
from iotda_provider.release.waves import GROUP, WaveSpec
from iotda_provider.reporting import check_report_path

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from iotda_provider.hooks.iotda import IoTDAHook

_START_SECONDS = 600.0


class PlanWavesOperator(IoTDABaseOperator):
    """Put every device of a batch task into a wave, and say which waves can pass by themselves.

    The devices are read from the batch task itself, so nobody is forgotten and nobody else is
    reached. The same task, seed and parameters give the same waves at every try. With a
    ``manifest_path`` the membership is in that file, and a file that is there already is obeyed
    rather than written again; otherwise it is in this task's XComs ``wave_1``, ``wave_2``, ...

    XComs: the return value ``{"batch_task_id", "waves": [{"wave", "label", "devices",
    "cumulative", "can_pass", "may_fail", "needed"}], "late", "seed", "digest", "manifest_path"}``.

    :param batch_task_id: a batch task that was created with ``need_confirm`` (templated)
    :param waves: such as ``["1%", "5%", "25%", "100%"]`` or text of it with commas: shares and
        counts (from the first device on), ``group:<group id>``, and ``100%`` or ``rest`` at the end
        (templated)
    :param gate: what a wave must show to pass: ``EnoughSuccess(...)``, or the failure rate to rule
        out (templated)
    :param late: devices that form a last wave of their own, as they were not online lately
        (templated)
    :param seed: what the order is drawn from; empty: the batch task's id (templated)
    :param max_waves: the most waves that can be released, the late one included
    :param manifest_path: URL of a file for the membership, which all workers can read (templated)
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
        poll_interval: float = 5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.batch_task_id = batch_task_id
        self.waves = waves
        self.gate = gate
        self.late = late
        self.seed = seed
        self.max_waves = int(positive(max_waves, "max_waves"))
        self.manifest_path = manifest_path
        self.poll_interval = positive(poll_interval, "poll_interval")

    def execute(self, context: Context) -> dict[str, Any]:
        from iotda_provider.api import check_task_id

        task_id = check_task_id(self.batch_task_id)
        path = check_report_path(self.manifest_path)
        gate, specs = as_gate(self.gate), wave_specs(self.waves)
        with self.hook() as hook:
            targets = self._targets(hook, task_id)
            known = read_manifest(path, task_id) if path else None
            manifest = known or self._plan(hook, task_id, targets, specs)
        if set(manifest.up_to(len(manifest))) != set(targets):
            raise IoTDAConfigError(
                f"The manifest at {path} does not hold the devices of batch task {task_id}."
            )
        if len(manifest) > self.max_waves:
            raise IoTDAConfigError(
                f"There are {len(manifest)} waves ({', '.join(manifest.labels)}), and this DAG has "
                f"room for max_waves={self.max_waves}."
            )
        if path:
            if known is None:
                write_manifest(path, manifest)
        else:
            for place, members in enumerate(manifest.waves, start=1):
                context["ti"].xcom_push(key=f"wave_{place}", value=list(members))
        found = forecast(gate, manifest.labels, manifest.cumulative)
        for wave in found:
            (self.log.info if wave.can_pass else self.log.warning)("%s", wave.sentence)
        return {
            "batch_task_id": task_id,
            "waves": [wave.to_json() for wave in found],
            "late": manifest.late,
            "seed": manifest.seed,
            "digest": manifest.digest,
            "manifest_path": path,
        }

    def _plan(
        self, hook: IoTDAHook, task_id: str, targets: Sequence[str], specs: Sequence[WaveSpec]
    ) -> Manifest:
        groups = {
            spec.group_id: {device.device_id for device in hook.iter_group_devices(spec.group_id)}
            for spec in specs
            if spec.kind == GROUP
        }
        seed = str(given(self.seed) or task_id)
        late = set(map(str, as_list(self.late, "late")))
        return plan_waves(task_id, targets, specs, seed=seed, groups=groups, late=late)

    def _targets(self, hook: IoTDAHook, task_id: str) -> list[str]:
        """The batch task's devices, once the platform has made all of its subtasks.

        :raises BatchTaskTimeoutError: it does not come to an end with that
        """
        deadline = time.monotonic() + _START_SECONDS
        while True:
            task = hook.get_batch_task(task_id)
            if task.status != TaskStatus.INITIALIZING:
                targets = [row.target for row in hook.iter_subtasks(task_id)]
                if targets and len(targets) == task.progress.total:
                    return targets
            if task.status.is_terminal or time.monotonic() > deadline:
                raise BatchTaskTimeoutError(
                    f"Batch task {task_id} is {task.status} ({task.progress}), and its devices "
                    "can't be read: there is nothing to release."
                )
            time.sleep(self.poll_interval)


def wave_specs(value: Any) -> tuple[WaveSpec, ...]:
    """The waves in any form of a list parameter, or as text with commas.

    :raises ValueError: they make no sense
    """
    text = value.strip() if isinstance(value, str) else ""
    return parse_waves(value if text and text[0] not in "[(" else as_list(value, "waves"))


def read_manifest(path: str, batch_task_id: str) -> Manifest | None:
    """The manifest in a file; None where there is no such file.

    :raises IoTDAConfigError: it is another release's, or damaged
    """
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    file: Any = ObjectStoragePath(path)
    if not file.exists():
        return None
    try:
        manifest = Manifest.from_json(json.loads(file.read_text()))
    except ValueError as error:
        raise IoTDAConfigError(f"The manifest at {path} can't be used: {error}") from error
    if manifest.batch_task_id != batch_task_id:
        raise IoTDAConfigError(
            f"The manifest at {path} is that of batch task {manifest.batch_task_id}, not of "
            f"{batch_task_id}: give every release a path of its own."
        )
    return manifest


def write_manifest(path: str, manifest: Manifest) -> None:
    """Write a manifest where every worker can read it."""
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    file: Any = ObjectStoragePath(path)
    if file.protocol in ("", "file", "local"):
        file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(manifest.to_json()))


def members_up_to(ti: Any, plan_task_id: str, wave: int) -> list[str]:
    """The devices of the first so many waves, from where the plan has written them.

    :raises IoTDAConfigError: they are not there
    """
    plan = plan_of(ti, plan_task_id)
    if plan["manifest_path"]:
        manifest = read_manifest(plan["manifest_path"], plan["batch_task_id"])
        if manifest is None or manifest.digest != plan["digest"]:
            raise IoTDAConfigError(
                f"The manifest at {plan['manifest_path']} is not the one that was planned."
            )
        return list(manifest.up_to(wave))
    lists: Iterable[Any] = (
        ti.xcom_pull(task_ids=plan_task_id, key=f"wave_{place}") for place in range(1, wave + 1)
    )
    members = [device for members in lists for device in members or ()]
    if len(members) != plan["waves"][wave - 1]["cumulative"]:
        raise IoTDAConfigError(f"The waves that {plan_task_id} has planned are gone.")
    return members


def plan_of(ti: Any, plan_task_id: str) -> dict[str, Any]:
    """What :class:`PlanWavesOperator` has returned.

    :raises IoTDAConfigError: nothing
    """
    plan = ti.xcom_pull(task_ids=plan_task_id)
    if not isinstance(plan, dict) or "waves" not in plan:
        raise IoTDAConfigError(f"{plan_task_id} has planned no waves.")
    return plan
