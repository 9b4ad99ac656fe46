"""The operator that creates a batch task, once for each task instance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException, Context

from iotda_provider.airflow_support.installation import installation_of
from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.models.platform_retries import PlatformRetries
from iotda_provider.operators.base import CONNECTION_FIELDS, IoTDABaseOperator
from iotda_provider.procedures.create_once import stamp_of, stamped_name
from iotda_provider.task_io.dag_parameters import (
    flag,
    list_or_template,
    object_or_template,
    one_of,
    text_or_template,
)
from iotda_provider.task_io.parameters import as_list, as_mapping, as_text, none_if_blank


class CreateBatchTaskOperator(IoTDABaseOperator):
    """Create a batch task, and never a second one for the same task instance.

    The name at the platform ends with a stamp of the task instance, which is the same in every try.
    The operator looks for that stamp before it creates a task, after a lost answer, and once more
    after the task was created. So a retry finds the batch task of the first try. If there are two,
    because a worker that was thought dead was still running, the oldest is kept and the others are
    stopped. A task that is found is compared with the request (name, type, document, policy,
    targets, groups and ``need_confirm``). If they differ, the operator fails, names both values,
    and stops nothing.

    The stamp holds the id of this Airflow installation, so that two installations never take each
    other's batch tasks for their own: the setting ``[iotda] installation_id``, else the Variable
    ``iotda_provider.installation_id``, which is created at the first use.

    XComs: the return value ``{"batch_task_id", "task_name", "task_type", "status", "status_desc",
    "progress", "create_time", "created", "ended", "surplus"}``, and ``batch_task_id`` and
    ``status``. ``surplus`` lists the tasks that were created a second time. ``status`` is the
    status in which the task was created or found. ``ended`` is true if the task has ended or was
    stopped before it was found: then it starts no device any more.

    :param task_name: 1 to 128 letters (a-z, A-Z, Chinese), digits or ``_``; the stamp is added
        (templated)
    :param task_type: such as ``firmwareUpgrade`` (templated)
    :param targets: 1 to 30,000 device ids; wins over ``group_ids`` (templated)
    :param group_ids: IDs of device groups whose devices are the targets (templated)
    :param document: for upgrades ``{"package_ids": [...]}`` (templated)
    :param task_policy: ``schedule_time`` (``yyyyMMdd'T'HHmmss'Z'`` in UTC, at most 7 days ahead,
        and not more than an hour before the DAG run: the platform may then start every device
        at once), ``retry_count`` (1 to 5) with ``retry_interval`` (0 to 1440 minutes) (templated).
        Retries hide failures from rules that count final failures; the log warns of it
    :param need_confirm: hold every target until it is confirmed
    :param app_id: resource space (templated)
    :param task_mode: ``GATEWAY`` for devices behind gateways
    :param task_ext_info: an object of at most 512 characters, sent to every device (templated)
    :param of_release: whether a release in waves confirms and guards this task; the stamp says so,
        and the DAG ``rollout_guard`` leaves the task out
    :param on_existing: what to do if this task instance has created a batch task before: ``reuse``
        it or ``fail``
    :param iotda_conn_id: the connection (templated)
    :param project_id: instead of the connection's (templated)
    :param instance_id: instead of the connection's (templated)
    """

    template_fields: Sequence[str] = (
        "task_name",
        "batch_task_type",
        "targets",
        "group_ids",
        "document",
        "task_policy",
        "app_id",
        "task_ext_info",
        *CONNECTION_FIELDS,
    )

    def __init__(
        self,
        *,
        task_name: str,
        task_type: str,
        targets: Any = None,
        group_ids: Any = None,
        document: Mapping[str, Any] | str | None = None,
        task_policy: Mapping[str, Any] | str | None = None,
        need_confirm: bool | None = None,
        app_id: str | None = None,
        task_mode: str | None = None,
        task_ext_info: Mapping[str, Any] | str | None = None,
        of_release: bool = False,
        on_existing: str = "reuse",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.task_name = text_or_template(task_name, "task_name")
        # BaseOperator has a property task_type.
        self.batch_task_type = text_or_template(task_type, "task_type")
        self.targets = list_or_template(targets, "targets", optional=True)
        self.group_ids = list_or_template(group_ids, "group_ids", optional=True)
        self.document = object_or_template(document, "document")
        self.task_policy = object_or_template(task_policy, "task_policy")
        # The platform may not read the text "true" as true, and would then hold no device.
        self.need_confirm = None if need_confirm is None else flag(need_confirm, "need_confirm")
        self.app_id = text_or_template(app_id, "app_id", optional=True)
        self.task_mode = None if task_mode is None else one_of(task_mode, "task_mode", ("GATEWAY",))
        self.task_ext_info = object_or_template(task_ext_info, "task_ext_info")
        self.of_release = flag(of_release, "of_release")
        self.on_existing = one_of(on_existing, "on_existing", ("reuse", "fail"))
        self._has_targets = targets is not None
        self._has_groups = group_ids is not None

    def execute(self, context: Context) -> dict[str, Any]:
        targets = as_list(self.targets, "targets") if self._has_targets else None
        return self._create_once(context, self._wanted(targets))

    def _wanted(self, targets: list[Any] | None) -> dict[str, Any]:
        """The arguments of ``create_batch_task``, checked before anything is read or written."""
        from iotda_provider.api import create_batch_task
        from iotda_provider.guards.retries import retry_warnings

        wanted: dict[str, Any] = {
            "task_name": as_text(self.task_name, "task_name"),
            "task_type": self.batch_task_type,
            "targets": targets,
            "group_ids": as_list(self.group_ids, "group_ids") if self._has_groups else None,
            "document": _object(self.document, "document"),
            "task_policy": _object(self.task_policy, "task_policy"),
            "need_confirm": self.need_confirm,
            "app_id": none_if_blank(self.app_id),
            "task_mode": self.task_mode,
            "task_ext_info": _object(self.task_ext_info, "task_ext_info"),
        }
        create_batch_task(**wanted)
        retries = PlatformRetries.of(wanted["task_policy"])
        for warning in retry_warnings(retries) if retries else ():
            self.log.warning("task_policy: %s", warning)
        return wanted

    def _create_once(
        self, context: Context, wanted: dict[str, Any], part: int = 0
    ) -> dict[str, Any]:
        """Create one batch task, unless it is there; the operator's result.

        :param wanted: the arguments of ``create_batch_task``; the name has no stamp yet
        :param part: which batch task of this task instance it is
        """
        ti: Any = context["ti"]
        ids = (ti.dag_id, ti.run_id, ti.task_id, ti.map_index)
        stamp = stamp_of(installation_of(context), *ids, part)
        name = stamped_name(wanted["task_name"], stamp, of_release=self.of_release)
        wanted["task_name"] = name
        _refuse_a_past_start(context, wanted["task_policy"] or {})
        with self.hook() as hook:
            made = hook.create_batch_task_once(not_before=not_before(context), **wanted)
        if not made.created and self.on_existing == "fail":
            raise AirflowFailException(
                f"This task instance has already created batch task {made.task.task_id} "
                f"({made.task.status}), and on_existing is 'fail'."
            )
        task = made.task
        ti.xcom_push(key="batch_task_id", value=task.task_id)
        ti.xcom_push(key="status", value=str(task.status))
        ended = task.status.is_terminal or task.status.is_stop
        self.log.info(
            "%s batch task %s (%s), now %s: %s.",
            "Created" if made.created else "Found this task instance's own",
            task.task_id,
            name,
            task.status,
            task.progress,
        )
        if ended:
            self.log.warning(
                "Batch task %s is already %s: it starts no device any more, and no second one is "
                "created for this task instance. Start a new DAG run to create another.",
                task.task_id,
                task.status,
            )
        for sentence in made.said_of_surplus(name):
            self.log.error("%s", sentence)
        return {
            **task.to_dict(),
            "created": made.created,
            "ended": ended,
            "surplus": [asdict(surplus) for surplus in made.surplus],
        }


def _object(value: Any, name: str) -> dict[str, Any] | None:
    """Read an optional object in any form that a template can render it to."""
    return None if none_if_blank(value) is None else as_mapping(value, name)


def _refuse_a_past_start(context: Context, policy: Mapping[str, Any]) -> None:
    """Refuse a start that had passed before this run's own time.

    That time does not change when the task is tried again, so a start that passes meanwhile is
    fine. What the platform does with a past one is not documented; the emulator starts at once.

    :raises IoTDAConfigError: it had passed more than an hour before
    """
    start, least = policy.get("schedule_time"), _before_the_run(context, timedelta(hours=1))
    if start is not None and least is not None and start < least:
        raise IoTDAConfigError(
            f"task_policy.schedule_time {start} had passed long before this DAG run, so the "
            "platform may start every device at once. Give a time to come, in UTC, or leave it out "
            "to mean that."
        )


def not_before(context: Context) -> str | None:
    """A time before which this run can't have created a batch task, as the platform writes times.

    One day before the run's own time, because the clocks of Airflow and the platform may differ.
    None: the run's time is not known, or in the future.
    """
    return _before_the_run(context, timedelta(days=1))


def _before_the_run(context: Context, by: timedelta) -> str | None:
    """A time so long before the run's own one, which does not change when the run is cleared."""
    run: Any = context.get("dag_run")
    moment = getattr(run, "run_after", None) or getattr(run, "data_interval_end", None)
    if moment is None or moment > datetime.now(timezone.utc):
        return None
    return str((moment - by).astimezone(timezone.utc).strftime("%Y%m%dT%H%M%SZ"))
